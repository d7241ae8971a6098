"""From facts to a view: sums, sorting, caps. Pure; renderers only lay out what is decided here.

Amounts of resources in facts are user numbers (1.0 is one CPU, bytes for memory).
"""

from __future__ import annotations

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
from raybook.observe.fields import ERROR_LENGTH_MAX, NAME_LENGTH_MAX, amounts_of, integer_of, number_of, text_of
from raybook.observe.format import shortened
from raybook.observe.mirror import Tables
from raybook.observe.progress import progress_bars
from raybook.observe.schema import (
    ActorRow,
    GpuRow,
    HolderRow,
    NodeRow,
    ObjectRow,
    ResourceRow,
    ScalingRow,
    StoreRow,
    TaskGroupRow,
    TaskRow,
    View,
)
from raybook.observe.trials import experiments_of

_TASK_ORDER = {TASK_RUNNING: 0, TASK_FAILED: 1, TASK_PENDING: 2, TASK_CANCELLED: 3, TASK_FINISHED: 4}
_ACTOR_ORDER = {ACTOR_RESTARTING: 0, ACTOR_PENDING: 1, ACTOR_ALIVE: 2, ACTOR_DEAD: 3}
_RESOURCE_ORDER = {"CPU": 0, "GPU": 1, "memory": 2, "object_store_memory": 3}


SCALING_LINES_MAX = 4
HOLDERS_MAX = 24
"""Of one node: as many as a machine has GPUs and a few."""


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
    holders = _holders(tables)
    nodes = [_node(key, row, holders.get(key, [])) for key, row in tables.rows("node").items()]
    groups = _by_name([_task_group(key, row, rates) for key, row in tables.rows("task_group").items()])
    code = tables.rows("code")
    actors = [_actor(key, row, rates, code.get(key, {})) for key, row in tables.rows("actor").items()]
    stores = [_store(key, row) for key, row in tables.rows("store").items()]
    shown_actors = _livelier_actors(actors, caps)
    shown_groups = sorted(groups, key=_liveliest_first)[: caps.task_groups]
    bars, bars_hidden = progress_bars(tables, rates)
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
        experiments=experiments_of(tables, curves, now_ms, caps.experiments, caps.trials),
        scaling=_scaling(tables),
        progress=bars,
        progress_hidden=bars_hidden,
        moving=any(group.rate_per_s for group in groups)
        or any(actor.rate_per_s for actor in actors)
        or any(bar.rate_per_s for bar in bars),
    )


def _in_order_of(rows: list[Any], chosen: list[Any]) -> list[Any]:
    """The chosen rows in the order of ``rows``: a capped table must not shuffle while one looks at it."""
    wanted = {id(row) for row in chosen}
    return [row for row in rows if id(row) in wanted]


# Nodes and resources.


def _node(key: str, row: Row, holders: list[HolderRow]) -> NodeRow:
    total = row.get("resources_total") or {}
    available = row.get("resources_available") or {}
    resources = [
        ResourceRow(
            name=name, used=max(0.0, number_of(total, name) - number_of(available, name)), total=number_of(total, name)
        )
        for name in sorted(total, key=lambda name: (_RESOURCE_ORDER.get(name, 9), name))
        if not name.startswith("node:")
    ]
    return NodeRow(
        node_id=text_of(row, "node_id") or key,
        alive=bool(row.get("alive", True)),
        address=text_of(row, "address"),
        pid=integer_of(row, "pid"),
        resources=resources,
        cpu_percent=float(number_of(row, "cpu_percent")),
        memory_used_bytes=integer_of(row, "memory_used_bytes"),
        draining=text_of(row, "draining"),
        left=bool(row.get("left", False)),
        hostname=text_of(row, "hostname"),
        is_head=bool(row.get("is_head", False)),
        death=text_of(row, "death", length_max=ERROR_LENGTH_MAX),
        gpus=_gpus(row),
        holders=holders[:HOLDERS_MAX],
    )


def _gpus(row: Row) -> list[GpuRow]:
    found = row.get("gpus")
    gpus = [gpu for gpu in found if isinstance(gpu, dict)] if isinstance(found, list) else []
    return [
        GpuRow(
            index=text_of(gpu, "index") or "0",
            utilization=round(float(number_of(gpu, "utilization")), 2),
            memory_used_bytes=integer_of(gpu, "memory_used_bytes"),
            memory_total_bytes=integer_of(gpu, "memory_total_bytes"),
        )
        for gpu in gpus
    ]


def _holders(tables: Tables) -> dict[str, list[HolderRow]]:
    """Node → the living actors that hold something of it, those with GPUs first."""
    found: dict[str, list[HolderRow]] = {}
    for key, row in tables.rows("actor").items():
        held = amounts_of(row, "resources")
        if row.get("state") == ACTOR_ALIVE and any(held.values()):
            holder = HolderRow(
                name=text_of(row, "name", "class_name"),
                actor_id=key,
                cell=text_of(row, "cell"),
                resources=held,
            )
            found.setdefault(text_of(row, "node_id"), []).append(holder)
    for holders in found.values():
        holders.sort(key=lambda holder: -holder.resources.get("GPU", 0.0))
    return found


def _summed(nodes: Any) -> list[ResourceRow]:
    totals: dict[str, list[float]] = {}
    for node in nodes:
        for resource in node.resources:
            entry = totals.setdefault(resource.name, [0.0, 0.0])
            entry[0] += resource.used
            entry[1] += resource.total
    ordered = sorted(totals, key=lambda name: (_RESOURCE_ORDER.get(name, 9), name))
    return [ResourceRow(name=name, used=round(totals[name][0], 4), total=totals[name][1]) for name in ordered]


def _scaling(tables: Tables) -> ScalingRow | None:
    rows = list(tables.rows("autoscaler").values())
    if not rows:
        return None
    (row,) = rows[:1]
    failures = [*([f"The provider: {row['trouble']}"] if row.get("trouble") else []), *_texts(row, "failures")]
    return ScalingRow(
        bounds=_texts(row, "bounds"),
        pending=_texts(row, "pending"),
        decision=next(iter(reversed(_texts(row, "decisions"))), ""),
        unmet=_texts(row, "unmet"),
        failures=failures,
        notes=_texts(row, "notes"),
    )


def _texts(row: Row, field: str) -> list[str]:
    """The last lines of a field."""
    found = row.get(field)
    lines = found if isinstance(found, list) else []
    return [shortened(str(line), ERROR_LENGTH_MAX) for line in lines[-SCALING_LINES_MAX:]]


# Tasks.


def _task_group(key: str, row: Row, rates: Mapping[str, float]) -> TaskGroupRow:
    return TaskGroupRow(
        name=text_of(row, "name") or shortened(key, NAME_LENGTH_MAX),
        pending=integer_of(row, "pending"),
        running=integer_of(row, "running"),
        finished=integer_of(row, "finished"),
        failed=integer_of(row, "failed"),
        cancelled=integer_of(row, "cancelled"),
        mean_us=float(number_of(row, "mean_us")),
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
        key=lambda item: (_TASK_ORDER.get(str(item[1].get("state")), 5), -number_of(item[1], "submitted_ms")),
    )
    return [_task(key, row, now_ms) for key, row in ordered]


def _task(key: str, row: Row, now_ms: float) -> TaskRow:
    started, ended = number_of(row, "started_ms"), number_of(row, "ended_ms")
    return TaskRow(
        task_id=text_of(row, "task_id") or key,
        name=text_of(row, "name"),
        state=text_of(row, "state"),
        worker_pid=integer_of(row, "worker_pid"),
        node_id=text_of(row, "node_id"),
        duration_ms=max(0.0, (ended or now_ms) - started) if started else None,
        error=text_of(row, "error", length_max=ERROR_LENGTH_MAX),
        started_ms=float(started),
        ended_ms=float(ended),
        cell=text_of(row, "cell"),
    )


# Actors and objects.


def _actor(key: str, row: Row, rates: Mapping[str, float], code: Row) -> ActorRow:
    """code: what the notebook that made it says of its code; it says nothing of what is as new as its own."""
    is_dead = row.get("state") == ACTOR_DEAD
    return ActorRow(
        actor_id=text_of(row, "actor_id") or key,
        class_name=text_of(row, "class_name"),
        state=text_of(row, "state"),
        name=text_of(row, "name"),
        pid=integer_of(row, "pid"),
        node_id=text_of(row, "node_id"),
        restarts=integer_of(row, "restarts"),
        calls_pending=integer_of(row, "calls_pending") if "calls_pending" in row else None,
        calls_done=integer_of(row, "calls_done") if "calls_done" in row else None,
        waiting=text_of(row, "waiting", length_max=ERROR_LENGTH_MAX),
        rate_per_s=round(rates.get("actor:" + key, 0.0), 1),
        cell=text_of(row, "cell"),
        stale="" if is_dead else text_of(code, "stale", length_max=ERROR_LENGTH_MAX),
        death=text_of(row, "death", length_max=ERROR_LENGTH_MAX),
        resources=amounts_of(row, "resources"),
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
            object_id=text_of(row, "object_id") or key,
            size_bytes=integer_of(row, "size_bytes"),
            owner_pid=integer_of(row, "owner_pid"),
            name=text_of(row, "name"),
            kind=text_of(row, "kind"),
            references=integer_of(row, "references"),
            borrowers=integer_of(row, "borrowers"),
            holders=_texts(row, "holders"),
            cell=text_of(row, "cell"),
        )
        for key, row in tables.rows("object").items()
    ]
    return sorted(objects, key=lambda item: (-item.size_bytes, item.object_id))
