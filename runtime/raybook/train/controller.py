"""Train controller: the actor that leads a run, apart from the driver and from the workers.

It starts groups, watches them, and starts the next one from the latest checkpoint when one fails or is resized. What
follows a failure, how many workers there are and which checkpoints stay is decided in `core`; what workers ask goes to
the desk. Workers push: nothing is polled but the list of draining nodes.
Invariants: at most one group lives; every way out of a group ends its processes; a run has exactly one outcome.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from raybook import api
from raybook.exceptions import RayActorError, RayError
from raybook.ml.checkpoint import Checkpoint
from raybook.train.callback import ReportForwarder, UserCallback
from raybook.train.checkpoint_keeper import CheckpointKeeper
from raybook.train.core import run_states as states
from raybook.train.core.failure_policy import CONTROLLER, PREEMPTION, RETRY, WORKERS, FailurePolicy
from raybook.train.core.report_rounds import Round
from raybook.train.core.scaling import size_to_change_to, size_to_start
from raybook.train.desk import Desk
from raybook.train.exceptions import (
    ControllerError,
    InsufficientClusterResourcesError,
    PreemptionError,
    TrainingFailedError,
    WorkerGroupError,
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    user_exception,
)
from raybook.train.facts import RunFacts
from raybook.train.group_starter import GroupStarter
from raybook.train.preemption import PreemptionInfo
from raybook.train.reported_checkpoint import CheckpointConsistencyMode, ReportedCheckpoint
from raybook.train.run_plan import RunOutcome, RunPlan
from raybook.train.shards import Shards
from raybook.train.validator import Validator
from raybook.train.worker import RankOutcome
from raybook.train.worker_group import WorkerGroup

logger = logging.getLogger("raybook.train")

# When one rank fails, the others often do within moments; their errors belong into the same report.
GRACE_S = 0.25
# How often an elastic run that waits for room looks again.
WAIT_FOR_ROOM_S = 1.0


class Resized(Exception):
    """Ends a healthy group: there is room for another size."""


class Aborted(Exception):
    """Ends the run: the driver wants it to."""


class TrainController:
    """One run, from its first group to its outcome."""

    def __init__(self, plan: RunPlan) -> None:
        # Nothing that can fail: an actor whose constructor raises is one that died, and would be started again.
        self._plan = plan
        self._state = states.RunState()
        context = plan.run_context
        self._facts = RunFacts(api.publish_fact, context.run_id, plan.storage.experiment_dir_name, context)
        self._keeper: CheckpointKeeper | None = None
        self._group: WorkerGroup | None = None
        self._return_value: Any = None
        self._outbox: list[tuple[dict[str, Any], Checkpoint | None]] = []

    async def ready(self) -> None:
        """Return: the process is there and has understood the plan."""
        self._told = asyncio.Condition()

    async def run(self) -> RunOutcome:
        """Run to the end and return the outcome; errors of the training are in it, not raised."""
        error: TrainingFailedError | None = None
        try:
            self._set_up()
            await self._run_attempts()
            self._enter(states.FINISHED)
        except Aborted:
            self._enter(states.ABORTED)
        except TrainingFailedError as failure:
            error = failure
            self._enter(states.ERRORED, str(failure))
        except Exception as failure:  # noqa: BLE001 - whatever else goes wrong here is the controller's failure.
            logger.exception("The controller of run %r failed.", self._plan.storage.experiment_dir_name)
            error = ControllerError(_portable(failure))
            self._enter(states.ERRORED, str(failure))
        finally:
            await self._end_group()
            async with self._told:
                self._told.notify_all()
        return self._outcome(error)

    def _set_up(self) -> None:
        plan = self._plan
        run_config = plan.run_context.run_config
        logging.basicConfig(format="%(message)s")
        logger.setLevel(run_config.logging_config.log_level if run_config.logging_config else "INFO")
        # Here and not in the constructor: it belongs to this event loop.
        self._interruption: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        keeper = CheckpointKeeper(plan.storage, run_config.checkpoint_config)
        self._keeper = keeper
        assert run_config.failure_config is not None
        self._failure_config = run_config.failure_config
        self._policy = FailurePolicy(
            run_config.failure_config.max_failures,
            run_config.failure_config.max_preemption_failures,
            run_config.failure_config.controller_failure_limit,
        )
        make_name = plan.storage.make_default_checkpoint_dir_name
        self._desk = Desk(keeper, plan.settings, make_name, self._on_round, self._on_desk_error)
        self._validator = Validator(plan.validation_config, keeper, self._desk.notify)
        self._validator.take_up(plan.storage.checkpoint)
        self._shards = Shards(plan.datasets, plan.run_context.dataset_config)
        self._starter = GroupStarter(plan, api.get_runtime_context().current_actor)

    async def abort(self) -> None:
        """End the run. Its `run` returns soon after."""
        self._interrupt(Aborted())

    # What workers ask.

    async def join(self, attempt: int, rank: int, number: int, verb: str, payload: Any) -> Any:
        return await self._desk.join(attempt, rank, number, verb, payload)

    async def commit(self, attempt: int, rank: int, number: int, name: str) -> None:
        await self._desk.commit(attempt, rank, number, name)

    async def fail(self, attempt: int, rank: int, error: Exception) -> None:
        """A background upload has failed: training on would lose more than stopping here."""
        if attempt == self._desk.attempt:
            self._interrupt(WorkerGroupError(f"[Rank {rank}]\n{error}", {rank: error}))

    async def dataset_shard(self, attempt: int, rank: int, name: str) -> Any:
        if attempt != self._desk.attempt:
            raise RuntimeError("This worker's group has been replaced.")
        return await self._shards.shard(name, rank)

    async def reported_checkpoints(
        self, attempt: int, reports: int, mode: CheckpointConsistencyMode, timeout_s: float | None
    ) -> list[ReportedCheckpoint]:
        return await self._desk.reported_checkpoints(attempt, reports, mode, timeout_s)

    # What the driver asks.

    async def take_reports(self, seen: int) -> list[tuple[dict[str, Any], Checkpoint | None]] | None:
        """Wait for reports after the first `seen` ones and return them; None once the run is over. For forwarders."""
        async with self._told:
            await self._told.wait_for(lambda: len(self._outbox) > seen or self._state.is_over)
        return self._outbox[seen:] or None

    # The run.

    async def _run_attempts(self) -> None:
        while True:
            self._enter(states.SCHEDULING)
            next_state = states.RESTARTING
            try:
                references = await self._start()
                self._enter(states.RUNNING)
                await self._watch(references)
                await self._desk.drain()
                self._raise_interruption()
                assert self._group is not None
                await asyncio.to_thread(self._starter.finish, self._group)
                await self._validator.drain()
                return
            except Resized:
                next_state = states.RESIZING
            except (TrainingFailedError, WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError) as failure:
                self._answer_failure(failure)
            await self._end_group()
            self._enter(next_state)

    async def _start(self) -> list[Any]:
        size = await self._choose_size()
        self._interruption = self._new_interruption()
        group = await asyncio.to_thread(self._starter.place, size)
        self._group = group
        attempt = self._state.attempts
        self._desk.open(attempt, size)
        self._shards.open(size, group.node_ids())
        await asyncio.to_thread(self._plan.storage.delete_leftovers)
        keeper = self._keeper
        assert keeper is not None
        checkpoint = keeper.latest() or self._plan.initial_checkpoint
        await asyncio.to_thread(self._starter.prepare, group, attempt, checkpoint, keeper.book.reports)
        self._raise_interruption()
        self._facts.group_started(group, attempt)
        logger.info(
            "Started training worker group of size %d: %s",
            size,
            ", ".join(
                f"rank {worker.rank.world_rank} (ip={worker.place.node_ip}, pid={worker.place.pid})"
                for worker in group.workers
            ),
        )
        return self._starter.launch(group)

    async def _choose_size(self) -> int:
        scaling = self._plan.run_context.scaling_config
        if not scaling.elasticity_enabled:
            return scaling.max_workers
        while True:
            possible = await asyncio.to_thread(self._starter.possible_workers)
            size = size_to_start(possible, scaling.min_workers, scaling.max_workers)
            if size is not None:
                return size
            await asyncio.wait({self._interruption}, timeout=WAIT_FOR_ROOM_S)
            self._raise_interruption()

    async def _watch(self, references: list[Any]) -> None:
        """Return once every rank's function has returned. Raises what ended the group before."""
        ranks = {asyncio.ensure_future(_value(reference)): rank for rank, reference in enumerate(references)}
        watchers = {asyncio.ensure_future(each) for each in (self._watch_nodes(), self._watch_size())}
        try:
            waiting: set[asyncio.Future[Any]] = set(ranks)
            while waiting:
                done, _ = await asyncio.wait(
                    {*waiting, *watchers, self._interruption}, return_when=asyncio.FIRST_COMPLETED
                )
                for watcher in done & watchers:
                    watcher.result()  # They end by an exception, or because there is nothing to watch.
                watchers -= done
                self._raise_interruption()
                failures = self._failures_in(done, ranks)
                if failures:
                    await asyncio.wait(waiting, timeout=GRACE_S)
                    raise self._group_error(self._failures_in({each for each in waiting if each.done()}, ranks))
                waiting -= done
        finally:
            for each in [*ranks, *watchers]:
                each.cancel()
            await asyncio.gather(*ranks, *watchers, return_exceptions=True)

    def _failures_in(self, done: set[Any], ranks: dict[Any, int]) -> dict[int, Exception]:
        failures: dict[int, Exception] = {}
        for each in done & set(ranks):
            rank = ranks[each]
            try:
                outcome: RankOutcome = each.result()
            except RayError as death:
                failures[rank] = death
                continue
            if outcome.error is not None:
                failures[rank] = outcome.error
                continue
            self._desk.left(rank)
            if rank == 0:
                self._return_value = outcome.return_value
        return dict(sorted(failures.items()))

    def _group_error(self, failures: dict[int, Exception]) -> TrainingFailedError:
        error = WorkerGroupError("\n".join(f"[Rank {rank}]\n{each}" for rank, each in failures.items()), failures)
        for callback in self._callbacks():
            callback.after_exception(self._plan.run_context, failures)
        if self._desk.preemption is not None and any(isinstance(each, RayActorError) for each in failures.values()):
            return PreemptionError(self._desk.preemption)
        return error

    def _answer_failure(self, failure: Exception) -> None:
        """Return if the run goes on with another group; raise otherwise."""
        is_retryable = True
        if isinstance(failure, (PreemptionError, WorkerGroupError)):
            preempted = isinstance(failure, PreemptionError) or any(
                getattr(each, "preempted", False) for each in failure.worker_failures.values()
            )
            kind = PREEMPTION if preempted else WORKERS
            final: TrainingFailedError = failure
        else:
            kind = CONTROLLER
            is_retryable = not isinstance(failure, ControllerError)
            if isinstance(failure, WorkerGroupStartupTimeoutError):
                missing = self._starter.shortage()
                if missing:
                    is_retryable = False
                    failure = InsufficientClusterResourcesError(
                        f"The run asks for {missing}, so it could never start; it waited "
                        f"{self._plan.settings.group_start_timeout_s:g} s for nodes to join. Ask for less in "
                        "ScalingConfig, or add nodes."
                    )
            final = failure if isinstance(failure, ControllerError) else ControllerError(failure)
        decision = self._policy.decide(kind, is_retryable)
        limit = self._policy.limit(kind)
        logger.warning(
            "A worker group failed (%s failure %d, %s allowed): %s. %s",
            kind,
            self._policy.spent[kind],
            "any number" if limit == -1 else limit,
            failure,
            "Starting again from the latest checkpoint." if decision == RETRY else "The run ends.",
        )
        if decision != RETRY:
            raise final from failure

    # Watching.

    async def _watch_nodes(self) -> None:
        if not self._plan.settings.watch_preemption:
            return
        while self._group is not None:
            await asyncio.sleep(self._plan.settings.preemption_poll_interval_s)
            nodes = await asyncio.to_thread(api.nodes)
            draining = {node["NodeID"] for node in nodes if node["Alive"] and node.get("DrainReason")}
            group = self._group
            if group is None:
                return
            ranks = {node_id: group.ranks_on(node_id) for node_id in sorted(draining) if group.ranks_on(node_id)}
            if ranks and self._desk.preemption is None:
                self._desk.preemption = PreemptionInfo(None, ranks)
                logger.warning("Nodes of this run are about to be taken away: ranks %s.", ranks)
                if self._failure_config.relax_collectives_on_preemption:
                    self._desk.relax(self._desk.preemption.preempted_ranks)

    async def _watch_size(self) -> None:
        scaling = self._plan.run_context.scaling_config
        if not scaling.elasticity_enabled:
            return
        while self._group is not None:
            await asyncio.sleep(scaling.elastic_resize_monitor_interval_s)
            group = self._group
            if group is None:
                return
            possible = await asyncio.to_thread(self._starter.possible_workers, group)
            size = size_to_change_to(len(group), possible, scaling.min_workers, scaling.max_workers)
            if size is not None:
                logger.info("The cluster has room for %d workers; the group of %d starts again.", size, len(group))
                raise Resized

    async def _on_round(self, finished: Round, checkpoint: Checkpoint | None) -> None:
        assert self._keeper is not None
        self._facts.reported(finished.metrics, checkpoint, self._keeper.book)
        if checkpoint is not None and finished.validation:
            name = self._plan.storage.name_of(checkpoint)
            self._validator.add(name, checkpoint, finished.validation)
        if any(isinstance(each, ReportForwarder) for each in self._plan.run_context.run_config.callbacks or ()):
            self._outbox.append((finished.metrics, checkpoint))
            async with self._told:
                self._told.notify_all()
        for callback in self._callbacks():
            callback.after_report(self._plan.run_context, finished.metrics_of_ranks, checkpoint)

    def _on_desk_error(self, error: Exception) -> None:
        self._interrupt(ControllerError(_portable(error)))

    # Small things.

    def _callbacks(self) -> list[UserCallback]:
        given = self._plan.run_context.run_config.callbacks or ()
        return [callback for callback in given if isinstance(callback, UserCallback)]

    def _new_interruption(self) -> asyncio.Future[None]:
        """A fresh one, unless the run is to end."""
        if self._interruption.done() and isinstance(self._interruption.exception(), Aborted):
            return self._interruption
        return asyncio.get_running_loop().create_future()

    def _interrupt(self, error: Exception) -> None:
        if self._interruption.done():
            if not isinstance(error, Aborted):
                return
            self._interruption = asyncio.get_running_loop().create_future()
        self._interruption.set_exception(error)
        self._interruption.exception()  # Seen, whoever else looks at it.

    def _raise_interruption(self) -> None:
        if self._interruption.done():
            self._interruption.result()

    async def _end_group(self) -> None:
        group, self._group = self._group, None
        if self._keeper is None:
            return  # It was never set up.
        self._desk.close("The group has ended.")
        self._shards.close()
        if group is not None:
            await asyncio.to_thread(group.shutdown)

    def _enter(self, state: str, error: str = "") -> None:
        self._state.to(state)
        self._facts.state_changed(state, error)

    def _outcome(self, error: TrainingFailedError | None) -> RunOutcome:
        is_aborted = self._state.name == states.ABORTED
        if self._keeper is None:
            return RunOutcome(None, None, [], error, is_aborted=is_aborted)
        self._keeper.end()
        return RunOutcome(
            self._keeper.book.last_metrics,
            self._keeper.latest(),
            self._keeper.kept(),
            error,
            self._return_value if error is None else None,
            is_aborted,
        )


async def _value(reference: Any) -> Any:
    return await reference


def _portable(error: Exception) -> Exception:
    """The error, or one with its text where it cannot travel."""
    carried = user_exception(error).cause
    return carried if isinstance(carried, Exception) else RuntimeError(str(carried))
