"""State records: one class for each kind of thing, with Ray's names for its fields, and the filters over them.

Knows nothing of where rows come from. A field that raybook does not know is None. Fields below the ``detail`` mark are
filled only when detail was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

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
    death_cause: str | None = detail_only()
    is_detached: bool | None = detail_only()
    num_restarts: int | None = detail_only()
    placement_group_id: str | None = detail_only()
    repr_name: str | None = detail_only()
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
    """The first ``limit`` rows that pass all filters. ValueError for a field, a predicate or a limit that cannot be."""
    if not 0 < limit <= LIMIT_MAX:
        raise ValueError(f"Given limit {limit} exceeds the supported limit {LIMIT_MAX}, or is not positive.")
    known = schema.filterable_columns()
    for name, predicate, _ in filters or ():
        if name not in known:
            raise ValueError(f"Invalid filter key {name!r} for {schema.__name__}. Valid ones are {sorted(known)}.")
        if predicate not in ("=", "!="):
            raise ValueError(f"Unsupported filter predicate {predicate!r} is given. Available ones are = and !=.")
    passed = [row for row in rows if all(_passes(row, each) for each in filters or ())][:limit]
    if not detail:
        for row in passed:
            row.without_detail()
    return passed


def _passes(row: StateSchema, wanted: Filter) -> bool:
    name, predicate, value = wanted
    return (str(row[name]).lower() == str(value).lower()) is (predicate == "=")
