"""Memory table: rows become the page of ``ray memory``."""

from __future__ import annotations

import pytest

from raybook.api import memory_table as mt

MIB = 1 << 20


def row(name: str, mib: float, **changes: object) -> dict:
    fields = {
        "object_id": name,
        "kind": "IN_ARENA",
        "size_bytes": int(mib * MIB),
        "is_owned": True,
        "references": 1,
        "views": 0,
        "arguments": 0,
        "contained_in": 0,
        "call_site": "(put object) cell.py:make:3",
        "owner_pid": 7,
        "owner_node_id": "n1",
    }
    return fields | changes


def page(*surveyed: dict, **choices: object) -> str:
    rows = mt.reference_rows(surveyed, {"n1": "10.0.0.1", "n2": "10.0.0.2"}, {7})
    return mt.memory_text(rows, 100 * MIB, **choices)


def test_row_tells_where_what_who_and_how_large():
    lines = page(row("aa", 3)).splitlines()

    (line,) = [line for line in lines if "aa" in line.split()]
    assert line.split("  ")[0] == "10.0.0.1"
    for part in ("7", "Driver", "(put object) cell.py:make:3", "IN_ARENA", "3.0 MB", "LOCAL_REFERENCE"):
        assert part in line


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "LOCAL_REFERENCE"),
        ({"views": 1}, "PINNED_IN_MEMORY"),
        ({"views": 1, "arguments": 1}, "USED_BY_PENDING_TASK"),
        ({"contained_in": 1, "references": 0}, "CAPTURED_IN_OBJECT"),
        ({"contained_in": 1}, "LOCAL_REFERENCE"),
    ],
)
def test_reference_types_have_rays_names(changes, kind):
    assert mt.reference_type(row("aa", 1, **changes)) == kind


def test_store_counts_an_object_once_however_many_refer_to_it():
    text = page(
        row("aa", 10), row("aa", 10, is_owned=False, owner_pid=8), row("bb", 5, kind="ON_DISK"), stats_only=True
    )

    assert text.splitlines()[1:] == [
        "Object store memory usage 10.0 MB, 1 objects, 10.00% full",
        "On disk 5.0 MB, 1 objects",
    ]


def test_borrower_that_has_not_read_an_object_is_told_its_size_by_the_owner():
    borrower = row("aa", 0, kind="PENDING", is_owned=False, owner_pid=8, call_site="")

    rows = mt.reference_rows([borrower, row("aa", 10)], {}, {7})

    assert [(one["size_bytes"], one["kind"], one["type"]) for one in rows] == [
        (10 * MIB, "IN_ARENA", "WORKER"), (10 * MIB, "IN_ARENA", "DRIVER"),
    ]  # fmt: skip
    assert rows[0]["call_site"] == rows[1]["call_site"]


def test_groups_by_line_of_code_hold_so_many_entries_each():
    text = page(
        row("a1", 1),
        row("a2", 9),
        row("b1", 2, call_site="(task call) cell.py:go:8"),
        group_by="STACK_TRACE",
        num_entries=1,
    )

    assert "--- Summary for stack trace: (put object) cell.py:make:3 ---" in text
    assert "a2" in text and "a1" not in text and "b1" in text
    assert "2, (10.0 MB)" in text


@pytest.mark.parametrize(
    ("sort_by", "order"),
    [("OBJECT_SIZE", ["cc", "bb", "aa"]), ("PID", ["bb", "aa", "cc"]), ("REFERENCE_TYPE", ["aa", "cc", "bb"])],
)
def test_rows_are_sorted_as_asked(sort_by, order):
    surveyed = [
        row("aa", 1, owner_pid=8, contained_in=1, references=0),
        row("bb", 2, views=1, owner_pid=7),
        row("cc", 3, owner_pid=9),
    ]

    words = page(*surveyed, sort_by=sort_by).split()

    assert [word for word in words if word in order] == order


def test_sizes_are_in_the_units_asked_for_and_unknown_ones_are_marked():
    assert "0.003 GB" not in page(row("aa", 3), units="GB") and "0.0 GB" in page(row("aa", 3), units="GB")
    assert "3072.0 KB" in page(row("aa", 3), units="KB")
    assert "  ?  " in page(row("aa", 0, kind="PENDING"))


def test_page_says_how_to_record_lines_only_where_they_are_missing():
    assert mt.SITES_ARE_OFF not in page(row("aa", 1))
    assert mt.SITES_ARE_OFF in page(row("aa", 1, call_site=""))


def test_empty_cluster_has_a_page():
    assert page().splitlines()[-1] == "Object store memory usage 0.0 MB, 0 objects, 0.00% full"


@pytest.mark.parametrize("wrong", [{"group_by": "NODE"}, {"sort_by": "SIZE"}, {"units": "TB"}, {"num_entries": 0}])
def test_wrong_choices_name_the_right_ones(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        page(row("aa", 1), **wrong)
