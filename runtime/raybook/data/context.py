"""DataContext: settings of this process's datasets. A dataset copies them when it is made, and its tasks see the copy.

Fields that steer parts of Ray that raybook does not have can be set and do nothing; they are marked so.
"""

from __future__ import annotations

import copy
import enum
import threading
from dataclasses import dataclass, field
from typing import Any

from raybook.data.execution_options import ExecutionOptions

MIB = 1024 * 1024


class ShuffleStrategy(str, enum.Enum):
    """How rows are brought together. All names mean the same exchange here: hash or range partitions through the
    store."""

    SORT_SHUFFLE_PULL_BASED = "sort_shuffle_pull_based"
    SORT_SHUFFLE_PUSH_BASED = "sort_shuffle_push_based"
    HASH_SHUFFLE = "hash_shuffle"
    GPU_SHUFFLE = "gpu_shuffle"


@dataclass
class AutoscalingConfig:
    """When a pool of actors grows: above this share of busy slots."""

    actor_pool_util_upscaling_threshold: float = 1.75
    actor_pool_util_downscaling_threshold: float = 0.5
    actor_pool_max_upscaling_delta: int | None = 1


@dataclass
class DataContext:
    """Settings. Bytes where names say size, seconds where they say `_s`."""

    target_max_block_size: int | None = 128 * MIB
    """Operators cut their output into blocks of about this size; None: one block a task."""
    target_min_block_size: int = 1 * MIB
    streaming_read_buffer_size: int = 32 * MIB
    enable_pandas_block: bool = True
    """Without effect: blocks are Arrow tables."""
    actor_prefetcher_enabled: bool = False
    """Without effect."""
    autoscaling_config: AutoscalingConfig = field(default_factory=AutoscalingConfig)
    use_push_based_shuffle: bool = False
    """Without effect."""
    shuffle_strategy: ShuffleStrategy | str = ShuffleStrategy.HASH_SHUFFLE
    """Without effect on results."""
    default_hash_shuffle_parallelism: int = 200
    """At most so many partitions, where their number is not given; small data takes fewer."""
    scheduling_strategy: Any = "SPREAD"
    scheduling_strategy_large_args: Any = "DEFAULT"
    large_args_threshold: int = 50 * MIB
    use_polars: bool = False
    """Without effect, as `use_polars_sort`: Arrow sorts."""
    use_polars_sort: bool = False
    decoding_size_estimation: bool = True
    min_parallelism: int = 200
    read_op_min_num_blocks: int = 200
    """At most so many blocks of a read are made for the sake of parallelism alone."""
    enable_tensor_extension_casting: bool = True
    use_arrow_tensor_v2: bool = True
    """Without effect: tensors are Arrow's own fixed-shape tensor columns."""
    enable_fallback_to_arrow_object_ext_type: bool | None = None
    """False: values that Arrow has no type for raise instead of being pickled."""
    enable_auto_log_stats: bool = False
    verbose_stats_logs: bool = False
    trace_allocations: bool = False
    execution_options: ExecutionOptions = field(default_factory=ExecutionOptions)
    use_ray_tqdm: bool = True
    enable_progress_bars: bool = True
    enable_operator_progress_bars: bool = True
    enable_progress_bar_name_truncation: bool = True
    enable_rich_progress_bars: bool = True
    enable_get_object_locations_for_metrics: bool = False
    write_file_retry_on_errors: list[str] = field(
        default_factory=lambda: [
            "AWS Error INTERNAL_FAILURE",
            "AWS Error NETWORK_CONNECTION",
            "AWS Error SLOW_DOWN",
            "AWS Error UNKNOWN (HTTP status 503)",
        ]
    )
    warn_on_driver_memory_usage_bytes: int = 2 * 1024 * MIB
    actor_task_retry_on_errors: bool | list[Any] = False
    """True or a list of exception types: calls of a pool's actors that raise are tried again."""
    op_resource_reservation_enabled: bool = True
    op_resource_reservation_ratio: float = 0.5
    """Share of the memory budget that is dealt out evenly to operators; the rest goes to whoever needs it."""
    max_errored_blocks: int = 0
    """Tasks that may fail because a function raised; their blocks are left out. -1: any number."""
    log_internal_stack_trace: bool = False
    raise_original_map_exception: bool = False
    print_on_execution_start: bool = True
    s3_try_create_dir: bool = False
    wait_for_min_actors_s: int = -1
    """Seconds to wait until a pool has its least number of actors, before anything runs; -1: start with the first."""
    max_tasks_in_flight_per_actor: int | None = None
    retried_io_errors: list[str] = field(
        default_factory=lambda: [
            "AWS Error INTERNAL_FAILURE",
            "AWS Error NETWORK_CONNECTION",
            "AWS Error SLOW_DOWN",
            "AWS Error UNKNOWN (HTTP status 503)",
            "AWS Error SERVICE_UNAVAILABLE",
        ]
    )
    override_object_store_memory_limit_fraction: float | None = None
    """Share of the object store that blocks in flight may take (default a half), where `resource_limits` says nothing."""
    memory_usage_poll_interval_s: float | None = 1
    enforce_schemas: bool = False
    default_batch_format: str = "numpy"
    # Without effect: they steer how Ray shuffles, logs and counts.
    pipeline_push_based_shuffle_reduce_tasks: bool = True
    max_hash_shuffle_aggregators: int | None = None
    max_hash_shuffle_finalization_batch_size: int | None = None
    join_operator_actor_num_cpus_override: float | None = None
    hash_shuffle_operator_actor_num_cpus_override: float | None = None
    hash_aggregate_operator_actor_num_cpus_override: float | None = None
    gpu_shuffle_num_actors: int | None = None
    gpu_shuffle_rmm_pool_size: int | str | None = None
    gpu_shuffle_spill_memory_limit: int | str | None = "auto"
    gpu_shuffle_setup_timeout_s: float = 120.0
    custom_execution_callback_classes: list[type] = field(default_factory=list)
    dataset_logger_id: str | None = None
    enable_per_node_metrics: bool = False
    pandas_block_ignore_metadata: bool = False
    _kv_configs: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def get_current() -> DataContext:
        """The settings of this process; inside a task, those of its dataset. Changing fields changes them for
        datasets made from now on."""
        found = getattr(_task, "context", None)
        if found is not None:
            return found
        with _process.lock:
            if _process.context is None:
                _process.context = DataContext()
            return _process.context

    @staticmethod
    def current(context: DataContext) -> _CurrentContext:
        """A ``with`` block in which `context` is the current one, for this thread."""
        return _CurrentContext(context)

    @staticmethod
    def _set_current(context: DataContext) -> None:
        with _process.lock:
            _process.context = context

    def get_config(self, key: str, default: Any = None) -> Any:
        """A setting of a plug-in's own, or `default`."""
        return self._kv_configs.get(key, default)

    def set_config(self, key: str, value: Any) -> None:
        self._kv_configs[key] = value

    def remove_config(self, key: str) -> None:
        self._kv_configs.pop(key, None)

    def copy(self) -> DataContext:
        return copy.deepcopy(self)


class _CurrentContext:
    def __init__(self, context: DataContext) -> None:
        self._context = context

    def __enter__(self) -> DataContext:
        self._before = getattr(_task, "context", None)
        _task.context = self._context
        return self._context

    def __exit__(self, *details: Any) -> None:
        _task.context = self._before


class _Process:
    """Ray's API has one context a process; this is where it is kept."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.context: DataContext | None = None


_process = _Process()
_task = threading.local()

DatasetContext = DataContext
"""The name it had before."""
