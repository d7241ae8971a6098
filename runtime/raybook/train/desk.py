"""Desk: what the workers of the current group ask of the controller, and what they are told.

Pairs collectives and reports by the pure `core` machines and wakes those who wait. Lives on the controller's event loop;
no lock, since nothing here awaits between reading and writing.
Invariants: a question of an older group is refused; whoever waits is answered or gets an exception, at the latest when
the group ends; rounds are kept one after the other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from raybook.train.checkpoint_keeper import CheckpointKeeper
from raybook.train.core.collectives import CollectiveMismatch, Collectives
from raybook.train.core.report_rounds import ReportRounds, Round
from raybook.train.exceptions import BroadcastCollectiveTimeoutError
from raybook.train.preemption import PreemptionInfo
from raybook.train.reported_checkpoint import CheckpointConsistencyMode, ReportedCheckpoint
from raybook.train.settings import TrainSettings
from raybook.train.worker_session import PREEMPTION, REPORT

logger = logging.getLogger("raybook.train")

OnRound = Callable[[Round, Any], Awaitable[None]]


class StaleGroup(RuntimeError):
    """A worker of a group that has been replaced asked something."""


class Desk:
    """Serves one group after the other. on_round: awaited with each finished round and its checkpoint."""

    def __init__(
        self,
        keeper: CheckpointKeeper,
        settings: TrainSettings,
        make_name: Callable[[], str],
        on_round: OnRound,
        on_error: Callable[[Exception], None],
    ) -> None:
        self._keeper = keeper
        self._settings = settings
        self._make_name = make_name
        self._on_round = on_round
        self._on_error = on_error
        self._changed = asyncio.Condition()
        self.preemption: PreemptionInfo | None = None
        self.attempt = 0
        self._open(0, 0)

    def open(self, attempt: int, world_size: int) -> None:
        """Serve a new group from now on."""
        self.close("The group was replaced.")
        self._open(attempt, world_size)

    def _open(self, attempt: int, world_size: int) -> None:
        self.attempt = attempt
        self.preemption = None
        self._collectives = Collectives(world_size)
        self._rounds = ReportRounds()
        self._waiting: dict[int, list[asyncio.Future[Any]]] = {}
        self._keeping: asyncio.Task[None] | None = None
        self._begun: dict[int, asyncio.Future[None]] = {}

    def close(self, why: str) -> None:
        """Serve nobody: those who wait are told why."""
        self.attempt = -1
        futures = [future for waiting in self._waiting.values() for future in waiting]
        for future in [*futures, *self._begun.values()]:
            if not future.done():
                future.set_exception(StaleGroup(why))
                future.exception()  # Nobody may be left to look at it.

    # What workers ask.

    async def join(self, attempt: int, rank: int, number: int, verb: str, payload: Any) -> Any:
        """Come to a collective and wait for the others. Returns rank 0's payload; for a report, its number and name."""
        self._check(attempt)
        payloads = self._collectives.join(rank, number, verb, payload)
        if payloads is not None:
            return self._answer(number, verb, payloads)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(number, []).append(future)
        return await self._wait(future, number, verb, is_first=rank == 0)

    async def commit(self, attempt: int, rank: int, number: int, name: str) -> None:
        """Note that a rank has saved its part of a report's checkpoint; returns once the checkpoint is recorded."""
        self._check(attempt)
        self._rounds.saved(number, rank, name)
        done = self._begun.get(number)
        self._keep_finished()
        if done is not None:
            await asyncio.shield(done)

    async def reported_checkpoints(
        self, attempt: int, reports: int, mode: CheckpointConsistencyMode, timeout_s: float | None
    ) -> list[ReportedCheckpoint]:
        """Wait until so many reports are recorded (and validated); return the checkpoints that are kept."""
        self._check(attempt)

        def is_fresh() -> bool:
            is_validated = mode is CheckpointConsistencyMode.COMMITTED or not self._keeper.pending()
            return self._keeper.book.reports >= reports and is_validated

        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(is_fresh), timeout_s)
            except (asyncio.TimeoutError, TimeoutError):
                pass  # As in Ray: what there is.
        return self._keeper.reported()

    # What the controller tells.

    def left(self, rank: int) -> None:
        """A rank's function has returned: who waits for it waits in vain."""
        for number, mismatch in self._collectives.leave(rank):
            for future in self._waiting.pop(number, []):
                if not future.done():
                    future.set_exception(RuntimeError(str(mismatch)))

    def relax(self, excused: Collection[int]) -> None:
        """Do not wait for these ranks any more."""
        self._rounds.excuse(set(excused))
        for number, payloads in self._collectives.relax(excused):
            verb = REPORT if hasattr(payloads[min(payloads)], "has_checkpoint") else PREEMPTION
            self._answer(number, verb, payloads)
        self._keep_finished()

    async def drain(self) -> None:
        """Wait until every round that was begun is recorded."""
        while self._keeping is not None:
            await asyncio.shield(self._keeping)

    async def notify(self) -> None:
        """Something about checkpoints has changed."""
        async with self._changed:
            self._changed.notify_all()

    # Inside.

    def _check(self, attempt: int) -> None:
        if attempt != self.attempt:
            raise StaleGroup(f"This worker belongs to attempt {attempt} of the run, which has been replaced.")

    def _answer(self, number: int, verb: str, payloads: dict[int, Any]) -> Any:
        answer: Any
        if verb == REPORT:
            name = payloads[min(payloads)].name or self._make_name()
            self._rounds.begin(number, name, payloads)
            self._begun[number] = asyncio.get_running_loop().create_future()
            self._keep_finished()
            answer = (number, name)
        elif verb == PREEMPTION:
            answer = self.preemption
        else:
            answer = payloads[min(payloads)]
        for future in self._waiting.pop(number, []):
            if not future.done():
                future.set_result(answer)
        return answer

    def _keep_finished(self) -> None:
        if self._keeping is None:
            self._keeping = asyncio.ensure_future(self._keep())

    async def _keep(self) -> None:
        """Record what is finished. One of these runs at a time, so rounds never overtake each other."""
        attempt = self.attempt
        try:
            while attempt == self.attempt:
                finished = self._rounds.take_finished()
                if not finished:
                    return
                for each in finished:
                    await self._keep_round(each)
        except Exception as error:  # noqa: BLE001 - a callback of the user's, or storage: the run ends with it.
            self._on_error(error)
        finally:
            if attempt == self.attempt:
                self._keeping = None

    async def _keep_round(self, finished: Round) -> None:
        done = self._begun.pop(finished.number, None)
        try:
            if finished.has_checkpoint:
                checkpoint = await asyncio.to_thread(self._keeper.keep, finished)
            else:
                checkpoint = self._keeper.keep(finished)
            await self.notify()
            await self._on_round(finished, checkpoint)
        except BaseException as error:
            if done is not None and not done.done():
                done.set_exception(RuntimeError(f"The report could not be recorded: {error}"))
                done.exception()
            raise
        if done is not None and not done.done():
            done.set_result(None)

    async def _wait(self, future: asyncio.Future[Any], number: int, verb: str, is_first: bool) -> Any:
        """Wait, warn now and then about who is missing, give up after the configured time."""
        limit_s, waited_s = self._settings.collective_timeout_s, 0.0
        while True:
            step_s = self._settings.collective_warn_interval_s
            if limit_s is not None:
                step_s = min(step_s, limit_s - waited_s)
            done, _ = await asyncio.wait({future}, timeout=max(step_s, 0.0))
            if done:
                return future.result()
            waited_s += step_s
            missing = self._collectives.missing(number)
            if limit_s is not None and waited_s >= limit_s:
                raise BroadcastCollectiveTimeoutError(waited_s, missing, limit_s)
            if is_first:
                logger.warning(
                    "Rank 0 has waited %.0f s at %s for ranks %s. All workers must call it.", waited_s, verb, missing
                )


__all__ = ["CollectiveMismatch", "Desk", "StaleGroup"]
