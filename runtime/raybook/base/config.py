"""Configuration: the only reader of the environment. Read once at a process's entry, then handed down as a record.

Every number states where it comes from. Names in the environment are ``RAYBOOK_`` + the upper-case field name.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

ENVIRONMENT_PREFIX = "RAYBOOK_"

PRELOAD_VARIABLE = "RAYBOOK_WORKER_PRELOAD"
"""Modules, with commas between, that the process which workers are forked from imports before the first of them."""

AS_RAY_VARIABLE = "RAYBOOK_AS_RAY"
"""Set by ``install_as_ray`` and inherited by the workers of the clusters started then: ``import ray`` means raybook."""


class Config(msgspec.Struct, frozen=True, array_like=True):
    """Tunables of one cluster; the head's values are sent to every process that joins."""

    inline_bytes_max: int = 100 * 1024
    """Results and arguments up to this size travel inside messages (Ray: ``max_direct_call_object_size``)."""
    lease_idle_ms: int = 200
    """A lease is kept this long after its queue ran dry: long enough for a loop of sync calls in a notebook cell."""
    pipeline_target_us: int = 2_000
    """Short tasks are pipelined until about this much work is in flight to a worker."""
    pipeline_depth_max: int = 256
    """Upper bound of unstarted tasks pushed to one worker."""
    worker_idle_ms: int = 1_000
    """Idle workers above the CPU count are ended after this (Ray: ``idle_worker_killing_time_threshold_ms``)."""
    worker_start_timeout_ms: int = 30_000
    """A forked worker that has not registered by then is killed and reported."""
    object_store_fraction: float = 0.3
    """Share of memory that the object store may hold (Ray: 0.3)."""
    object_store_bytes_min: int = 75 * 1024 * 1024
    object_store_bytes_max: int = 200 * 1000 * 1000 * 1000
    arena_overcommit: int = 8
    """Virtual arena bytes per budget byte: accounting is by bytes, so fragmentation costs address space only."""
    extent_bytes_min: int = 4 * 1024 * 1024
    extent_bytes_max: int = 64 * 1024 * 1024
    lineage_bytes_max: int = 1 << 30
    """Records of finished tasks, kept so that their results can be made again (Ray: ``max_lineage_bytes`` 1 GiB)."""
    default_max_retries: int = 3
    health_check_period_ms: int = 1_000
    """A node reports at least this often; one that is silent for longer is asked (Ray: the same name, 3 s)."""
    health_check_timeout_ms: int = 10_000
    """A node that has been silent for this long is dead (Ray: the same name, 10 s, five times in a row). One whose process
    ends is found out at once. Sockets between nodes wait half as long again (``io/keepalive``)."""
    head_grace_ms: int = 0
    """How long an owned head outlives its driver's process: not at all, process death is certain knowledge."""
    fact_interval_ms: int = 250
    """Panels are fed at most this often (NOTEBOOK.md 4.2: 4 Hz)."""
    fact_rows_max: int = 2_000
    """Rows an event table keeps of one kind; the oldest finished ones go first."""
    worker_niceness: int = 0
    worker_log_bytes_max: int = 128 * 1024 * 1024
    """What each of a worker's two log files keeps, its newest bytes (Ray: ``RAY_ROTATION_MAX_BYTES``); 0: everything."""
    log_lines_kept: int = 40
    """Last lines of a worker's stderr that a crash report quotes."""
    spilling: int = 1
    """0: nothing is written to disk, and a full store refuses (Ray: ``automatic_object_spilling_enabled``)."""
    spill_threshold: float = 0.8
    """Share of the store in use from which objects go to disk (Ray: ``object_spilling_threshold`` 0.8)."""
    spill_batch_bytes: int = 100 * 1024 * 1024
    """So much goes to disk at once, in one file, if the store is large enough (Ray: ``min_spilling_size`` 100 MB)."""
    spill_disk_share_max: float = 0.95
    """A disk fuller than this takes no more objects (Ray: ``local_fs_capacity_threshold`` 0.95)."""
    memory_usage_threshold: float = 0.95
    """Share of the node's memory in use from which the memory guard makes room (Ray: the same)."""
    memory_monitor_refresh_ms: int = 250
    """How often the memory guard looks; 0: never (Ray: the same)."""
    memory_limit_bytes: int = 0
    """What the processes of a node and its store may use together, for the memory guard; 0: what the machine or the
    control group allows everybody on it."""
    record_ref_creation_sites: int = -1
    """Whether the line of code that made an object or task is recorded: 1 yes, 0 no, -1 in IPython (Ray: the same)."""
    task_oom_retries: int = -1
    """How often a task is tried again that was ended because memory ran short; -1: without end (Ray: the same). Tasks
    with ``max_retries=0`` are not."""
    task_oom_retry_delay_ms: int = 1_000
    """Before the first of these; doubled each time (Ray: ``task_oom_retry_delay_base_ms``)."""
    session_idle_s: int = 120
    """How long the session of a thin client lives without it (Ray: ``RAY_CLIENT_RECONNECT_GRACE_PERIOD`` 30)."""
    session_kept_s: int = 86_400
    """The same of a session that has a name: a notebook of yesterday finds its results."""
    worker_preload: str = ""
    """What ``PRELOAD_VARIABLE`` names; it may delay the first workers by as long as it takes to import that."""


RAY_VARIABLES = MappingProxyType(
    {
        "health_check_period_ms": "RAY_health_check_period_ms",
        "health_check_timeout_ms": "RAY_health_check_timeout_ms",
        "memory_usage_threshold": "RAY_memory_usage_threshold",
        "memory_monitor_refresh_ms": "RAY_memory_monitor_refresh_ms",
        "worker_log_bytes_max": "RAY_ROTATION_MAX_BYTES",
        "record_ref_creation_sites": "RAY_record_ref_creation_sites",
        "task_oom_retries": "RAY_task_oom_retries",
        "task_oom_retry_delay_ms": "RAY_task_oom_retry_delay_base_ms",
    }
)
"""Fields that are also read from the name Ray has for them; ours wins."""

SHARES = frozenset({"object_store_fraction", "spill_threshold", "spill_disk_share_max", "memory_usage_threshold"})


def read_environment(environ: Mapping[str, str], base: Config | None = None) -> Config:
    """The configuration, with fields overridden by ``RAYBOOK_<FIELD>``. Raises ValueError naming the variable when a
    value does not parse. Cost: one look-up per field."""
    defaults = base or Config()
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(Config):
        name = ENVIRONMENT_PREFIX + field.name.upper()
        if name not in environ:
            name = RAY_VARIABLES.get(field.name, name)
        raw = environ.get(name)
        if raw is None:
            continue
        try:
            values[field.name] = raw if field.type is str else float(raw) if field.type is float else int(raw)
        except ValueError:
            raise ValueError(f"The environment variable {name} must be a number, got {raw!r}.") from None
        if field.name in SHARES and not 0 <= values[field.name] <= 1:
            raise ValueError(f"The environment variable {name} must be between 0 and 1, got {raw!r}.")
    return msgspec.structs.replace(defaults, **values) if values else defaults


def environment_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """Variables that say the same to a process that starts: of Ray's ``_system_config`` or of our own names. What is
    neither is left out, as many of Ray's settings mean nothing here."""
    known = {field: field for field in Config.__struct_fields__}
    known |= {name.removeprefix("RAY_"): field for field, name in RAY_VARIABLES.items()}
    return {f"{ENVIRONMENT_PREFIX}{known[key].upper()}": str(value) for key, value in settings.items() if key in known}


def task_max_retries(environ: Mapping[str, str]) -> int:
    """How often a task is tried again whose worker died, unless it says so itself (Ray: RAY_TASK_MAX_RETRIES, 3)."""
    for name in ("RAYBOOK_TASK_MAX_RETRIES", "RAY_TASK_MAX_RETRIES"):
        if environ.get(name):
            try:
                return int(environ[name])
            except ValueError:
                raise ValueError(f"The environment variable {name} must be a number, got {environ[name]!r}.") from None
    return 3


INSTANCE_VARIABLES = MappingProxyType(
    {
        "RAYBOOK_INSTANCE_ID": "raybook.io/instance-id",
        "RAY_CLOUD_INSTANCE_ID": "raybook.io/instance-id",
        "RAYBOOK_NODE_TYPE": "ray.io/node-group",
        "RAY_NODE_TYPE_NAME": "ray.io/node-group",
    }
)
"""By which a node that a provider made is told what it is called there, and the labels that say so; ours go first."""


def instance_labels(environ: Mapping[str, str]) -> dict[str, str]:
    """Labels of a node whose command line its provider does not write (KubeRay: a pod)."""
    found: dict[str, str] = {}
    for variable, label in INSTANCE_VARIABLES.items():
        if environ.get(variable):
            found.setdefault(label, environ[variable])
    return found
