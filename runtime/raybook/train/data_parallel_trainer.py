"""Data-parallel trainer: the user's entrance to a training run.

Checks what it is given, hands it to a controller actor, and waits. If the controller's process dies, another one goes on
from what the run's folder records. With num_workers=0 the function runs right here.
"""

from __future__ import annotations

import copy
import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

from raybook import api
from raybook.exceptions import RayActorError, RayError
from raybook.ml.checkpoint import Checkpoint
from raybook.ml.session import current_session, session_for_block
from raybook.train.backend import BackendConfig
from raybook.train.callback import ReportForwarder, TrainRunContext
from raybook.train.config import CheckpointConfig, RunConfig, ScalingConfig
from raybook.train.context import TrainContext
from raybook.train.controller import TrainController
from raybook.train.data_config import DataConfig
from raybook.train.exceptions import ControllerError
from raybook.train.local_session import LocalSession
from raybook.train.result import Result
from raybook.train.run_plan import RunOutcome, RunPlan
from raybook.train.settings import read_settings
from raybook.train.storage import StorageContext
from raybook.train.train_function import as_train_function
from raybook.train.validation import ValidationConfig

logger = logging.getLogger("raybook.train")

# A controller that does not even start has met something that the next one meets as well, such as a callback whose
# module its process does not find.
FALSE_STARTS_MAX = 2


class DataParallelTrainer:
    """Runs one function on many workers at once.

    train_loop_per_worker: a function of the configuration, or of nothing. train_loop_config: that configuration.
    backend_config: of the framework that connects the workers. datasets: by name; workers get their shards by
    `get_dataset_shard`. dataset_config: how they are split. validation_config: what looks at reported checkpoints.
    metadata, resume_from_checkpoint: deprecated.
    """

    def __init__(
        self,
        train_loop_per_worker: Callable[..., Any],
        *,
        train_loop_config: dict[str, Any] | None = None,
        backend_config: BackendConfig | None = None,
        scaling_config: ScalingConfig | None = None,
        run_config: RunConfig | None = None,
        datasets: Mapping[str, Any] | None = None,
        dataset_config: DataConfig | None = None,
        resume_from_checkpoint: Checkpoint | None = None,
        metadata: dict[str, Any] | None = None,
        validation_config: ValidationConfig | None = None,
    ) -> None:
        if resume_from_checkpoint is not None:
            raise DeprecationWarning(
                "`resume_from_checkpoint` is deprecated. A run goes on by itself when it is started again under the same "
                "RunConfig(name, storage_path). To begin from another checkpoint, pass it in train_loop_config."
            )
        if metadata is not None:
            raise DeprecationWarning(
                "`metadata` is deprecated. Pass what the workers need in train_loop_config, and what belongs to a "
                "checkpoint with Checkpoint.set_metadata()."
            )
        self.run_config = run_config or RunConfig()
        self.train_loop_per_worker = train_loop_per_worker
        self.train_loop_config = train_loop_config
        self.scaling_config = scaling_config or ScalingConfig()
        self.backend_config = backend_config or BackendConfig()
        self.datasets = dict(datasets or {})
        self.data_config = dataset_config or DataConfig()
        self.validation_config = validation_config
        _check_type("RunConfig", self.run_config, RunConfig)
        _check_type("ScalingConfig", self.scaling_config, ScalingConfig)
        self._function = as_train_function(train_loop_per_worker, train_loop_config, "train_loop_per_worker")
        self._initial_checkpoint: Checkpoint | None = None

    def fit(self) -> Result:
        """Train to the end and return the result. Blocks.

        Raises WorkerGroupError if workers failed more often than allowed, PreemptionError if nodes were taken away more
        often than allowed, ControllerError if the run could not be started or led (all TrainingFailedError), and
        StorageNotWritableError if nothing can be stored. An interrupt ends the run's processes first.
        """
        if self.scaling_config.max_workers == 0:
            return self._fit_here()
        run_config = self.run_config
        assert run_config.storage_path is not None and run_config.name is not None
        storage = StorageContext(run_config.storage_path, run_config.name, run_config.storage_filesystem)
        storage.prepare()
        context = TrainRunContext(
            run_config, self.train_loop_config, self.scaling_config, self.backend_config, self.data_config
        )
        plan = RunPlan(
            context,
            storage,
            [api.put(self._function)],
            read_settings(os.environ),
            self.datasets,
            self.validation_config,
            self._initial_checkpoint,
        )
        outcome = self._lead(plan)
        result = Result.of_outcome(outcome, storage, run_config.storage_filesystem)
        if result.error is not None:
            raise result.error
        return result

    def _lead(self, plan: RunPlan) -> RunOutcome:
        """Have a controller lead the run; another one if its process dies."""
        failure_config = self.run_config.failure_config
        limit = failure_config.controller_failure_limit if failure_config is not None else -1
        forwarders = [each for each in self.run_config.callbacks or () if isinstance(each, ReportForwarder)]
        deaths = false_starts = 0
        while True:
            controller = self._start_controller(plan)
            false_starts += 1
            try:
                api.get(controller.ready.remote())
                false_starts = 0
                for forwarder in forwarders:
                    forwarder.begin(controller)
                outcome = api.get(controller.run.remote())
                for forwarder in forwarders:
                    forwarder.end()
                return outcome
            except KeyboardInterrupt:
                _abort(controller)
                if _is_interactive():
                    raise
                # As in Ray: who interrupts a script that trains wants it to end, in good order.
                logger.warning("The run %r was interrupted and has ended.", plan.storage.experiment_dir_name)
                sys.exit(0)
            except RayActorError as death:
                deaths += 1
                if limit != -1 and deaths > limit or false_starts >= FALSE_STARTS_MAX:
                    raise ControllerError(death) from death
                logger.warning("The run's controller died; another one goes on from its record. %s", death)
            finally:
                api.kill(controller)

    @staticmethod
    def _start_controller(plan: RunPlan) -> Any:
        here = api.get_runtime_context().get_node_id()
        strategy = api.NodeAffinitySchedulingStrategy(here, soft=True)
        actor_class: Any = api.remote(TrainController)
        # Every worker may wait in a call of its own.
        return actor_class.options(num_cpus=0, scheduling_strategy=strategy, max_concurrency=100_000).remote(plan)

    def _fit_here(self) -> Result:
        """Run the function in this process, without a cluster."""
        context, end = self._local_context()
        datasets = {name: given() if callable(given) else given for name, given in self.datasets.items()}
        session = LocalSession(context, datasets)
        try:
            with session_for_block(session), self.backend_config.train_func_context():
                returned = self._function.call()
        finally:
            end()
        return Result(session.last_metrics, session.get_checkpoint(), None, None, return_value=returned)

    def _local_context(self) -> tuple[TrainContext, Callable[[], None]]:
        """Return the only worker's context, and what to call at the end. Overridden where torchrun may be around."""
        return TrainContext(str(self.run_config.name)), lambda: None

    def as_trainable(self) -> Callable[[dict[str, Any]], None]:
        """Return a function for Tune that fits this trainer with each trial's configuration. `Tuner(trainer)` calls this.

        The configuration is {"train_loop_config": {...}}, whose values replace the trainer's, and "scaling_config".
        """

        def fit_in_trial(config: dict[str, Any]) -> None:
            self._for_trial(config).fit()

        fit_in_trial.__name__ = type(self).__name__
        return fit_in_trial

    def _for_trial(self, config: Mapping[str, Any]) -> DataParallelTrainer:
        unknown = sorted(set(config) - {"train_loop_config", "scaling_config"})
        if unknown:
            raise ValueError(
                f"The param_space of a Tuner over a {type(self).__name__} has 'train_loop_config' and 'scaling_config', "
                f"and not {unknown}. Put what the training function reads into 'train_loop_config'."
            )
        trial = copy.copy(self)
        trial.train_loop_config = {**(self.train_loop_config or {}), **config.get("train_loop_config", {})}
        trial.scaling_config = config.get("scaling_config", self.scaling_config)
        trial._function = replace(self._function, config=trial.train_loop_config)
        session = current_session("fit")
        trial._initial_checkpoint = session.get_checkpoint()
        given = self.run_config
        trial.run_config = RunConfig(
            # A folder for each attempt: what an attempt goes on from is the trial's checkpoint, which a scheduler may
            # have exchanged for another trial's.
            name=f"train-{uuid4().hex[:8]}",
            storage_path=session.context.get_trial_dir(),
            failure_config=given.failure_config,
            # All are kept: the trial copies them when it hears of them, which may be after the next ones were made.
            checkpoint_config=CheckpointConfig(),
            callbacks=[*(given.callbacks or ()), ReportForwarder()],
            worker_runtime_env=given.worker_runtime_env,
            logging_config=given.logging_config,
        )
        return trial

    @classmethod
    def restore(cls, *args: Any, **kwargs: Any) -> DataParallelTrainer:
        """Deprecated."""
        raise DeprecationWarning(
            "`restore` is deprecated. Make the trainer as before, with the same RunConfig(name, storage_path), and call "
            "fit(): the run goes on from its latest checkpoint."
        )

    @classmethod
    def can_restore(cls, *args: Any, **kwargs: Any) -> bool:
        """Deprecated."""
        raise DeprecationWarning(
            "`can_restore` is deprecated. A run of the same RunConfig(name, storage_path) goes on by itself, if there is "
            "anything to go on from."
        )


def _check_type(name: str, value: Any, wanted: type) -> None:
    if not isinstance(value, wanted):
        raise ValueError(f"Invalid `{name}` type: {type(value)}. Use `raybook.train.{name}` instead.")


def _abort(controller: Any) -> None:
    """End the run's processes; a second interrupt ends the wait for that."""
    try:
        api.get(controller.abort.remote(), timeout=10)
    except RayError:
        pass  # It is gone already, has not begun, or does not answer: its workers end with its process all the same.
    api.kill(controller)


def _is_interactive() -> bool:
    """Ask whether a person at a prompt or a notebook waits for the next line."""
    return hasattr(sys, "ps1") or "ipykernel" in sys.modules
