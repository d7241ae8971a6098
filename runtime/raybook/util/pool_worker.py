"""Pool worker: the process of a ``Pool`` in which the chunks run. Knows functions by key; keeps no results."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from raybook.util.batching import BUDGET_S, Outcome, run_each, spare_the_others

Work = tuple[int, Callable[..., Any] | None, list[tuple], str]
"""(key of the function, the function itself when it has none, the calls' arguments, name)."""


class PoolWorker:
    """One actor. ``initializer(*initargs)`` runs once, before the first chunk."""

    def __init__(self, initializer: Callable[..., Any] | None, initargs: tuple) -> None:
        self._functions: dict[int, Callable[..., Any]] = {}
        if initializer is not None:
            initializer(*initargs)

    def run(self, learned: dict[int, Callable[..., Any]], forgotten: list[int], work: list[Work]) -> list[Outcome]:
        """Run chunks, in order, until the budget is spent; one outcome for each that ran. ``learned`` and ``forgotten``
        are functions that chunks will name, or will not name any more, by their keys."""
        for key in forgotten:
            self._functions.pop(key, None)
        self._functions.update(learned)
        end = time.perf_counter() + BUDGET_S
        outcomes = []
        for key, function, calls, name in work:
            outcome = run_each(function or self._functions[key], calls, name, budget_s=float("inf"))
            if len(work) > 1 or len(calls) > 1:
                spare_the_others(outcome, name)
            outcomes.append(outcome)
            if time.perf_counter() > end:
                break
        return outcomes
