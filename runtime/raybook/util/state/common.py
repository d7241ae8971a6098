"""State records: one class for each kind of thing, with Ray's names for its fields, and the filters over them.

Knows nothing of where rows come from. A field that raybook does not know is None. Fields below the ``detail`` mark are
filled only when detail was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from typing import Any, TypeVar

from raybook.util.state.exception import InvalidRequest

LIMIT_DEFAULT = 100
LIMIT_MAX = 10_000
DEFAULT_LIMIT = LIMIT_DEFAULT
RAY_MAX_LIMIT_FROM_API_SERVER = LIMIT_MAX

Filter = tuple[str, str, Any]
"""(field, "=" or "!=", value); values are compared as text, without regard to case."""


def detail_only() -> Any:
    """A field that is None unless detail was asked for."""
    return field(default=None, metadata={"detail": True})


@dataclass
class StateSchema:
    """A row. Its fields are attributes and, for older code, items."""

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self, name)
        except AttributeError:
            raise KeyError(name) from None

    def get(self, key: str, default: Any = None) -> Any:
        """The field, or ``default``."""
        return getattr(self, key, default)

    def asdict(self) -> dict[str, Any]:
        """The row as a plain dict."""
        return asdict(self)

    @classmethod
    def list_columns(cls, detail: bool = True) -> list[str]:
        """Names of the fields."""
        return [item.name for item in fields(cls) if detail or not item.metadata.get("detail")]

    @classmethod
    def filterable_columns(cls) -> set[str]:
        """Names of the fields that filters may use."""
        return set(cls.list_columns())

    def without_detail(self) -> None:
        """Empty the detail fields."""
        for item in fields(self):
            if item.metadata.get("detail"):
                setattr(self, item.name, None)


@dataclass
class ActorState(StateSchema):
    """An actor; state: PENDING_CREATION, ALIVE, RESTARTING or DEAD."""

    actor_id: str
    class_name: str
    state: str
    job_id: str
    name: str
    node_id: str | None
    pid: int
    ray_namespace: str
    required_resources: dict | None = detail_only()
    death_cause: dict | None = detail_only()
    """Of a dead one: ``creation_task_failure_context`` when ``__init__`` raised, else ``actor_died_error_context``; its
    ``error_message`` is for people, its ``reason`` a word."""
    is_detached: bool | None = detail_only()
    num_restarts: int | None = detail_only()
    placement_group_id: str | None = detail_only()
    repr_name: str | None = detail_only()
    call_site: str | None = detail_only()
    label_selector: dict | None = detail_only()
    fallback_strategy: list | None = detail_only()
    serialized_runtime_env: str | None = detail_only()
    num_restarts_due_to_lineage_reconstruction: int | None = detail_only()
    num_restarts_due_to_node_preemption: int | None = detail_only()
    waiting_for: str | None = detail_only()
    """Why it is not placed yet, for people."""


@dataclass
class NodeState(StateSchema):
    """A node; state: ALIVE or DEAD."""

    node_id: str
    node_ip: str
    is_head_node: bool
    state: str
    state_message: str | None
    node_name: str
    resources_total: dict
    labels: dict
    start_time_ms: int | None = detail_only()
    end_time_ms: int | None = detail_only()


@dataclass
class TaskState(StateSchema):
    """An attempt of a task or actor call; state: PENDING_ARGS_AVAIL, PENDING_NODE_ASSIGNMENT, RUNNING, FINISHED or FAILED.
    A task that was cancelled has FAILED with error type TASK_CANCELLED."""

    task_id: str
    attempt_number: int
    name: str
    state: str
    job_id: str | None
    type: str
    func_or_class_name: str
    node_id: str | None
    worker_pid: int | None
    error_type: str | None
    actor_id: str | None = None
    parent_task_id: str | None = None
    worker_id: str | None = None
    creation_time_ms: int | None = detail_only()
    start_time_ms: int | None = detail_only()
    end_time_ms: int | None = detail_only()
    error_message: str | None = detail_only()
    call_site: str | None = detail_only()
    """The notebook cell that submitted it."""
    language: str | None = detail_only()
    placement_group_id: str | None = detail_only()
    required_resources: dict | None = detail_only()
    label_selector: dict | None = detail_only()
    fallback_strategy: list | None = detail_only()
    runtime_env_info: dict | None = detail_only()
    task_log_info: dict | None = detail_only()
    events: list | None = detail_only()
    profiling_data: dict | None = detail_only()
    is_debugger_paused: bool | None = detail_only()


@dataclass
class WorkerState(StateSchema):
    """A process; worker_type: WORKER or DRIVER."""

    worker_id: str | None
    is_alive: bool
    worker_type: str
    exit_type: str | None
    node_id: str | None
    ip: str | None
    pid: int
    exit_detail: str | None = detail_only()
    worker_launch_time_ms: int | None = detail_only()
    worker_launched_time_ms: int | None = detail_only()
    start_time_ms: int | None = detail_only()
    end_time_ms: int | None = detail_only()
    debugger_port: int | None = detail_only()
    num_paused_threads: int | None = detail_only()


@dataclass
class PlacementGroupState(StateSchema):
    """A placement group; state: PENDING, CREATED, RESCHEDULING or REMOVED."""

    placement_group_id: str
    name: str
    creator_job_id: str
    state: str
    bundles: list[dict] | None = detail_only()
    is_detached: bool | None = detail_only()
    stats: dict | None = detail_only()
    topology_strategy: dict | None = detail_only()
    topology_assignments: dict | None = detail_only()
    waiting_for: str | None = detail_only()
    """Why it is not created yet, or was removed, for people."""


@dataclass
class ObjectState(StateSchema):
    """An object, as one process refers to it; object_size: bytes, -1 while there is no value."""

    object_id: str
    object_size: int
    pid: int | None
    reference_type: str | None = None
    call_site: str | None = None
    task_status: str | None = None
    type: str | None = None
    ip: str | None = None
    attempt_number: int = 0


@dataclass
class JobState(StateSchema):
    """One driver's work; status: RUNNING, or SUCCEEDED when its driver has left."""

    job_id: str
    type: str
    status: str
    entrypoint: str | None
    submission_id: str | None = None
    start_time: int | None = None
    end_time: int | None = None
    driver_info: dict | None = None
    driver_node_id: str | None = detail_only()
    message: str | None = detail_only()
    error_type: str | None = None
    metadata: dict | None = None
    runtime_env: dict | None = None
    driver_agent_http_address: str | None = detail_only()
    driver_exit_code: int | None = detail_only()


class StateResource(str, Enum):
    """What ``StateApiClient`` is asked for."""

    ACTORS = "actors"
    JOBS = "jobs"
    PLACEMENT_GROUPS = "placement_groups"
    NODES = "nodes"
    WORKERS = "workers"
    TASKS = "tasks"
    OBJECTS = "objects"
    CLUSTER_EVENTS = "cluster_events"
    RUNTIME_ENVS = "runtime_envs"


@dataclass
class ListApiOptions:
    """How ``StateApiClient.list`` answers."""

    limit: int = LIMIT_DEFAULT
    timeout: int = 30
    detail: bool = False
    filters: list[Filter] | None = field(default_factory=list)
    server_timeout_multiplier: float = 1.0


@dataclass
class GetApiOptions:
    """How ``StateApiClient.get`` answers."""

    timeout: int = 30


@dataclass
class RuntimeEnvState(StateSchema):
    """A runtime environment as one node made it, or could not."""

    runtime_env: dict
    success: bool
    creation_time_ms: float | None
    node_id: str
    ref_cnt: int | None = detail_only()
    error: str | None = detail_only()


@dataclass
class ClusterEventState(StateSchema):
    """Something that happened; severity: INFO, WARNING or ERROR. time: milliseconds since the epoch, as text."""

    severity: str
    time: str
    source_type: str
    message: str
    event_id: str
    custom_fields: dict | None = detail_only()


State = TypeVar("State", bound=StateSchema)


def select(
    schema: type[State], rows: Iterable[State], filters: Sequence[Filter] | None, limit: int, detail: bool
) -> list[State]:
    """The first ``limit`` rows that pass all filters. InvalidRequest (a ValueError) for a field, a predicate or a limit
    that cannot be."""
    if not 0 <= limit <= LIMIT_MAX:
        raise InvalidRequest(f"Given limit {limit} exceeds the supported limit {LIMIT_MAX}, or is negative.")
    wanted = [_checked(schema, each) for each in _listed(filters)]
    passed = [row for row in rows if all(_passes(row, each) for each in wanted)][:limit]
    if not detail:
        for row in passed:
            row.without_detail()
    return passed


def _listed(filters: Any) -> Sequence[Filter]:
    if filters is None:
        return ()
    if isinstance(filters, (str, bytes)) or not isinstance(filters, Sequence):
        raise InvalidRequest(f'Filters are a list of (field, "=" or "!=", value), got {filters!r}.')
    return filters


def _checked(schema: type[StateSchema], wanted: Any) -> Filter:
    if isinstance(wanted, str) or not isinstance(wanted, Sequence) or len(wanted) != 3:
        raise InvalidRequest(f'A filter is (field, "=" or "!=", value), got {wanted!r}.')
    name, predicate, value = wanted
    known = schema.filterable_columns()
    if str(name).lower() not in known:
        raise InvalidRequest(
            f"The given filter column {name} is not supported for {schema.__name__}. Supported filter columns: "
            f"{sorted(known)}."
        )
    if predicate not in ("=", "!="):
        raise InvalidRequest(f"Unsupported filter predicate {predicate} is given. Available predicates: =, !=.")
    return str(name).lower(), predicate, value


def _passes(row: StateSchema, wanted: Filter) -> bool:
    name, predicate, value = wanted
    return (str(row[name]).lower() == str(value).lower()) is (predicate == "=")
