"""Sources: where the state API's rows come from, each as Ray's record of it. One round trip each; see ``api`` for who
is asked."""

from __future__ import annotations

import os
import time
from typing import Any

from raybook.api import get_runtime_context, nodes, placement_group_table
from raybook.api import list_actors as actor_rows
from raybook.api.inventory import job_rows, waiting_lines, worker_rows
from raybook.api.memory_table import reference_type
from raybook.api.observed import fact_rows
from raybook.api.survey import Surveyed, surveyed_objects, surveyed_tasks
from raybook.base.facts import (
    ACTOR_DEAD,
    ACTOR_PENDING,
    TASK_FAILED,
    TASK_FINISHED,
    TASK_PENDING_ARGS,
    TASK_PENDING_NODE,
    TASK_RUNNING,
    TASK_SUBMITTED,
)
from raybook.base.ids import is_actor_call
from raybook.base.names import short
from raybook.util.state.common import (
    ActorState,
    ClusterEventState,
    JobState,
    NodeState,
    ObjectState,
    PlacementGroupState,
    RuntimeEnvState,
    TaskState,
    WorkerState,
)


def actors() -> list[ActorState]:
    """All that the GCS remembers, by id."""
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
            death_cause=_death_cause(row) if row["death_cause"] else None,
            is_detached=row["is_detached"],
            num_restarts=row["num_restarts"],
            repr_name="",
            label_selector={},
            num_restarts_due_to_lineage_reconstruction=0,
            num_restarts_due_to_node_preemption=0,
            serialized_runtime_env="{}",
            waiting_for=row["waiting_for"] or None,
        )
        for row in actor_rows()
    ]
    return sorted(found, key=lambda actor: actor.actor_id)


def cluster_nodes() -> list[NodeState]:
    """All that the GCS remembers, by id."""
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


def placement_groups() -> list[PlacementGroupState]:
    """All that the GCS remembers."""
    return [_placement_group(row) for row in placement_group_table().values()]


def tasks() -> tuple[list[TaskState], Surveyed]:
    """Of every living owner: what waits and runs, then what has ended, the latest first; then the making of actors."""
    survey = surveyed_tasks()
    worker_ids = {row["pid"]: row["worker_id"] for row in worker_rows()}
    found = [_task(row, worker_ids) for row in survey.rows]
    found.sort(key=lambda task: -(task.end_time_ms or 2**62))
    return [*found, *(_creation(row) for row in actor_rows())], survey


def workers() -> list[WorkerState]:
    """The processes of living nodes: workers, and drivers that are still here."""
    addresses = {node.node_id: node.node_ip for node in cluster_nodes()}
    found = []
    for job in job_rows():
        if not job["ended_ms"]:
            node = job["node_id"]
            worker_id = get_runtime_context().get_worker_id() if job["pid"] == os.getpid() else None
            found.append(WorkerState(worker_id, True, "DRIVER", None, node, addresses.get(node), job["pid"]))
    for row in worker_rows():
        if row["pid"]:
            node = row["node_id"]
            found.append(WorkerState(row["worker_id"], True, "WORKER", None, node, addresses.get(node), row["pid"]))
    return found


def jobs() -> list[JobState]:
    """Drivers' work, ended work included as long as the GCS remembers it, oldest first."""
    return [
        JobState(
            job_id=row["job_id"],
            type="DRIVER",
            status="SUCCEEDED" if row["ended_ms"] else "RUNNING",
            entrypoint=row["entrypoint"] or None,
            start_time=row["started_ms"],
            end_time=row["ended_ms"] or None,
            driver_info={"id": row["job_id"], "pid": str(row["pid"])},
            driver_node_id=row["node_id"],
            message=row["reason"] or None,
        )
        for row in job_rows()
    ]


def objects() -> tuple[list[ObjectState], Surveyed]:
    """One row an object and process that refers to it, the largest first."""
    survey = surveyed_objects()
    addresses = {node.node_id: node.node_ip for node in cluster_nodes()}
    drivers = {job["pid"] for job in job_rows()}
    found = [
        ObjectState(
            object_id=row["object_id"],
            object_size=row["size_bytes"] if row["kind"] != "PENDING" else -1,
            pid=row["owner_pid"],
            reference_type=reference_type(row),
            call_site=row["call_site"] or "disabled",
            task_status="NIL" if row["kind"] != "PENDING" else TASK_PENDING_NODE,
            type="DRIVER" if row["owner_pid"] in drivers else "WORKER",
            ip=addresses.get(row["owner_node_id"]),
        )
        for row in survey.rows
    ]
    found.sort(key=lambda row: (-row.object_size, row.object_id))
    return found, survey


def runtime_envs() -> list[RuntimeEnvState]:
    """The latest that nodes have told of, the longest unchanged first."""
    return [
        RuntimeEnvState(
            runtime_env=row["runtime_env"],
            success=row["success"],
            creation_time_ms=row["creation_time_ms"],
            node_id=row["node_id"],
            error=row["error"] or None,
        )
        for row in fact_rows("runtime_env")["runtime_env"]
    ]


def cluster_events() -> list[ClusterEventState]:
    """What nodes have told of, the latest first, and then nodes that died (when is not known) and what waits in vain
    now."""
    told = [
        ClusterEventState(
            row["severity"],
            str(row["time_ms"]),
            row["source_type"],
            row["message"],
            row["event_id"],
            row["custom_fields"],
        )
        for row in fact_rows("cluster_event")["cluster_event"]
    ]
    told.sort(key=lambda event: event.time, reverse=True)
    died = [
        ClusterEventState("ERROR", "", "GCS", f"Node {node.node_id} died: {node.state_message}", node.node_id, {})
        for node in cluster_nodes()
        if node.state == "DEAD"
    ]
    waiting = [
        ClusterEventState("WARNING", str(int(time.time() * 1000)), "GCS", text, f"waiting-{index}", {})
        for index, text in enumerate(waiting_lines())
    ]
    return told + died + waiting


def _placement_group(row: dict[str, Any]) -> PlacementGroupState:
    nodes_of = row["bundles_to_node_id"]
    return PlacementGroupState(
        placement_group_id=row["placement_group_id"],
        name=row["name"],
        creator_job_id=row["creator_job_id"],
        state=row["state"],
        bundles=[
            {
                "bundle_id": {"placement_group_id": row["placement_group_id"], "bundle_index": index},
                "unit_resources": amounts,
                "node_id": nodes_of.get(index) or None,
            }
            for index, amounts in row["bundles"].items()
        ],
        is_detached=row["is_detached"],
        stats=row["stats"],
        waiting_for=row["waiting_for"] or row["removed_because"],
    )


def _task(row: dict[str, Any], worker_ids: dict[int, str]) -> TaskState:
    state = row["state"]
    pid = row.get("worker_pid") or None
    return TaskState(
        task_id=row["task_id"],
        attempt_number=row["attempt"],
        name=row["name"],
        # Sent ahead to a worker that is busy: it waits there as it would wait here.
        state=TASK_PENDING_NODE if state == TASK_SUBMITTED else state,
        job_id=row["job_id"] or None,
        type="ACTOR_TASK" if row["actor_id"] or is_actor_call(bytes.fromhex(row["task_id"])) else "NORMAL_TASK",
        func_or_class_name=row.get("function") or row["name"],
        node_id=row.get("node_id") or (row["owner_node_id"] if row.get("worker_pid") else None),
        worker_pid=pid,
        error_type=row.get("error_type"),
        actor_id=row["actor_id"] or None,
        parent_task_id=row["parent"] or None,
        worker_id=row.get("worker_id") or (worker_ids.get(pid) if pid else None),
        creation_time_ms=row.get("created_ms") or None,
        start_time_ms=row.get("started_ms"),
        end_time_ms=row.get("ended_ms"),
        error_message=row.get("error_message"),
        call_site=row["call_site"] or None,
        events=_events(row),
        language="PYTHON",
    )


def _events(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of a task whose time is known, as far as it has come."""
    steps = [
        (TASK_PENDING_ARGS, row.get("created_ms")),
        (TASK_RUNNING, row.get("started_ms")),
        (row["state"], row.get("ended_ms")),
    ]
    return [{"state": state, "created_ms": ms} for state, ms in steps if ms]


def _creation(row: dict[str, Any]) -> TaskState:
    """The making of an actor, as a task."""
    name = f"{short(row['class_name'])}.__init__"
    failed = row["state"] == ACTOR_DEAD and _died_in_init(row)
    waits = row["state"] == ACTOR_PENDING
    return TaskState(
        task_id=row["actor_id"],
        attempt_number=row["num_restarts"],
        name=f"{row['name']}:{name}" if row["name"] else name,
        state=TASK_PENDING_NODE if waits else TASK_FAILED if failed else TASK_FINISHED,
        job_id=row["job_id"],
        type="ACTOR_CREATION_TASK",
        func_or_class_name=name,
        node_id=row["node_id"] or None,
        worker_pid=row["pid"] or None,
        error_type="TASK_EXECUTION_EXCEPTION" if failed else None,
        actor_id=row["actor_id"],
        error_message=row["death_cause"] if failed else None,
        required_resources=row["required_resources"],
        language="PYTHON",
    )


_REASONS = (
    ("killed by `ray.kill`", "RAY_KILL"),
    ("all references to the actor were removed", "OUT_OF_SCOPE"),
    ("its owner has died", "OWNER_DIED"),
    ("its job has ended", "OWNER_DIED"),
    ("its node has died", "NODE_DIED"),
    ("its worker process has died", "WORKER_DIED"),
)
"""Phrases of a death's text, and Ray's word for it."""


def _died_in_init(row: dict[str, Any]) -> bool:
    return row["death_cause"].startswith("ray::")


def _death_cause(row: dict[str, Any]) -> dict[str, Any]:
    text = row["death_cause"]
    about = {
        "error_message": text,
        "actor_id": row["actor_id"],
        "class_name": row["class_name"],
        "name": row["name"],
        "pid": row["pid"],
        "ray_namespace": row["ray_namespace"],
    }
    if _died_in_init(row):
        return {"creation_task_failure_context": about}
    reason = next((word for phrase, word in _REASONS if phrase in text), "UNSPECIFIED")
    return {"actor_died_error_context": {**about, "reason": reason, "never_started": not row["pid"]}}
