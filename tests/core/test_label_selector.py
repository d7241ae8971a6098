"""Label selectors: the four forms, and what is refused."""

from __future__ import annotations

import pytest

from raybook.base.label_selector import check_selector, matches


@pytest.mark.parametrize(
    ("condition", "value", "fits"),
    [
        ("A100", "A100", True),
        ("A100", "T4", False),
        ("A100", None, False),
        ("!A100", "T4", True),
        ("!A100", "A100", False),
        ("!A100", None, True),
        ("in(A100, T4)", "T4", True),
        ("in(A100,T4)", "A100", True),
        ("in(A100, T4)", "B200", False),
        ("in(A100)", None, False),
        ("!in(A100, T4)", "T4", False),
        ("!in(A100, T4)", "B200", True),
        ("!in(A100)", None, True),
    ],
)
def test_condition_matches_as_it_reads(condition: str, value: str | None, fits: bool):
    labels = {} if value is None else {"gpu": value}
    check_selector("label_selector", {"gpu": condition})
    assert matches({"gpu": condition}, labels) is fits


def test_an_empty_condition_asks_for_an_empty_value():
    check_selector("label_selector", {"gpu": ""})
    assert matches({"gpu": ""}, {"gpu": ""})
    assert not matches({"gpu": ""}, {"gpu": "A100"}) and not matches({"gpu": ""}, {})


def test_all_keys_must_match():
    assert matches({"zone": "a", "gpu": "!T4"}, {"zone": "a", "gpu": "A100"})
    assert not matches({"zone": "a", "gpu": "!T4"}, {"zone": "b", "gpu": "A100"})
    assert matches({}, {})


@pytest.mark.parametrize("condition", ["!", "in()", "in(a", "in(a b)", "a,b", "!!a", "in(a,)", "-a", "a" * 64])
def test_malformed_condition_is_refused_with_the_forms_there_are(condition: str):
    with pytest.raises(ValueError, match=r"!in\(a, b\)"):
        check_selector("label_selector", {"gpu": condition})


@pytest.mark.parametrize("key", ["", "/x", "a/b/c", "a b", "-x"])
def test_malformed_key_is_refused(key: str):
    with pytest.raises(ValueError, match="no label key"):
        check_selector("label_selector", {key: "a"})


@pytest.mark.parametrize("value", ["gpu=A100", ["A100"], {"gpu": 1}, {1: "a"}])
def test_what_is_no_selector_is_a_type_error(value: object):
    with pytest.raises(TypeError, match="label_selector"):
        check_selector("label_selector", value)


def test_a_label_that_is_there_whatever_its_value_is_existing():
    assert matches({"zone": "*"}, {"zone": "a"}) and not matches({"zone": "*"}, {"other": "a"})
    assert matches({"zone": "!*"}, {"other": "a"}) and not matches({"zone": "!*"}, {"zone": "a"})
    assert not matches({"zone": "*", "gpu": "A100"}, {"zone": "a"})
