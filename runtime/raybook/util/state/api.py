"""State API: lists, single rows and summaries of what the cluster has and does.

Who is asked: the GCS for nodes, actors, placement groups and jobs; raylets for processes; the owners, each for its own,
for tasks and objects, at the moment of the question. An owner remembers its last 10,000 ended tasks; one that is dead
has taken its record along. A process whose code holds the interpreter for a second is left out, with a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from raybook.api.context import started_engine
from raybook.api.survey import Surveyed
from raybook.util.state import logs, sources
from raybook.util.state.common import (
    LIMIT_DEFAULT,
    LIMIT_MAX,
    ActorState,
    ClusterEventState,
    Filter,
    JobState,
    NodeState,
    ObjectState,
    PlacementGroupState,
    RuntimeEnvState,
    TaskState,
    WorkerState,
    select,
)
from raybook.util.state.exception import RayStateApiException

logger = logging.getLogger(__name__)

Filters = Sequence[Filter] | None


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
    return select(ActorState, sources.actors(), filters, limit, detail)


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
    return select(NodeState, sources.cluster_nodes(), filters, limit, detail)


def list_tasks(
    address: str | None = None,
    filters: Filters = None,
    limit: int = LIMIT_DEFAULT,
    timeout: int = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[TaskState]:
    """Tasks and actor calls: what waits and runs, then what has ended, the latest first. Cost: a few ms, 10 µs a row."""
    _check_address(address)
    rows, survey = sources.tasks()
    _complain(survey, raise_on_missing_output)
    return select(TaskState, rows, filters, limit, detail)


def list_workers(
    address: str | None = None,
    filters: Filters = None,
    limit: int = LIMIT_DEFAULT,
    timeout: int = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[WorkerState]:
    """Drivers that are here, and the worker processes of living nodes. One round trip to each raylet."""
    _check_address(address)
    return select(WorkerState, sources.workers(), filters, limit, detail)


def list_jobs(
    address: str | None = None,
    filters: Filters = None,
    limit: int = LIMIT_DEFAULT,
    timeout: int = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[JobState]:
    """Drivers' jobs, ended ones as long as they are remembered, oldest first. One round trip."""
    _check_address(address)
    return select(JobState, sources.jobs(), filters, limit, detail)


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
    return select(PlacementGroupState, sources.placement_groups(), filters, limit, detail)


def list_objects(
    address: str | None = None,
    filters: Filters = None,
    limit: int = LIMIT_DEFAULT,
    timeout: int = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[ObjectState]:
    """Objects that processes refer to, one row for each process that does, the largest first. Cost: as ``list_tasks``."""
    _check_address(address)
    rows, survey = sources.objects()
    _complain(survey, raise_on_missing_output)
    return select(ObjectState, rows, filters, limit, detail)


def list_runtime_envs(
    address: str | None = None,
    filters: Filters = None,
    limit: int = LIMIT_DEFAULT,
    timeout: int = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[RuntimeEnvState]:
    """Runtime environments by node: whether they could be set up, and how long that took. One round trip."""
    _check_address(address)
    return select(RuntimeEnvState, sources.runtime_envs(), filters, limit, detail)


def list_cluster_events(
    address: str | None = None,
    filters: Filters = None,
    limit: int = LIMIT_DEFAULT,
    timeout: int = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[ClusterEventState]:
    """What happened lately: workers and nodes that died, environments that failed; the latest first. Two round trips."""
    _check_address(address)
    return select(ClusterEventState, sources.cluster_events(), filters, limit, detail)


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


def get_objects(id: str, address: str | None = None, timeout: int = 30, _explain: bool = False) -> list[ObjectState]:
    """Everything that is known of the object of this id: a row for each process that refers to it."""
    return list_objects(address, [("object_id", "=", id)], LIMIT_MAX, detail=True)


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
    """Tasks and actor calls of each function by state: all that ``list_tasks`` knows."""
    _check_address(address)
    rows, survey = sources.tasks()
    _complain(survey, raise_on_missing_output)
    summary: dict[str, Any] = {}
    totals = {"NORMAL_TASK": 0, "ACTOR_TASK": 0}
    for task in rows:
        name = task.name
        entry = summary.setdefault(
            name, {"func_or_class_name": task.func_or_class_name, "type": task.type, "state_counts": {}}
        )
        entry["state_counts"][task.state] = entry["state_counts"].get(task.state, 0) + 1
        totals[task.type] = totals.get(task.type, 0) + 1
    return {
        "cluster": {
            "summary": summary,
            "total_tasks": totals["NORMAL_TASK"],
            "total_actor_tasks": totals["ACTOR_TASK"],
            "total_actor_scheduled": totals.get("ACTOR_CREATION_TASK", 0),
            "summary_by": "func_name",
        }
    }


def summarize_objects(
    address: str | None = None, timeout: int = 30, raise_on_missing_output: bool = True, _explain: bool = False
) -> dict[str, Any]:
    """Objects and their sizes (MiB), summed up by call site, in Ray's form: what ``list_objects`` knows."""
    _check_address(address)
    rows, survey = sources.objects()
    _complain(survey, raise_on_missing_output)
    summary: dict[str, Any] = {}
    for row in rows:
        counted = {"total_objects": 0, "total_size_mb": 0.0, "task_state_counts": {}, "ref_type_counts": {}}
        entry = summary.setdefault(row.call_site or "disabled", counted)
        entry["total_objects"] += 1
        entry["total_size_mb"] += max(0, row.object_size) / 2**20
        for counts, key in (
            (entry["task_state_counts"], row.task_status),
            (entry["ref_type_counts"], row.reference_type),
        ):
            counts[key] = counts.get(key, 0) + 1
    # An object is one, however many processes refer to it.
    sizes = {row.object_id: max(0, row.object_size) for row in rows}
    return {
        "cluster": {
            "summary": summary,
            "total_objects": len(sizes),
            "total_size_mb": sum(sizes.values()) / 2**20,
            "callsite_enabled": True,
            "summary_by": "callsite",
        }
    }


def list_logs(
    address: str | None = None,
    node_id: str | None = None,
    node_ip: str | None = None,
    glob_filter: str | None = None,
    timeout: int = 30,
) -> dict[str, list[str]]:
    """Names of a node's log files, by who writes them; of this node, unless told otherwise. Only nodes of this machine
    have them here: RayStateApiException for others."""
    _check_address(address)
    return logs.grouped(logs.log_files(node_id, node_ip), glob_filter or "*")


def get_log(
    address: str | None = None,
    node_id: str | None = None,
    node_ip: str | None = None,
    filename: str | None = None,
    actor_id: str | None = None,
    task_id: str | None = None,
    pid: int | None = None,
    follow: bool = False,
    tail: int = -1,
    timeout: int = 30,
    suffix: str = "out",
    encoding: str | None = "utf-8",
    errors: str = "strict",
    submission_id: str | None = None,
    attempt_number: int = 0,
    _interval: float | None = None,
    filter_ansi_code: bool = False,
) -> Iterator[Any]:
    """Lines of one log: of a file by its name, or of a living worker by its pid, its actor or its task; ``follow`` waits
    for more. As ``list_logs``, of this machine. A job's output is the jobs API's."""
    _check_address(address)
    if submission_id is not None:
        raise RayStateApiException("The output of a submitted job comes from JobSubmissionClient().get_job_logs(id).")
    path = logs.find_file(logs.log_files(node_id, node_ip), filename, actor_id, task_id, pid, suffix)
    return logs.decoded(logs.lines_of(path, tail, follow, filter_ansi_code), encoding, errors)


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


def _complain(survey: Surveyed, as_error: bool) -> None:
    """Say what is missing: as an error when all that is missing was not told, else as a warning."""
    if survey.silent:
        pids = ", ".join(str(pid) for pid in survey.silent[:10])
        logger.warning(
            "%d processes did not answer within a second, because their code holds the interpreter (pid %s): what they "
            "submitted is left out.",
            len(survey.silent),
            pids,
        )
    if survey.left_out:
        text = (
            f"{survey.left_out} rows are beyond the {LIMIT_MAX} that each process tells of at once, and are left out."
        )
        if as_error and survey.left_out and not survey.rows:
            raise RayStateApiException(text)
        logger.warning("%s", text)
