"""Panel state: a view as keyed rows, so that what travels to a browser is what has changed. Pure.

A state is collection → key → row; the rows are the records of ``observe/schema``. The browser's reducer, the widget's
messages and the server's WebSocket all speak of it: a snapshot is a state, a delta has the rows that are new or different,
and None for those that are gone. The order of rows is the renderer's affair. Invariant: applying ``state_delta(old, new)``
to ``old`` gives ``new``.

The running time of a task that runs is left out: it changes without anything having happened, and whoever knows when it
began (``started_ms``) and what time it is there (the cluster's ``now_ms``) can tell it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from raybook.base.facts import TASK_RUNNING
from raybook.observe.schema import StoreRow, TaskGroupRow, View

State = dict[str, dict[str, Any]]
Delta = dict[str, dict[str, Any]]

OVERVIEW = ("cluster", "resources", "nodes", "task_groups", "actors", "experiments")
PANELS: dict[str, tuple[str, ...]] = {
    "overview": OVERVIEW,
    "nodes": ("cluster", "resources", "nodes", "gpus", "actors"),
    "tasks": ("cluster", "task_groups", "tasks"),
    "actors": ("cluster", "actors"),
    "objects": ("cluster", "stores", "objects"),
    "tune": ("cluster", "experiments", "trials"),
    "logs": ("cluster", "logs"),
}
"""Panel → its collections; "all" has every one."""


class ClusterRow(msgspec.Struct, frozen=True):
    """What a view says of the cluster as a whole. ``now_ms``: when it was built, by the clock that tasks' times are of."""

    name: str = ""
    state: str = "RUNNING"
    now_ms: int = 0
    tasks_total: TaskGroupRow = TaskGroupRow(name="all")
    store_total: StoreRow = StoreRow(node_id="all")
    actors_by_state: dict[str, int] = {}
    nodes_hidden: int = 0
    task_groups_hidden: int = 0
    actors_hidden: int = 0
    scaling: Any = None


def panel_state(view: View, panel: str, now_ms: int = 0, wanted: Filter | None = None) -> State:
    """The state of one panel. ValueError for a panel that there is none of. Cost: O(rows)."""
    if panel != "all" and panel not in PANELS:
        raise ValueError(f"There is no panel {panel!r}; there are {', '.join(PANELS)}, and all.")
    names = _COLLECTIONS if panel == "all" else PANELS[panel]
    wanted = wanted or Filter()
    return {name: _COLLECTIONS[name](view, now_ms, wanted) for name in names}


def state_delta(old: State, new: State) -> Delta:
    """What is different. ``now_ms`` alone is no difference. Empty when nothing is. Cost: O(rows) comparisons."""
    delta: Delta = {}
    for name, rows in new.items():
        before = old.get(name, {})
        changed: dict[str, Any] = {
            key: row for key, row in rows.items() if (known := before.get(key)) is not row and not _same(known, row)
        }
        if len(before) + len(changed) != len(rows) or changed:
            changed.update((key, None) for key in before if key not in rows)
        if changed:
            delta[name] = changed
    for name in old.keys() - new.keys():
        delta[name] = dict.fromkeys(old[name])
    return delta


def apply_delta(state: State, delta: Delta) -> State:
    """The state after a delta; ``state`` itself is left alone. What a browser does, for tests and for readers in Python."""
    after = dict(state)
    for name, rows in delta.items():
        table = dict(after.get(name, {}))
        for key, row in rows.items():
            if row is None:
                table.pop(key, None)
            else:
                table[key] = row
        after[name] = table
    return after


class Filter(msgspec.Struct, frozen=True):
    """What of the rows one wants to see; "" and [] for all. ``text``: a part of the name or line, case ignored. ``states``:
    of tasks. node, actor, source ("out", "err"): of log lines. experiment: of trials. limit: of tasks or lines."""

    text: str = ""
    states: list[str] = []
    node: str = ""
    actor: str = ""
    trial: str = ""
    level: str = ""
    source: str = ""
    experiment: str = ""
    limit: int = 10_000

    def has_text(self, *fields: str) -> bool:
        return not self.text or any(self.text.lower() in field.lower() for field in fields)


def _same(known: Any, row: Any) -> bool:
    if isinstance(row, ClusterRow) and isinstance(known, ClusterRow):
        return msgspec.structs.replace(known, now_ms=row.now_ms) == row
    return known == row


def _cluster(view: View, now_ms: int, wanted: Filter) -> dict[str, Any]:
    row = ClusterRow(
        view.cluster_name, view.cluster_state, now_ms, view.tasks_total, view.store_total, view.actors_by_state,
        view.nodes_hidden, view.task_groups_hidden, view.actors_hidden, view.scaling,
    )  # fmt: skip
    return {"cluster": row}


def _tasks(view: View, now_ms: int, wanted: Filter) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for task in view.tasks:
        if (wanted.states and task.state not in wanted.states) or not wanted.has_text(task.name, task.error, task.cell):
            continue
        if len(found) >= wanted.limit:
            break
        found[task.task_id] = msgspec.structs.replace(task, duration_ms=None) if task.state == TASK_RUNNING else task
    return found


def _experiments(view: View, now_ms: int, wanted: Filter) -> dict[str, Any]:
    return {row.experiment_id: msgspec.structs.replace(row, trials=[]) for row in view.experiments}


def _trials(view: View, now_ms: int, wanted: Filter) -> dict[str, Any]:
    return {
        f"{experiment.experiment_id}/{trial.trial_id}": trial
        for experiment in view.experiments
        if wanted.experiment in ("", experiment.experiment_id)
        for trial in experiment.trials
    }


LEVELS = {"error": ("ERROR", "CRITICAL", "FATAL"), "warning": ("WARN", "ERROR", "CRITICAL", "FATAL")}
"""A level shows itself and what is worse; a line has a level when it says so in capitals, as Python's logging does."""


def _logs(view: View, now_ms: int, wanted: Filter) -> dict[str, Any]:
    marks = LEVELS.get(wanted.level.lower(), ())
    actor = wanted.actor or wanted.trial
    found = {
        row.key: row
        for row in view.logs
        if row.node_id.startswith(wanted.node)
        and wanted.source in ("", row.source)
        and (not actor or actor in row.name or actor == str(row.pid))
        and (not marks or any(mark in row.line for mark in marks))
        and wanted.has_text(row.line, row.name)
    }
    return dict(list(found.items())[-wanted.limit :])


def _keyed(rows: Callable[[View], Iterable[Any]], key: str) -> Callable[[View, int, Filter], dict[str, Any]]:
    return lambda view, now_ms, wanted: {getattr(row, key): row for row in rows(view)}


_COLLECTIONS: dict[str, Callable[[View, int, Filter], dict[str, Any]]] = {
    "cluster": _cluster,
    "resources": _keyed(lambda view: view.resources, "name"),
    "nodes": _keyed(lambda view: view.nodes, "node_id"),
    "task_groups": _keyed(lambda view: view.task_groups, "name"),
    "tasks": _tasks,
    "actors": _keyed(lambda view: view.actors, "actor_id"),
    "stores": _keyed(lambda view: view.stores, "node_id"),
    "objects": _keyed(lambda view: view.objects, "object_id"),
    "experiments": _experiments,
    "trials": _trials,
    "gpus": lambda view, now_ms, wanted: {f"{gpu.node_id}/{gpu.index}": gpu for gpu in view.gpus},
    "logs": _logs,
}
