"""Own tasks: what this process has submitted and is not over: to look at, to explain, to cancel without a reference.

For notebooks, where a cell is interrupted and the references are gone; scripts have ``cancel(ref)``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from raybook.api.context import started_engine
from raybook.api.object_ref import ObjectRef
from raybook.api.state import available_resources, cluster_resources, list_actors
from raybook.api.survey import surveyed_tasks
from raybook.base.facts import TASK_RUNNING
from raybook.base.resources import to_user
from raybook.engines.own_tasks import FailedTask, UnfinishedTask

HOLDERS_MAX = 4


def unfinished_tasks(since_s: float = 0.0, until_s: float = float("inf")) -> list[UnfinishedTask]:
    """Tasks and calls of this process that are not over, submitted in that time (seconds since the epoch), the oldest
    first. Tasks that tasks submitted belong to their workers and are not here. RuntimeError when nothing was started.
    Cost: 2 µs each."""
    return [task for task in started_engine().own_tasks.unfinished() if since_s <= task.submitted_s <= until_s]


def settle() -> None:
    """Wait until what this thread has submitted so far is among the unfinished tasks: a submission that nobody has asked for
    yet may lie in a queue for a moment. RuntimeError when nothing was started. Cost: a turn of the loop, below 1 ms."""
    started_engine().own_tasks.settle()


def cancel_tasks(tasks: Iterable[UnfinishedTask], force: bool = False, recursive: bool = True) -> int:
    """Cancel them and, unless recursive is False, what they submitted; how many there were. Returns at once; a ``get`` of
    their results raises TaskCancelledError. force: end the worker process of a task that does not listen."""
    wanted = [task.task_id for task in tasks]
    started_engine().own_tasks.cancel(wanted, force, recursive)
    return len(wanted)


def keep_failed_tasks(count_max: int) -> None:
    """Keep so many of the last tasks of this process whose code raised, with their arguments, from now on; 0: none, which
    is how it begins. What their arguments refer to stays in the store as long. Calls of actors are not kept."""
    if count_max < 0:
        raise ValueError(f"count_max is {count_max}; it is a number of tasks, 0 or more.")
    started_engine().own_tasks.keep_failed(count_max)


def failed_tasks() -> list[FailedTask]:
    """The tasks that ``keep_failed_tasks`` keeps, the newest first."""
    return started_engine().own_tasks.failed()


def bring_here(task: FailedTask) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The function of a failed task, its arguments and its keyword arguments, to call it in this process. LookupError
    when it is not kept any more. Blocks until arguments that lie on other nodes are here."""
    try:
        return started_engine().own_tasks.bring_here(task.task_id)
    except KeyError:
        raise LookupError(
            f"Task {task.task_id.hex()} (`{task.name}`) is not kept any more: only the last that failed are."
        ) from None


def why(ref: ObjectRef) -> str:
    """What an object waits for, in one or two lines: its state, the resources that are short and who holds them.
    TypeError for anything but a reference. Cost: one round trip, and a survey where resources are short."""
    if not isinstance(ref, ObjectRef):
        raise TypeError(f"An ObjectRef was expected, got {type(ref).__name__}.")
    tasks = started_engine().own_tasks
    tasks.settle()
    task = tasks.unfinished_of(ref.binary())
    if task is None:
        return f"{ref.hex()}: {tasks.explain(ref.binary())}."
    lines = [f"{task.why.rstrip('.')}."]
    if not task.is_running and task.resources:
        lines += _shortages(to_user(task.resources))
    return "\n".join(lines)


def _shortages(wanted: dict[str, float]) -> list[str]:
    """A line for each resource of which there is not enough now."""
    total, free = cluster_resources(), available_resources()
    short = {name: amount for name, amount in wanted.items() if free.get(name, 0.0) < amount}
    if not short:
        return []
    users = _users()
    lines = []
    for name, amount in short.items():
        holders = [f"{who} ({held[name]:g})" for who, held in users if held.get(name)]
        more = f" and {len(holders) - HOLDERS_MAX} more" if len(holders) > HOLDERS_MAX else ""
        held_by = f", held by {', '.join(holders[:HOLDERS_MAX])}{more}" if holders else ""
        lines.append(
            f"It needs {amount:g} {name}: {free.get(name, 0.0):g} of {total.get(name, 0.0):g} are free{held_by}."
        )
    return lines


def _users() -> list[tuple[str, dict[str, float]]]:
    """Who holds resources: living actors, and tasks that run. (name, resources in user numbers)"""
    users: list[tuple[str, dict[str, Any]]] = [
        (f"actor `{row['name'] or row['class_name']}`", row["required_resources"])
        for row in list_actors()
        if row["state"] == "ALIVE"
    ]
    running: dict[str, int] = {}
    for row in surveyed_tasks(1_000).rows:
        if row["state"] == TASK_RUNNING and not row["actor_id"]:
            running[row["name"]] = running.get(row["name"], 0) + 1
    own = {task.name: to_user(task.resources) for task in started_engine().own_tasks.unfinished()}
    for name, count in running.items():
        held = own.get(name, {"CPU": 1.0})
        users.append((f"task `{name}`", {key: amount * count for key, amount in held.items()}))
    return users
