"""From facts to a view: sums, sorting, caps, best trial. Pure; renderers only lay out what is decided here.

Rows are dictionaries written by many hands (raylet, owner, Tune): a missing field reads as its default and a field of
the wrong type as nothing, because one odd row must not blank everybody's panel. Amounts of resources in facts are user
numbers (1.0 is one CPU, bytes for memory).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from raybook.base.facts import (
    ACTOR_ALIVE,
    ACTOR_DEAD,
    ACTOR_PENDING,
    ACTOR_RESTARTING,
    TASK_CANCELLED,
    TASK_FAILED,
    TASK_FINISHED,
    TASK_PENDING,
    TASK_RUNNING,
    Row,
)
from raybook.observe.format import metric_text, shortened
from raybook.observe.history import POINTS_MAX, thinned
from raybook.observe.mirror import Tables
from raybook.observe.schema import (
    ActorRow,
    ExperimentRow,
    NodeRow,
    ObjectRow,
    ResourceRow,
    StoreRow,
    TaskGroupRow,
    TaskRow,
    TrialRow,
    View,
)

NAME_LENGTH_MAX = 120
ERROR_LENGTH_MAX = 300
PARAMETERS_LENGTH_MAX = 160

_TASK_ORDER = {TASK_RUNNING: 0, TASK_FAILED: 1, TASK_PENDING: 2, TASK_CANCELLED: 3, TASK_FINISHED: 4}
_ACTOR_ORDER = {ACTOR_RESTARTING: 0, ACTOR_PENDING: 1, ACTOR_ALIVE: 2, ACTOR_DEAD: 3}
_RESOURCE_ORDER = {"CPU": 0, "GPU": 1, "memory": 2, "object_store_memory": 3}

TRIAL_ENDED = frozenset({"TERMINATED", "STOPPED", "COMPLETED", "FINISHED", "ERROR", "FAILED", "DONE"})
TRIAL_FAILED = frozenset({"ERROR", "FAILED"})


class Caps(msgspec.Struct, frozen=True):
    """How many rows of each kind a view may hold. The defaults are what fits under a cell without scrolling."""

    task_groups: int = 12
    tasks: int = 50
    actors: int = 12
    actors_dead: int = 3
    nodes: int = 16
    objects: int = 8
    experiments: int = 3
    trials: int = 20


class Label(msgspec.Struct, frozen=True):
    """What the view's reader knows of the cluster apart from its facts. ``state``: RUNNING, STOPPED,
    LEFT (it lives on without us) or LOST."""

    name: str = ""
    state: str = "RUNNING"


def build_view(
    tables: Tables,
    facts_version: int,
    label: Label,
    rates: Mapping[str, float],
    curves: Mapping[str, list[float]],
    now_ms: float,
    caps: Caps | None = None,
) -> View:
    """The view of one moment. rates: ended per second by "kind:key", moving ones only.
    curves: points by trial key. now_ms: milliseconds since the epoch, for running times. Cost: O(rows), about
    2 ms for 2,000 tasks."""
    caps = caps or Caps()
    nodes = [_node(key, row) for key, row in tables.rows("node").items()]
    groups = _by_name([_task_group(key, row, rates) for key, row in tables.rows("task_group").items()])
    actors = [_actor(key, row, rates) for key, row in tables.rows("actor").items()]
    stores = [_store(key, row) for key, row in tables.rows("store").items()]
    shown_actors = _livelier_actors(actors, caps)
    shown_groups = sorted(groups, key=_liveliest_first)[: caps.task_groups]
    by_state: dict[str, int] = {}
    for actor in actors:
        by_state[actor.state] = by_state.get(actor.state, 0) + 1
    return View(
        facts_version=facts_version,
        cluster_name=label.name,
        cluster_state=label.state,
        resources=_summed(node for node in nodes if node.alive),
        nodes=nodes[: caps.nodes],
        nodes_hidden=max(0, len(nodes) - caps.nodes),
        task_groups=_in_order_of(groups, shown_groups),
        task_groups_hidden=len(groups) - len(shown_groups),
        tasks_total=_totalled(groups),
        tasks=_recent_tasks(tables, now_ms)[: caps.tasks],
        actors=_in_order_of(actors, shown_actors),
        actors_hidden=len(actors) - len(shown_actors),
        actors_by_state=dict(sorted(by_state.items(), key=lambda pair: _ACTOR_ORDER.get(pair[0], 2))),
        stores=stores,
        store_total=StoreRow(
            node_id="all",
            used_bytes=sum(store.used_bytes for store in stores),
            capacity_bytes=sum(store.capacity_bytes for store in stores),
            objects=sum(store.objects for store in stores),
        ),
        objects=_largest_objects(tables)[: caps.objects],
        experiments=_experiments(tables, curves, now_ms, caps),
        moving=any(group.rate_per_s for group in groups) or any(actor.rate_per_s for actor in actors),
    )


# Fields of a row, read without trust.


def _text(row: Row, *names: str, length_max: int = NAME_LENGTH_MAX) -> str:
    for name in names:
        value = row.get(name)
        if value not in (None, ""):
            return shortened(value if isinstance(value, str) else str(value), length_max)
    return ""


def _number(row: Row, *names: str) -> float:
    for name in names:
        value = row.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return value
    return 0


def integer_of(row: Row, *names: str) -> int:
    """The first of these fields that is a finite number; 0 when none is."""
    return int(_number(row, *names))


def _in_order_of(rows: list[Any], chosen: list[Any]) -> list[Any]:
    """The chosen rows in the order of ``rows``: a capped table must not shuffle while one looks at it."""
    wanted = {id(row) for row in chosen}
    return [row for row in rows if id(row) in wanted]


# Nodes and resources.


def _node(key: str, row: Row) -> NodeRow:
    total = row.get("resources_total") or {}
    available = row.get("resources_available") or {}
    resources = [
        ResourceRow(
            name=name, used=max(0.0, _number(total, name) - _number(available, name)), total=_number(total, name)
        )
        for name in sorted(total, key=lambda name: (_RESOURCE_ORDER.get(name, 9), name))
        if not name.startswith("node:")
    ]
    return NodeRow(
        node_id=_text(row, "node_id") or key,
        alive=bool(row.get("alive", True)),
        address=_text(row, "address"),
        pid=integer_of(row, "pid"),
        resources=resources,
        cpu_percent=float(_number(row, "cpu_percent")),
        memory_used_bytes=integer_of(row, "memory_used_bytes"),
    )


def _summed(nodes: Any) -> list[ResourceRow]:
    totals: dict[str, list[float]] = {}
    for node in nodes:
        for resource in node.resources:
            entry = totals.setdefault(resource.name, [0.0, 0.0])
            entry[0] += resource.used
            entry[1] += resource.total
    ordered = sorted(totals, key=lambda name: (_RESOURCE_ORDER.get(name, 9), name))
    return [ResourceRow(name=name, used=round(totals[name][0], 4), total=totals[name][1]) for name in ordered]


# Tasks.


def _task_group(key: str, row: Row, rates: Mapping[str, float]) -> TaskGroupRow:
    return TaskGroupRow(
        name=_text(row, "name") or shortened(key, NAME_LENGTH_MAX),
        pending=integer_of(row, "pending"),
        running=integer_of(row, "running"),
        finished=integer_of(row, "finished"),
        failed=integer_of(row, "failed"),
        cancelled=integer_of(row, "cancelled"),
        mean_us=float(_number(row, "mean_us")),
        rate_per_s=round(rates.get("task_group:" + key, 0.0), 1),
    )


def _by_name(groups: list[TaskGroupRow]) -> list[TaskGroupRow]:
    """One row for each function: several processes may submit the same one, and each tells its own share."""
    by_name: dict[str, list[TaskGroupRow]] = {}
    for group in groups:
        by_name.setdefault(group.name, []).append(group)
    return [shares[0] if len(shares) == 1 else _totalled(shares, name) for name, shares in by_name.items()]


def _liveliest_first(group: TaskGroupRow) -> tuple[bool, int]:
    return (group.running + group.pending == 0, -group.total)


def _totalled(groups: list[TaskGroupRow], name: str = "all") -> TaskGroupRow:
    ended = sum(group.finished for group in groups)
    return TaskGroupRow(
        name=name,
        pending=sum(group.pending for group in groups),
        running=sum(group.running for group in groups),
        finished=ended,
        failed=sum(group.failed for group in groups),
        cancelled=sum(group.cancelled for group in groups),
        mean_us=sum(group.mean_us * group.finished for group in groups) / ended if ended else 0.0,
        rate_per_s=round(sum(group.rate_per_s for group in groups), 1),
    )


def _recent_tasks(tables: Tables, now_ms: float) -> list[TaskRow]:
    rows = tables.rows("task")
    ordered = sorted(
        rows.items(),
        key=lambda item: (_TASK_ORDER.get(str(item[1].get("state")), 5), -_number(item[1], "submitted_ms")),
    )
    return [_task(key, row, now_ms) for key, row in ordered]


def _task(key: str, row: Row, now_ms: float) -> TaskRow:
    started, ended = _number(row, "started_ms"), _number(row, "ended_ms")
    return TaskRow(
        task_id=_text(row, "task_id") or key,
        name=_text(row, "name"),
        state=_text(row, "state"),
        worker_pid=integer_of(row, "worker_pid"),
        node_id=_text(row, "node_id"),
        duration_ms=max(0.0, (ended or now_ms) - started) if started else None,
        error=_text(row, "error", length_max=ERROR_LENGTH_MAX),
    )


# Actors and objects.


def _actor(key: str, row: Row, rates: Mapping[str, float]) -> ActorRow:
    return ActorRow(
        actor_id=_text(row, "actor_id") or key,
        class_name=_text(row, "class_name"),
        state=_text(row, "state"),
        name=_text(row, "name"),
        pid=integer_of(row, "pid"),
        node_id=_text(row, "node_id"),
        restarts=integer_of(row, "restarts"),
        calls_pending=integer_of(row, "calls_pending") if "calls_pending" in row else None,
        calls_done=integer_of(row, "calls_done") if "calls_done" in row else None,
        waiting=_text(row, "waiting", length_max=ERROR_LENGTH_MAX),
        rate_per_s=round(rates.get("actor:" + key, 0.0), 1),
    )


def _livelier_actors(actors: list[ActorRow], caps: Caps) -> list[ActorRow]:
    """The living, and the few that died last: a sweep leaves a dead actor for each of its trials."""
    dead = [actor for actor in actors if actor.state == ACTOR_DEAD]
    forgotten = {actor.actor_id for actor in dead[: -caps.actors_dead]}
    kept = [actor for actor in actors if actor.actor_id not in forgotten]
    return sorted(kept, key=lambda actor: _ACTOR_ORDER.get(actor.state, 2))[: caps.actors]


def _store(key: str, row: Row) -> StoreRow:
    return StoreRow(
        node_id=key,
        used_bytes=integer_of(row, "used_bytes"),
        capacity_bytes=integer_of(row, "capacity_bytes"),
        objects=integer_of(row, "objects"),
    )


def _largest_objects(tables: Tables) -> list[ObjectRow]:
    objects = [
        ObjectRow(
            object_id=_text(row, "object_id") or key,
            size_bytes=integer_of(row, "size_bytes"),
            owner_pid=integer_of(row, "owner_pid"),
            name=_text(row, "name"),
        )
        for key, row in tables.rows("object").items()
    ]
    return sorted(objects, key=lambda item: (-item.size_bytes, item.object_id))


# Trials.


def _experiments(tables: Tables, curves: Mapping[str, list[float]], now_ms: float, caps: Caps) -> list[ExperimentRow]:
    rows = dict(tables.rows("experiment"))
    by_experiment: dict[str, list[tuple[str, Row]]] = {}
    for key, row in tables.rows("trial").items():
        experiment = str(row.get("experiment_id") or row.get("experiment") or "")
        by_experiment.setdefault(experiment, []).append((key, row))
    for name in by_experiment:
        # A trial may name its experiment by id or by name; one that names none still shows.
        if name not in rows and not any(row.get("name") == name for row in rows.values()):
            rows[name] = {"name": name or "trials"}
    newest = list(rows.items())[-caps.experiments :]
    return [
        _experiment(
            key, row, by_experiment.get(key) or by_experiment.get(str(row.get("name"))) or [], curves, now_ms, caps
        )
        for key, row in reversed(newest)
    ]


def _experiment(
    key: str, row: Row, trial_rows: list[tuple[str, Row]], curves: Mapping[str, list[float]], now_ms: float, caps: Caps
) -> ExperimentRow:
    first = trial_rows[0][1] if trial_rows else {}
    mode = "min" if (row.get("mode") or first.get("mode")) == "min" else "max"
    trials = [_trial(trial_key, trial_row, curves) for trial_key, trial_row in trial_rows]
    trials.sort(key=lambda trial: trial.label)
    best = _best(trials, mode, _text(row, "best_trial", "best_trial_id"))
    if best is not None:
        trials = [msgspec.structs.replace(trial, best=True) if trial is best else trial for trial in trials]
        best = next(trial for trial in trials if trial.best)
    shown = _most_telling(trials, caps.trials)
    done = sum(trial.state in TRIAL_ENDED for trial in trials)
    running = sum(trial.state == "RUNNING" for trial in trials)
    total = max(integer_of(row, "total", "trials_total"), len(trials))
    is_over = bool(integer_of(row, "total", "trials_total")) and done >= total
    return ExperimentRow(
        experiment_id=key,
        name=_text(row, "name") or key,
        state=_text(row, "state") or ("FINISHED" if is_over else "RUNNING"),
        metric=_text(row, "metric", "metric_name") or _text(first, "metric", "metric_name"),
        mode=mode,
        trials_total=total,
        trials_done=done,
        trials_running=running,
        trials_failed=sum(trial.state in TRIAL_FAILED for trial in trials),
        trials_stopped=sum(trial.state == "STOPPED" for trial in trials),
        best_trial_id=best.trial_id if best else "",
        best_value=_best_value(best, row, mode),
        best_parameters=best.parameters if best else "",
        trials=shown,
        trials_hidden=len(trials) - len(shown),
        seconds=_seconds_of(trial_rows, is_over, now_ms),
    )


def _seconds_of(trial_rows: list[tuple[str, Row]], is_over: bool, now_ms: float) -> float:
    """From the first trial's start to now, or to the last one's end."""
    started = [_number(row, "started_unix_ms") for _, row in trial_rows if row.get("started_unix_ms")]
    if not started:
        return 0.0
    until = max((_number(row, "ended_unix_ms") for _, row in trial_rows), default=0) if is_over else now_ms
    return max(0.0, (until - min(started)) / 1_000)


def _trial(key: str, row: Row, curves: Mapping[str, list[float]]) -> TrialRow:
    history = trial_history(row)
    points = history if history is not None else curves.get(key) or []
    return TrialRow(
        trial_id=_text(row, "trial_id") or key,
        name=_text(row, "name"),
        state=_text(row, "state").upper(),
        value=trial_value(row),
        step=trial_step(row),
        step_max=integer_of(row, "iterations_max", "step_max"),
        history=thinned(points, POINTS_MAX),
        parameters=_parameters(row),
        error=_text(row, "error", length_max=ERROR_LENGTH_MAX),
        seconds=float(_number(row, "seconds")),
    )


def trial_value(row: Row) -> float | None:
    """The metric of a trial's latest report, None before the first."""
    for name in ("value", "last"):
        value = row.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    return None


def trial_step(row: Row) -> int:
    """How many reports a trial has made."""
    return integer_of(row, "iteration", "step")


def trial_history(row: Row) -> list[float] | None:
    """The metric over the reports, when the trial's row brings it along."""
    history = row.get("history")
    if not isinstance(history, (list, tuple)):
        return None
    numbers = [point[-1] if isinstance(point, (list, tuple)) and point else point for point in history]
    return [float(point) for point in numbers if isinstance(point, (int, float)) and math.isfinite(point)]


def _parameters(row: Row) -> str:
    parameters = row.get("config", row.get("parameters"))
    if isinstance(parameters, Mapping):
        parts = [
            f"{name}={metric_text(value) if isinstance(value, float) else value}" for name, value in parameters.items()
        ]
        return shortened(", ".join(parts), PARAMETERS_LENGTH_MAX)
    return shortened(str(parameters), PARAMETERS_LENGTH_MAX) if parameters else ""


def _best(trials: list[TrialRow], mode: str, named: str) -> TrialRow | None:
    """The trial that the experiment names; else the best last value, the earlier one when two are equal."""
    for trial in trials:
        if named and trial.trial_id == named:
            return trial
    scored = [trial for trial in trials if trial.value is not None and math.isfinite(trial.value)]
    if not scored:
        return None
    choose = min if mode == "min" else max
    return choose(scored, key=lambda trial: trial.value or 0.0)


def _best_value(best: TrialRow | None, row: Row, mode: str) -> float | None:
    told = row.get("best_value")
    if isinstance(told, (int, float)) and not isinstance(told, bool):
        return float(told)
    return best.value if best else None


def _most_telling(trials: list[TrialRow], count_max: int) -> list[TrialRow]:
    """The best, the running, then the newest, shown in the order in which they began."""

    def importance(item: tuple[int, TrialRow]) -> tuple[bool, bool, int]:
        return (not item[1].best, item[1].state != "RUNNING", -item[0])

    chosen = sorted(enumerate(trials), key=importance)[:count_max]
    return [trial for _, trial in sorted(chosen, key=lambda item: item[0])]
