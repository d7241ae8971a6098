"""Configuration of a training run: how many workers, where results lie, what follows a failure.

Checks the values when a record is made, so that a wrong one is reported at the user's line. Decides nothing.
Source: names, order, defaults and errors are those of `ray.train` (v2). What v2 gave up, such as `RunConfig(stop=...)`,
raises DeprecationWarning here as there. The records can be handed to a Tuner too, whose own fields they hold at rest.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from raybook.ml.run_config import check_run_name
from raybook.ml.storage import DEFAULT_ROOT
from raybook.train.callback import RayTrainCallback

DEPRECATED: Any = "DEPRECATED"
RESOURCE_OF_ACCELERATOR = "accelerator_type:"


def _shown(record: Any) -> str:
    """The record with what differs from the defaults."""
    changed = [
        f"{each.name}={getattr(record, each.name)!r}"
        for each in fields(record)
        if getattr(record, each.name) != each.default
    ]
    return f"{type(record).__name__}({', '.join(changed)})"


@dataclass(repr=False)
class ScalingConfig:
    """How many workers train, and what each of them holds.

    trainer_resources: deprecated. num_workers: a number, 0 to run in this very process, or (fewest, most) for a group
    that takes what there is. use_gpu: one GPU a worker. resources_per_worker: such as {"CPU": 2, "GPU": 1}; one CPU (or
    one GPU) if None. placement_strategy: PACK, SPREAD, STRICT_PACK, STRICT_SPREAD. accelerator_type: workers run on
    nodes with this accelerator. label_selector: one for all workers, or a list with one for each of the most workers.
    use_tpu, topology: TPU slices; raybook has no TPU support and says so. elastic_resize_monitor_interval_s: how often
    a healthy elastic group is compared with what the cluster has.
    """

    trainer_resources: dict[str, float] | None = None
    num_workers: int | tuple[int, int] = 1
    use_gpu: bool = False
    resources_per_worker: dict[str, float] | None = None
    placement_strategy: str = "PACK"
    accelerator_type: str | None = None
    label_selector: dict[str, str] | list[dict[str, str]] | None = None
    use_tpu: bool = False
    topology: str | None = None
    elastic_resize_monitor_interval_s: float = 60.0

    def __post_init__(self) -> None:
        if self.trainer_resources is not None:
            raise DeprecationWarning(
                "ScalingConfig(trainer_resources) is deprecated: the controller of a run holds no resources. Use "
                "resources_per_worker for what the workers need."
            )
        self._check_size()
        if self.use_tpu or self.topology:
            raise ValueError(
                "ScalingConfig(use_tpu=..., topology=...) asks for TPU slices, which raybook does not manage. TPUs can "
                'be asked for as a resource: resources_per_worker={"TPU": 1}.'
            )
        if isinstance(self.label_selector, list) and len(self.label_selector) != self.max_workers:
            raise ValueError(
                "If `label_selector` is a list, it must be the same length as `max_workers` (or `num_workers` when "
                f"fixed): {len(self.label_selector)} selectors, {self.max_workers} workers."
            )
        if self.resources_per_worker:
            if not self.use_gpu and self.num_gpus_per_worker > 0:
                raise ValueError(
                    "`use_gpu` is False but `GPU` was found in `resources_per_worker`. Either set `use_gpu` to True or "
                    "remove `GPU` from `resources_per_worker."
                )
            if self.use_gpu and self.num_gpus_per_worker == 0:
                raise ValueError(
                    "`use_gpu` is True but `GPU` is set to 0 in `resources_per_worker`. Either set `use_gpu` to False "
                    "or request a positive number of `GPU` in `resources_per_worker."
                )

    def _check_size(self) -> None:
        size = self.num_workers
        is_pair = isinstance(size, tuple) and len(size) == 2 and all(isinstance(part, int) for part in size)
        if not isinstance(size, int) and not is_pair:
            raise ValueError(f"ScalingConfig(num_workers) must be an int or a tuple of two ints, not {size!r}.")
        if self.elastic_resize_monitor_interval_s < 0:
            raise ValueError("ScalingConfig(elastic_resize_monitor_interval_s) must be non-negative.")
        if self.min_workers < 0:
            raise ValueError(f"Invalid ScalingConfig(num_workers={size}): Number of workers cannot be negative.")
        if self.min_workers > self.max_workers:
            raise ValueError(
                f"Invalid ScalingConfig(num_workers={size}): min_workers={self.min_workers} must be <= "
                f"max_workers={self.max_workers}."
            )

    @property
    def elasticity_enabled(self) -> bool:
        """Ask whether the size of the group may change."""
        return isinstance(self.num_workers, tuple)

    @property
    def min_workers(self) -> int:
        """The fewest workers to train with."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[0]

    @property
    def max_workers(self) -> int:
        """The most workers to train with."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[1]

    @property
    def _resources_per_worker_not_none(self) -> dict[str, float]:
        if self.resources_per_worker is None:
            resources: dict[str, float] = {"GPU": 1} if self.use_gpu else {"CPU": 1}
        else:
            resources = {name: amount for name, amount in self.resources_per_worker.items() if amount != 0}
        if self.use_gpu and (self.resources_per_worker or {}).get("GPU") != 0:
            resources.setdefault("GPU", 1)
        if self.accelerator_type:
            resources.setdefault(f"{RESOURCE_OF_ACCELERATOR}{self.accelerator_type}", 0.001)
        return resources

    @property
    def total_resources(self) -> dict[str, float]:
        """What all workers hold together, at most."""
        return {name: amount * self.max_workers for name, amount in self._resources_per_worker_not_none.items()}

    @property
    def num_cpus_per_worker(self) -> float:
        """The CPUs of each worker."""
        return self._resources_per_worker_not_none.get("CPU", 0)

    @property
    def num_gpus_per_worker(self) -> float:
        """The GPUs of each worker."""
        return self._resources_per_worker_not_none.get("GPU", 0)

    @property
    def num_tpus_per_worker(self) -> float:
        """The TPUs of each worker, where they were asked for as a resource."""
        return self._resources_per_worker_not_none.get("TPU", 0)

    @property
    def additional_resources_per_worker(self) -> dict[str, float]:
        """What each worker holds besides CPUs and GPUs."""
        return {
            name: amount for name, amount in self._resources_per_worker_not_none.items() if name not in ("CPU", "GPU")
        }

    def selectors_for(self, workers: int) -> list[dict[str, str]] | None:
        """Return one label selector for each of so many workers, None for no condition."""
        if isinstance(self.label_selector, list):
            return [dict(selector) for selector in self.label_selector[:workers]]
        if self.label_selector is not None:
            return [dict(self.label_selector) for _ in range(workers)]
        return None

    def __repr__(self) -> str:
        return _shown(self)


@dataclass(repr=False)
class CheckpointConfig:
    """Which checkpoints are kept.

    num_to_keep: None keeps all. checkpoint_score_attribute: metric that ranks them, None ranks by age.
    checkpoint_score_order: "max" or "min". checkpoint_frequency, checkpoint_at_end: deprecated.
    """

    num_to_keep: int | None = None
    checkpoint_score_attribute: str | None = None
    checkpoint_score_order: str = "max"
    checkpoint_frequency: Any = DEPRECATED
    checkpoint_at_end: Any = DEPRECATED

    def __post_init__(self) -> None:
        for name in ("checkpoint_frequency", "checkpoint_at_end"):
            if getattr(self, name) != DEPRECATED:
                raise DeprecationWarning(
                    f"`{name}` is deprecated since it does not apply to user-defined training functions. Please remove "
                    "this argument from your CheckpointConfig."
                )
        self.checkpoint_frequency, self.checkpoint_at_end = 0, False
        if self.num_to_keep is not None and (not isinstance(self.num_to_keep, int) or self.num_to_keep <= 0):
            raise ValueError(f"Received invalid num_to_keep: {self.num_to_keep}. Must be None or an integer >= 1.")
        if self.checkpoint_score_order not in ("max", "min"):
            raise ValueError(
                f"Received invalid checkpoint_score_order: {self.checkpoint_score_order}. Must be 'max' or 'min'."
            )

    def __repr__(self) -> str:
        return _shown(self)


@dataclass(repr=False)
class FailureConfig:
    """What follows a failure; -1 is no limit in each count.

    max_failures: restarts after a worker's error or death, from the latest checkpoint. fail_fast: deprecated.
    controller_failure_limit: restarts of the controller, or of a group that could not be started.
    max_preemption_failures: restarts after a node was taken away, counted apart. relax_collectives_on_preemption: then
    `report` and `get_preemption_info` do not wait for the ranks on that node. preemption_grace_s: how long the other
    ranks may go on after the node's deadline.
    """

    max_failures: int = 0
    fail_fast: Any = DEPRECATED
    controller_failure_limit: int = -1
    max_preemption_failures: int = -1
    relax_collectives_on_preemption: bool = False
    preemption_grace_s: float = 0.0

    def __post_init__(self) -> None:
        if self.fail_fast != DEPRECATED:
            raise DeprecationWarning(
                "FailureConfig(fail_fast) is deprecated since it is only relevant in the context of multiple trials. It "
                "is still there in raybook.tune.FailureConfig."
            )
        self.fail_fast = False
        for name in ("max_failures", "controller_failure_limit", "max_preemption_failures"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < -1:
                raise ValueError(f"FailureConfig({name}) must be -1 (no limit), 0 or more, not {value!r}.")

    def __repr__(self) -> str:
        return _shown(self)


@dataclass
class LoggingConfig:
    """How much Train says. log_level: a level of Python's logging, by name."""

    log_level: str = "INFO"

    def __post_init__(self) -> None:
        known = list(logging.getLevelNamesMapping()) if hasattr(logging, "getLevelNamesMapping") else _LEVELS
        if not isinstance(self.log_level, str) or self.log_level.upper() not in known:
            choices = ", ".join(repr(name) for name in sorted(known))
            raise ValueError(f"Invalid log_level: {self.log_level!r}. Must be one of: {choices}.")
        self.log_level = self.log_level.upper()


_LEVELS = ["CRITICAL", "DEBUG", "ERROR", "FATAL", "INFO", "NOTSET", "WARN", "WARNING"]  # Before Python 3.11.

_GIVEN_UP = ("sync_config", "verbose", "stop", "progress_reporter", "log_to_file")


@dataclass(repr=False)
class RunConfig:
    """Name, storage and policies of one run.

    name: the folder under storage_path, made from the time if None; a run of a name that is there already goes on from
    its latest checkpoint. storage_path: a folder or URI that all nodes reach; `~/raybook_results` if None.
    storage_filesystem: a pyarrow or fsspec filesystem that storage_path, then without scheme, lies on. callbacks:
    `UserCallback`s. worker_runtime_env: environment of the workers. The rest is deprecated.
    """

    name: str | None = None
    storage_path: str | os.PathLike[str] | None = None
    storage_filesystem: Any | None = None
    failure_config: FailureConfig | None = None
    checkpoint_config: CheckpointConfig | None = None
    callbacks: Sequence[RayTrainCallback] | None = None
    worker_runtime_env: Mapping[str, Any] | None = None
    logging_config: LoggingConfig | None = None
    sync_config: Any = DEPRECATED
    verbose: Any = DEPRECATED
    stop: Any = DEPRECATED
    progress_reporter: Any = DEPRECATED
    log_to_file: Any = DEPRECATED

    def __post_init__(self) -> None:
        for option in _GIVEN_UP:
            if getattr(self, option) != DEPRECATED:
                raise DeprecationWarning(
                    f"`RunConfig({option})` is deprecated. This configuration was a Tune API that did not support Train "
                    "usage well. Use raybook.tune.RunConfig for a sweep; a training run can be one of its trials."
                )
        self.sync_config, self.verbose, self.stop, self.progress_reporter, self.log_to_file = None, 1, None, None, False
        check_run_name(self.name)
        if self.storage_path is None:
            self.storage_path = os.path.expanduser(DEFAULT_ROOT)
        self.storage_path = os.fspath(self.storage_path)
        self.failure_config = self.failure_config or FailureConfig()
        self.checkpoint_config = self.checkpoint_config or CheckpointConfig()
        self.logging_config = self.logging_config or LoggingConfig()
        self.name = self.name or f"ray_train_run-{datetime.now():%Y-%m-%d_%H-%M-%S}"
        self.callbacks = list(self.callbacks or [])
        self.worker_runtime_env = self.worker_runtime_env or {}
        if not all(isinstance(callback, RayTrainCallback) for callback in self.callbacks):
            raise ValueError(
                "All callbacks must be instances of `raybook.train.UserCallback`. Passing in a Tune callback is not "
                "supported: it belongs into raybook.tune.RunConfig."
            )
        for name, wanted in (("checkpoint_config", CheckpointConfig), ("failure_config", FailureConfig)):
            value = getattr(self, name)
            if not isinstance(value, wanted):
                raise ValueError(
                    f"Invalid `{wanted.__name__}` type: {type(value)}. Use `raybook.train.{wanted.__name__}` instead."
                )

    def __repr__(self) -> str:
        return _shown(self)
