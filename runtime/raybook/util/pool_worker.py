"""Pool worker: the process of a ``Pool`` in which the chunks run. Knows functions by key; keeps no results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raybook.util.batching import Outcome, run_each, spare_the_others
from raybook.util.give_back import Turnstile

Work = tuple[int, Callable[..., Any] | None, list[Any], bool, str]
"""(key of the function, the function itself when it has none, what to call it with, whether each is unpacked, name)."""


class PoolWorker:
    """One actor. ``initializer(*initargs)`` runs once, before the first chunk."""

    def __init__(self, initializer: Callable[..., Any] | None, initargs: tuple) -> None:
        self._functions: dict[int, Callable[..., Any]] = {}
        if initializer is not None:
            initializer(*initargs)

    def run(
        self, batch_id: bytes, learned: dict[int, Callable[..., Any]], forgotten: list[int], work: list[Work]
    ) -> list[Outcome]:
        """Run chunks, in order, until the batch's time is up; one outcome for each that ran. ``learned`` and
        ``forgotten`` are functions that chunks will name, or will not name any more, by their keys."""
        for key in forgotten:
            self._functions.pop(key, None)
        self._functions.update(learned)
        outcomes: list[Outcome] = []
        with Turnstile(len(work), batch_id) as turnstile:
            turnstile.snapshot = lambda count: outcomes[:count]
            for key, function, pieces, is_star, name in work:
                if not turnstile.take():
                    break
                chunk = function or self._functions[key]
                outcomes.append(run_each(chunk, pieces, name, Turnstile(len(pieces), b""), is_star))
        for (*_, name), outcome in zip(work, outcomes, strict=False):
            if len(work) > 1 or len(outcome.values) > 1:
                spare_the_others(outcome, name)
        return outcomes
