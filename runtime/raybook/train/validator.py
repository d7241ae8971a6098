"""Validator: runs the user's validation function on checkpoints, one task at a time, beside the training.

Knows the book's statuses; does not know which checkpoints stay. Lives on the controller's event loop.
Invariant: every checkpoint whose validation was asked for gets a final status, also when the function fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from raybook import api
from raybook.ml.checkpoint import Checkpoint
from raybook.train.checkpoint_keeper import CheckpointKeeper
from raybook.train.core.checkpoint_book import VALIDATED, VALIDATION_FAILED, VALIDATION_TIMEOUT
from raybook.train.validation import ValidationConfig, ValidationTaskConfig

logger = logging.getLogger("raybook.train")


class Validator:
    """The validations of one run. notify: awaited after each."""

    def __init__(
        self, config: ValidationConfig | None, keeper: CheckpointKeeper, notify: Callable[[], Awaitable[None]]
    ) -> None:
        self._config = config
        self._keeper = keeper
        self._notify = notify
        self._queue: list[tuple[str, Checkpoint, Any]] = []
        self._running: asyncio.Task[None] | None = None

    def add(self, name: str, checkpoint: Checkpoint, wish: Any) -> None:
        """Validate a checkpoint once those before it are done."""
        self._queue.append((name, checkpoint, wish))
        if self._running is None:
            self._running = asyncio.ensure_future(self._run())

    def take_up(self, checkpoint_of: Callable[[str], Checkpoint]) -> None:
        """Validate what a run of the same name left unvalidated."""
        if self._config is not None:
            for entry in self._keeper.pending():
                self.add(entry.name, checkpoint_of(entry.name), True)

    async def drain(self) -> None:
        """Wait for all of them."""
        while self._running is not None:
            await asyncio.shield(self._running)

    async def _run(self) -> None:
        try:
            while self._queue:
                name, checkpoint, wish = self._queue.pop(0)
                status, metrics = await self._validate(checkpoint, wish)
                await asyncio.to_thread(self._keeper.validated, name, status, metrics)
                await self._notify()
        finally:
            self._running = None

    async def _validate(self, checkpoint: Checkpoint, wish: Any) -> tuple[str, dict[str, Any]]:
        assert self._config is not None
        task: ValidationTaskConfig = self._config.task_for(wish)
        try:
            remote: Any = api.remote(_call)
            if self._config.ray_remote_kwargs:
                remote = remote.options(**self._config.ray_remote_kwargs)
            reference = remote.remote(self._config.fn, checkpoint, task.fn_kwargs or {})
            metrics = await asyncio.wait_for(asyncio.ensure_future(_value(reference)), task.timeout_s)
            if not isinstance(metrics, dict):
                raise ValueError(f"The validation function must return a dict of metrics, not {metrics!r}.")
            return VALIDATED, metrics
        except (asyncio.TimeoutError, TimeoutError):
            logger.warning("The validation of %s took longer than %s s and was given up.", checkpoint, task.timeout_s)
            api.cancel(reference)
            return VALIDATION_TIMEOUT, {}
        except Exception:  # noqa: BLE001 - the user's function, or its process: training goes on without its verdict.
            logger.exception("The validation of %s failed; training goes on.", checkpoint)
            return VALIDATION_FAILED, {}


def _call(function: Any, checkpoint: Checkpoint, kwargs: dict[str, Any]) -> Any:
    return function(checkpoint, **kwargs)


async def _value(reference: Any) -> Any:
    return await reference
