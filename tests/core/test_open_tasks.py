"""Tasks that are not over, as panels are told of them: no row stays that should not."""

from __future__ import annotations

from raybook.base.config import Config
from raybook.core.owner.owner import Owner
from raybook.core.owner.records import FunctionStats, TaskRecord
from raybook.protocol.messages.worker import TaskSpec
from raybook.worker.open_tasks import ROWS_MAX, OpenTasks, cell_of


def task(owner: Owner, number: int) -> bytes:
    task_id = number.to_bytes(8, "big")
    spec = TaskSpec(task_id, b"key", f"f{number}", b"", 1)
    record = TaskRecord(spec, FunctionStats("f", b"code"), None, b"", 0)
    record.call_site = "(task call) In[3]:2"
    owner.tasks.tasks[task_id] = record
    return task_id


def rows(facts: list) -> dict[str, str | None]:
    return {fact.key: fact.row["state"] if fact.row else None for fact in facts}


def test_a_task_is_told_of_when_it_is_still_there_at_the_second_look() -> None:
    owner = Owner(b"c" * 8, Config())
    known = OpenTasks(owner)
    task_id = task(owner, 1)
    assert known.facts(1_000, []) == []

    (fact,) = known.facts(1_250, [])
    assert (fact.row["state"], fact.row["cell"]) == ("PENDING", "In[3]")
    assert known.facts(1_500, []) == []
    assert task_id.hex() == fact.key


def test_what_is_over_is_told_as_ended_or_as_gone() -> None:
    owner = Owner(b"c" * 8, Config())
    known = OpenTasks(owner)
    first, second = task(owner, 1), task(owner, 2)
    known.facts(1, [])
    known.facts(2, [])
    owner.tasks.tasks.clear()

    assert rows(known.facts(3, [first.hex()])) == {second.hex(): None}
    assert known.facts(4, []) == []


def test_no_more_are_told_of_than_fit_and_the_next_ones_come_when_there_is_room() -> None:
    owner = Owner(b"c" * 8, Config())
    known = OpenTasks(owner)
    ids = [task(owner, number) for number in range(ROWS_MAX + 5)]
    known.facts(1, [])
    assert len(known.facts(2, [])) == ROWS_MAX
    for task_id in ids[:5]:
        del owner.tasks.tasks[task_id]
    assert rows(known.facts(3, [])) == {task_id.hex(): None for task_id in ids[:5]}
    assert rows(known.facts(4, [])) == {task_id.hex(): "PENDING" for task_id in ids[-5:]}


def test_whoever_begins_to_look_is_told_of_all() -> None:
    owner = Owner(b"c" * 8, Config())
    known = OpenTasks(owner)
    task(owner, 1)
    known.facts(1, [])
    assert len(known.facts(2, [])) == 1
    known.forget()
    assert len(known.facts(3, [])) == 1


def test_a_line_outside_cells_is_in_none() -> None:
    assert cell_of("(task call) /home/a/x.py:main:3") == ""
    assert cell_of("") == ""
