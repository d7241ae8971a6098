"""State API: lists, single rows and summaries of what the cluster has and does.

What it knows, and from whom: nodes and actors from the GCS, whole; tasks that have ended from this process's own record
(the last 10,000) and from what other owners told while somebody looked; counts of all tasks, waiting and running ones
included, from the owners, who are asked for them (``summarize_tasks``), as for their largest objects; processes that
hold an actor or lately ran a task; this driver's job and those of living actors. Not known yet: single waiting and
running tasks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

from raybook.api import get_runtime_context, nodes, placement_group_table, timeline
from raybook.api import list_actors as actor_rows
from raybook.api.context import started_engine
from raybook.api.observed import LOOK_S, fact_rows
from raybook.base.facts import ACTOR_ALIVE, TASK_CANCELLED, TASK_FAILED, TASK_FINISHED
from raybook.base.ids import is_actor_call
from raybook.util.state.common import (
    LIMIT_DEFAULT,
    LIMIT_MAX,
    ActorState,
    Filter,
    JobState,
    NodeState,
    ObjectState,
    PlacementGroupState,
    TaskState,
    WorkerState,
    select,
)
from raybook.util.state.exception import RayStateApiException

Filters = Sequence[Filter] | None

SETTLE_S = 0.03
"""How long to wait for what has just ended to be in this process's record."""


def list_actors(
    address: str | None = None,
    filters: Filters = None,
    limit: int = LIMIT_DEFAULT,
    timeout: int = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[ActorState]:
    """The actors, dead ones included as long as they are remembered. One round trip."""
    _check_address(address)
    return select(ActorState, _actors(), filters, limit, detail)


def list_nodes(
    address: str | None = None,
    filters: Filters = None,
    limit: int = LIMIT_DEFAULT,
    timeout: int = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[NodeState]:
    """The nodes, dead ones included. One round trip."""
    _check_address(address)
    return select(NodeState, _nodes(), filters, limit, detail)


def list_tasks(
    address: str | None = None,
    filters: Filters = None,
    limit: int = LIMIT_DEFAULT,
    timeout: int = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[TaskState]:
    """Tasks and actor calls that have ended, newest first: all recent ones of this process, and of others what they
    told. Waiting and running ones are only counted, by ``summarize_tasks``. Cost: 30 ms."""
    _check_address(address)
    return select(TaskState, _tasks(), filters, limit, detail)


def list_workers(
    address: str | None = None,
    filters: Filters = None,
    limit: int = LIMIT_DEFAULT,
    timeout: int = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[WorkerState]:
    """This driver and the processes that hold an actor or lately ran one of the tasks that ``list_tasks`` knows; other
    idle processes are not known here."""
    _check_address(address)
    return select(WorkerState, _workers(), filters, limit, detail)


def list_jobs(
    address: str | None = None,
    filters: Filters = None,
    limit: int = LIMIT_DEFAULT,
    timeout: int = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[JobState]:
    """This driver's job, and those that living actors (detached ones aside) belong to: all are running."""
    _check_address(address)
    return select(JobState, _jobs(), filters, limit, detail)


def list_placement_groups(
    address: str | None = None,
    filters: Filters = None,
    limit: int = LIMIT_DEFAULT,
    timeout: int = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[PlacementGroupState]:
    """The placement groups, removed ones included as long as they are remembered. One round trip."""
    _check_address(address)
    rows = [_placement_group(row) for row in placement_group_table().values()]
    return select(PlacementGroupState, rows, filters, limit, detail)


def list_objects(
    address: str | None = None,
    filters: Filters = None,
    limit: int = LIMIT_DEFAULT,
    timeout: int = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[ObjectState]:
    """The 50 largest objects of each process that lie in a store, the largest first. Looks for 0.4 s, because owners tell
    of them only when somebody looks; what lies in a process's own memory is left out (``raybook.memory_summary``)."""
    _check_address(address)
    rows = sorted(fact_rows("object", look_s=LOOK_S)["object"], key=lambda row: -row.get("size_bytes", 0))
    found = [ObjectState(row["object_id"], row.get("size_bytes", 0), row.get("owner_pid")) for row in rows]
    return select(ObjectState, found, filters, limit, detail)


def get_actor(id: str, address: str | None = None, timeout: int = 30, _explain: bool = False) -> ActorState | None:
    """The actor of this id, in detail; None when there is none."""
    return _only(list_actors(address, [("actor_id", "=", id)], detail=True))


def get_node(id: str, address: str | None = None, timeout: int = 30, _explain: bool = False) -> NodeState | None:
    """The node of this id, in detail; None when there is none."""
    return _only(list_nodes(address, [("node_id", "=", id)], detail=True))


def get_task(id: Any, address: str | None = None, timeout: int = 30, _explain: bool = False) -> TaskState | None:
    """The task of this id (or that makes this ObjectRef), in detail; None when nothing is known of it."""
    wanted = id if isinstance(id, str) else id.task_id().hex()
    return _only(list_tasks(address, [("task_id", "=", wanted)], detail=True))


def get_placement_group(
    id: str, address: str | None = None, timeout: int = 30, _explain: bool = False
) -> PlacementGroupState | None:
    """The placement group of this id, in detail; None when nothing is known of it."""
    return _only(list_placement_groups(address, [("placement_group_id", "=", id)], detail=True))


def get_worker(id: str, address: str | None = None, timeout: int = 30, _explain: bool = False) -> WorkerState | None:
    """The process of this id; None when nothing is known of it."""
    return _only(list_workers(address, [("worker_id", "=", id)], detail=True))


def get_job(id: str, address: str | None = None, timeout: int = 30, _explain: bool = False) -> JobState | None:
    """The job of this id; None when nothing is known of it."""
    return _only(list_jobs(address, [("job_id", "=", id)], detail=True))


def _placement_group(row: dict[str, Any]) -> PlacementGroupState:
    nodes_of = row["bundles_to_node_id"]
    return PlacementGroupState(
        placement_group_id=row["placement_group_id"],
        name=row["name"],
        creator_job_id=row["creator_job_id"],
        state=row["state"],
        bundles=[
            {"bundle_index": index, "resources": amounts, "node_id": nodes_of[index]}
            for index, amounts in row["bundles"].items()
        ],
        is_detached=row["is_detached"],
        stats=row["stats"],
        waiting_for=row["waiting_for"] or row["removed_because"],
    )


def summarize_actors(
    address: str | None = None, timeout: int = 30, raise_on_missing_output: bool = True, _explain: bool = False
) -> dict[str, Any]:
    """Actors of each class by state: ``{"cluster": {"summary": {class: {"state_counts": ...}}, ...}}``."""
    summary: dict[str, Any] = {}
    total = 0
    for actor in list_actors(address, limit=LIMIT_MAX):
        entry = summary.setdefault(actor.class_name, {"class_name": actor.class_name, "state_counts": {}})
        entry["state_counts"][actor.state] = entry["state_counts"].get(actor.state, 0) + 1
        total += 1
    return {"cluster": {"summary": summary, "total_actors": total, "summary_by": "class"}}


def summarize_tasks(
    address: str | None = None, timeout: int = 30, raise_on_missing_output: bool = True, _explain: bool = False
) -> dict[str, Any]:
    """Tasks and actor calls of each function by state, of every owner that lives. Looks for 0.4 s, because owners count
    for themselves and tell when somebody looks."""
    _check_address(address)
    states = {
        "pending": "PENDING_NODE_ASSIGNMENT",
        "running": "RUNNING",
        "finished": "FINISHED",
        "failed": "FAILED",
        "cancelled": "FAILED",
    }
    classes = {actor["class_name"] for actor in actor_rows()}
    summary: dict[str, Any] = {}
    totals = {"NORMAL_TASK": 0, "ACTOR_TASK": 0}
    for row in fact_rows("task_group", look_s=LOOK_S)["task_group"]:
        name = row["name"]
        kind = "ACTOR_TASK" if name.partition(".")[0] in classes else "NORMAL_TASK"
        entry = summary.setdefault(name, {"func_or_class_name": name, "type": kind, "state_counts": {}})
        for ours, theirs in states.items():
            if count := row.get(ours, 0):
                entry["state_counts"][theirs] = entry["state_counts"].get(theirs, 0) + count
                totals[kind] += count
    return {
        "cluster": {
            "summary": summary,
            "total_tasks": totals["NORMAL_TASK"],
            "total_actor_tasks": totals["ACTOR_TASK"],
            "total_actor_scheduled": sum(actor["state"] == ACTOR_ALIVE for actor in actor_rows()),
            "summary_by": "func_name",
        }
    }


def summarize_objects(
    address: str | None = None, timeout: int = 30, raise_on_missing_output: bool = True, _explain: bool = False
) -> dict[str, Any]:
    """How many objects the stores hold and how much room they take, in MiB. By call site is not known yet: ``summary``
    is empty. At most one report period old."""
    _check_address(address)
    rows = fact_rows("store")["store"]
    return {
        "cluster": {
            "summary": {},
            "total_objects": sum(row.get("objects", 0) for row in rows),
            "total_size_mb": sum(row.get("used_bytes", 0) for row in rows) / 2**20,
            "summary_by": "callsite",
        }
    }


# Rows.


def _actors() -> list[ActorState]:
    found = [
        ActorState(
            actor_id=row["actor_id"],
            class_name=row["class_name"],
            state=row["state"],
            job_id=row["job_id"],
            name=row["name"],
            node_id=row["node_id"] or None,
            pid=row["pid"],
            ray_namespace=row["ray_namespace"],
            required_resources=row["required_resources"],
            death_cause=row["death_cause"] or None,
            is_detached=row["is_detached"],
            num_restarts=row["num_restarts"],
            waiting_for=row["waiting_for"] or None,
        )
        for row in actor_rows()
    ]
    return sorted(found, key=lambda actor: actor.actor_id)


def _nodes() -> list[NodeState]:
    found = [
        NodeState(
            node_id=row["NodeID"],
            node_ip=row["NodeManagerAddress"],
            is_head_node=row["IsHeadNode"],
            state="ALIVE" if row["Alive"] else "DEAD",
            state_message=row["DeathReasonMessage"] or None,
            node_name=row["NodeManagerHostname"],
            resources_total=row["Resources"],
            labels=row["Labels"],
        )
        for row in nodes()
    ]
    return sorted(found, key=lambda node: node.node_id)


def _tasks() -> list[TaskState]:
    known = {row["task_id"]: _task(row, None) for row in fact_rows("task")["task"]}
    own_job = get_runtime_context().get_job_id()
    # The record is kept up when the I/O thread has a moment, within 20 ms after it was busy.
    time.sleep(SETTLE_S)
    for event in reversed(timeline() or ()):
        row = {
            "task_id": event["args"]["task_id"],
            "name": event["name"],
            "state": event["args"]["state"],
            "node_id": event["pid"],
            "worker_pid": int(event["tid"].rpartition(" ")[2]),
            "started_ms": int(event["ts"] / 1000),
            "ended_ms": int((event["ts"] + event["dur"]) / 1000),
        }
        known[row["task_id"]] = _task(row, own_job)
    return sorted(known.values(), key=lambda task: -(task.end_time_ms or 0))


def _task(row: dict[str, Any], job_id: str | None) -> TaskState:
    state = row["state"]
    return TaskState(
        task_id=row["task_id"],
        attempt_number=0,
        name=row["name"],
        state=TASK_FINISHED if state == TASK_FINISHED else TASK_FAILED,
        job_id=job_id,
        type="ACTOR_TASK" if is_actor_call(bytes.fromhex(row["task_id"])) else "NORMAL_TASK",
        func_or_class_name=row["name"],
        node_id=row.get("node_id"),
        worker_pid=row.get("worker_pid") or None,
        error_type="TASK_CANCELLED" if state == TASK_CANCELLED else None,
        start_time_ms=row.get("started_ms"),
        end_time_ms=row.get("ended_ms"),
        error_message=row.get("error"),
    )


def _workers() -> list[WorkerState]:
    context = get_runtime_context()
    here = context.get_node_id()
    addresses = {node.node_id: node.node_ip for node in _nodes()}
    found = {
        os.getpid(): WorkerState(context.get_worker_id(), True, "DRIVER", None, here, addresses.get(here), os.getpid())
    }
    living = [(actor.pid, actor.node_id) for actor in _actors() if actor.state == ACTOR_ALIVE]
    for pid, node_id in [*living, *((task.worker_pid, task.node_id) for task in _tasks())]:
        if pid and pid not in found and (node_id != here or os.path.exists(f"/proc/{pid}")):
            found[pid] = WorkerState(None, True, "WORKER", None, node_id, addresses.get(node_id or ""), pid)
    return list(found.values())


def _jobs() -> list[JobState]:
    own = get_runtime_context().get_job_id()
    others = {actor.job_id for actor in _actors() if actor.state == ACTOR_ALIVE and not actor.is_detached} - {own}
    return [JobState(job_id, "DRIVER", "RUNNING", None) for job_id in [own, *sorted(others)]]


def _only(rows: Iterable[Any]) -> Any:
    return next(iter(rows), None)


def _check_address(address: str | None) -> None:
    """RuntimeError when nothing was started; RayStateApiException for another cluster than this process's."""
    engine = started_engine()
    if address not in (None, "auto", engine.address, engine.gcs_address):
        raise RayStateApiException(
            f"This process is connected to {engine.address}, and cannot ask the cluster at {address!r}. Connect to "
            "that one with raybook.init(address=...), and leave the address out here."
        )
