"""Panels on the wire: which part of a view a panel needs, and what of it a reader has not been sent yet.

A panel's state is some values (sums, names) and some tables of rows with keys. A stream sends it once as a snapshot,
then only rows that changed, whole, and keys that went; never more than ``bytes_max`` a message, the rest with the next
ones. Pure apart from reading the feed. Invariants: applying all messages in order gives the state they were made from; a
message's ``since`` is the ``version`` of the one before. Read by labextension/src/core/state.ts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from raybook.base.facts import TASK_RUNNING
from raybook.observe.logs import recent_lines
from raybook.observe.mirror import Tables
from raybook.observe.runs import deployments, train_runs
from raybook.observe.schema import ActorRow, LogRow, TaskRow, View
from raybook.observe.subscribe import Feed
from raybook.observe.view import Caps

ROW_BYTES_EXTRA = 8
"""Quotes, colon and comma around a row and its key."""
LOG_LINES_MAX = 2_000
TABLE_KEYS: dict[str, Callable[[Any], str]] = {
    "nodes": lambda row: row.node_id,
    "task_groups": lambda row: row.name,
    "progress": lambda row: row.progress_id,
    "actors": lambda row: row.actor_id,
    "stores": lambda row: row.node_id,
    "objects": lambda row: row.object_id,
    "experiments": lambda row: row.experiment_id,
    "trials": lambda row: f"{row.experiment_id} {row.trial_id}",
    "tasks": lambda row: row.task_id,
    "trains": lambda row: row.run_id,
    "deployments": lambda row: f"{row.app} {row.name}",
    "logs": lambda row: row.key,
}
"""Table → a row's key. Small tables first: they go out first when a message is full."""
_ALWAYS = ("schema_version", "facts_version", "cluster_name", "cluster_state")


class PanelFilter(msgspec.Struct, frozen=True):
    """What a reader wants of a panel. "" is everything; ``rows_max`` 0 is the panel's own limit."""

    text: str = ""
    state: str = ""
    experiment_id: str = ""
    node_id: str = ""
    actor_id: str = ""
    trial_id: str = ""
    level: str = ""
    rows_max: int = 0


class _Recipe(msgspec.Struct, frozen=True):
    caps: Caps
    tables: tuple[str, ...]
    values: tuple[str, ...] = ()


_OVERVIEW_TABLES = ("nodes", "task_groups", "progress", "actors", "stores", "objects", "experiments", "trials")
_RECIPES: dict[str, _Recipe] = {
    "overview": _Recipe(
        Caps(tasks=0),
        _OVERVIEW_TABLES,
        ("resources", "nodes_hidden", "task_groups_hidden", "progress_hidden", "tasks_total",
         "actors_hidden", "actors_by_state", "store_total", "scaling"),
    ),
    "tasks": _Recipe(
        Caps(tasks=10_000, task_groups=200),
        ("task_groups", "progress", "tasks"),
        ("task_groups_hidden", "progress_hidden", "tasks_total"),
    ),
    "actors": _Recipe(Caps(actors=1_000, actors_dead=200), ("actors",), ("actors_hidden", "actors_by_state")),
    "objects": _Recipe(Caps(objects=1_000), ("stores", "objects"), ("store_total",)),
    "nodes": _Recipe(Caps(nodes=1_000), ("nodes",), ("nodes_hidden", "resources", "scaling")),
    "tune": _Recipe(Caps(experiments=8, trials=1_000), ("experiments", "trials")),
    "train": _Recipe(Caps(tasks=0), ("trains",)),
    "serve": _Recipe(Caps(tasks=0), ("deployments",)),
    "logs": _Recipe(Caps(tasks=0), ("logs",)),
}  # fmt: skip
_OF_FACTS: dict[str, Callable[[Tables], list[Any]]] = {
    "trains": train_runs,
    "deployments": deployments,
    "logs": lambda tables: recent_lines(tables, LOG_LINES_MAX),
}
"""Tables that no view has: made from the facts."""
PANELS = tuple(_RECIPES)


class PanelState(msgspec.Struct):
    """What a panel shows at one moment: values by name, rows by table and key."""

    values: dict[str, Any]
    tables: dict[str, dict[str, Any]]


def panel_state(panel: str, feed: Feed, wanted: PanelFilter) -> PanelState:
    """Raises KeyError for an unknown panel. Cost: that of the view, about 1 ms for 1,000 rows."""
    recipe = _RECIPES[panel]
    caps = recipe.caps
    if wanted.rows_max > 0:
        caps = Caps(*(min(getattr(caps, name), wanted.rows_max) for name in Caps.__struct_fields__))
    made = {name: make(feed.fact_tables()) for name, make in _OF_FACTS.items() if name in recipe.tables}
    return state_of_view(panel, feed.view(caps), wanted, made)


def state_of_view(panel: str, view: View, wanted: PanelFilter, made: dict[str, list[Any]] | None = None) -> PanelState:
    """What a panel shows of a view that is there already. made: tables that are no part of a view. Cost: O(rows)."""
    recipe = _RECIPES[panel]
    if wanted.experiment_id:
        view = view.with_only_experiment(wanted.experiment_id)
    rows: dict[str, list[Any]] = {name: getattr(view, name) for name in recipe.tables if hasattr(view, name)}
    if "experiments" in rows:
        rows["experiments"] = [msgspec.structs.replace(row, trials=[]) for row in view.experiments]
        rows["trials"] = [trial for experiment in view.experiments for trial in experiment.trials]
    if "tasks" in rows:
        # How long a task has run by now is told by its start; as a number it would be news at every look.
        rows["tasks"] = [_without_age(row) if row.state == TASK_RUNNING else row for row in view.tasks]
    rows.update(made or {})
    tables = {
        name: {TABLE_KEYS[name](row): row for row in found if _is_wanted(row, wanted)} for name, found in rows.items()
    }
    return PanelState(_values(view, recipe), tables)


def _without_age(row: TaskRow) -> TaskRow:
    return msgspec.structs.replace(row, duration_ms=None)


def _values(view: View, recipe: _Recipe) -> dict[str, Any]:
    return {name: getattr(view, name) for name in (*_ALWAYS, *recipe.values)}


def _is_wanted(row: Any, wanted: PanelFilter) -> bool:
    if isinstance(row, TaskRow):
        return (
            (not wanted.state or row.state == wanted.state)
            and (not wanted.node_id or row.node_id == wanted.node_id)
            and _mentions(wanted.text, row.name, row.task_id, row.error, row.cell)
        )
    if isinstance(row, LogRow):
        return (
            (not wanted.level or row.level == wanted.level)
            and (not wanted.node_id or row.node_id.startswith(wanted.node_id))
            and (not wanted.actor_id or row.name == wanted.actor_id)
            and (not wanted.trial_id or wanted.trial_id in row.line or row.name == wanted.trial_id)
            and _mentions(wanted.text, row.line, row.name, str(row.pid))
        )
    if isinstance(row, ActorRow):
        return (not wanted.state or row.state == wanted.state) and (
            _mentions(wanted.text, row.class_name, row.name, row.actor_id)
        )
    return True


def _mentions(text: str, *fields: str) -> bool:
    return not text or any(text.casefold() in field.casefold() for field in fields)


class PanelStream:
    """What one reader of one panel is sent. One thread at a time."""

    def __init__(self, panel: str, wanted: PanelFilter | None = None, bytes_max: int = 64_000) -> None:
        if panel not in _RECIPES:
            raise ValueError(f"There is no panel {panel!r}. Panels are: {', '.join(PANELS)}.")
        self.panel = panel
        self.wanted = wanted or PanelFilter()
        self.has_more = False
        """Rows did not fit: ask again at the next tick."""
        self._bytes_max = bytes_max
        self._version = 0
        self._sent = PanelState({}, {})
        self._seen: tuple[int, str] | None = None
        self._moving = False

    def message(self, feed: Feed, now_ms: float | None = None) -> dict[str, Any] | None:
        """The next message, ready for JSON: a snapshot the first time, then deltas; None when there is nothing new.
        now_ms: milliseconds since the epoch, told along; the clock's by default. Cost: as ``panel_state``."""
        seen = (feed.version, feed.state)
        if seen == self._seen and not (self.has_more or self._moving):
            return None
        self._seen = seen
        state = panel_state(self.panel, feed, self.wanted)
        self._moving = _is_moving(state)
        return self.message_of(state, now_ms)

    def start_over(self) -> None:
        """The reader has nothing any more: the next message is a snapshot."""
        self._version, self._seen, self._sent = 0, None, PanelState({}, {})

    def message_of(self, state: PanelState, now_ms: float | None = None) -> dict[str, Any] | None:
        """The next message for a reader who should know this state; as ``message``."""
        body = self._difference(state)
        if self._version and not any(body[name] for name in ("values", "tables", "gone")):
            return None
        self._version += 1
        message: dict[str, Any] = {"version": self._version, "now_ms": round(now_ms or time.time() * 1_000)}
        if self._version == 1:
            body.pop("gone")
            return {**message, "snapshot": body}
        return {**message, "since": self._version - 1, "delta": body}

    def _difference(self, state: PanelState) -> dict[str, Any]:
        """What of ``state`` was not sent yet, as far as it fits; from then on it counts as sent."""
        sent = self._sent
        values = {name: value for name, value in state.values.items() if name not in sent.values}
        values |= {name: value for name, value in state.values.items() if sent.values.get(name) != value}
        if set(values) == {"facts_version"}:
            values = {}
        sent.values.update(values)
        budget = self._bytes_max - len(msgspec.json.encode(values))
        gone: dict[str, list[str]] = {}
        rows: dict[str, dict[str, Any]] = {}
        left = 0
        for table, wanted in state.tables.items():
            known = sent.tables.setdefault(table, {})
            for key in [key for key in known if key not in wanted]:
                budget -= len(key) + ROW_BYTES_EXTRA
                if budget < 0:
                    left += 1
                    continue
                del known[key]
                gone.setdefault(table, []).append(key)
            for key, row in wanted.items():
                if known.get(key) == row:
                    continue
                if budget > 0:
                    budget -= len(msgspec.json.encode(row)) + len(key) + ROW_BYTES_EXTRA
                # The first row always goes: one row that is larger than a message must not hold up all others.
                if budget < 0 and rows:
                    left += 1
                    continue
                known[key] = row
                rows.setdefault(table, {})[key] = msgspec.to_builtins(row)
        self.has_more = left > 0
        return {"values": msgspec.to_builtins(values), "tables": rows, "gone": gone, "more": left}


def _is_moving(state: PanelState) -> bool:
    """Whether a rate in it is not zero: it may change without a new fact."""
    moving = (row for name in ("task_groups", "actors", "progress") for row in state.tables.get(name, {}).values())
    return any(row.rate_per_s for row in moving)
