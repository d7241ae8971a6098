"""A tqdm for tasks and actors: progress is state, not text.

A bar tells its count as a fact (kind "progress") some times a second, whatever the loop does; the notebook's panels and
their plain text show all bars of the cluster, each in one line that moves. In a driver without a notebook, and without a
cluster, the bar is one of the package ``tqdm`` where that is installed, else nothing is drawn.
Names and parameters are those of ``ray.experimental.tqdm_ray``.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Any

from raybook.api.context import DRIVER, LOCAL, current_runtime
from raybook.api.facts import publish_fact
from raybook.api.runtime_context import get_runtime_context

__all__ = ["safe_print", "tqdm"]

FLUSH_INTERVAL_S = 0.25
"""Panels are drawn four times a second at most."""


class tqdm:  # noqa: N801 - Ray's and tqdm's name.
    """A progress bar. Iterate over it, or call ``update``. total: how many there will be, by default the iterable's length;
    None: not known. unit: of one, in words. position: taken as tqdm has it, not needed. flush_interval_s: how often the
    count is told at most. Cost: 0.3 µs an update that is not told, 20 µs one that is."""

    def __init__(
        self,
        iterable: Iterable[Any] | None = None,
        desc: str | None = None,
        total: float | None = None,
        unit: str | None = None,
        position: int | None = None,
        flush_interval_s: float | None = None,
    ) -> None:
        if total is None and iterable is not None:
            try:
                total = len(iterable)  # type: ignore[arg-type]
            except (TypeError, AttributeError):
                total = None
        self._iterable = iterable
        self._desc = desc or ""
        self._total = total
        self._unit = unit or "it"
        self._position = position or 0
        self._interval_s = FLUSH_INTERVAL_S if flush_interval_s is None else flush_interval_s
        self._uuid = uuid.uuid4().hex
        self._x: float = 0
        self._closed = False
        self._due_s = 0.0
        self._bar = _terminal_bar(self) if _is_drawn_here() else None
        self._dump_state()

    @property
    def total(self) -> float | None:
        """How many there will be; None when that is not known."""
        return self._total

    @total.setter
    def total(self, total: float | None) -> None:
        self._total = total
        self._dump_state()

    def set_description(self, desc: str) -> None:
        """What stands before the bar."""
        self._desc = desc
        if self._bar is not None:
            self._bar.set_description(desc)
        self._dump_state()

    def update(self, n: float = 1) -> None:
        """So many more are done."""
        self._x += n
        if self._bar is not None:
            self._bar.update(n)
        elif time.monotonic() >= self._due_s or (self._total is not None and self._x >= self._total):
            self._dump_state()

    def refresh(self) -> None:
        """Tell the count now."""
        if self._bar is not None:
            self._bar.refresh()
        self._dump_state()

    def close(self) -> None:
        """No more will come. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._bar is not None:
            self._bar.close()
        self._dump_state()

    def __iter__(self) -> Iterator[Any]:
        if self._iterable is None:
            raise ValueError("No iterable provided")
        for item in self._iterable:
            yield item
            self.update(1)
        self.close()

    def __enter__(self) -> tqdm:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _dump_state(self) -> None:
        """Tell the count, wherever somebody may look."""
        self._due_s = time.monotonic() + self._interval_s
        if self._bar is None and current_runtime.engine is not None:
            publish_fact("progress", self._uuid, self._get_state())

    def _get_state(self) -> dict[str, Any]:
        context = get_runtime_context()
        return {
            "progress_id": self._uuid,
            "desc": str(self._desc),
            "done": _number(self._x),
            "total": None if self._total is None else _number(self._total),
            "unit": self._unit,
            "pid": os.getpid(),
            "node_id": context.get_node_id(),
            "task_id": context.get_task_id() or "",
            "name": context.get_task_name() or "",
            "state": "FINISHED" if self._closed else "RUNNING",
            "updated_ms": int(time.time() * 1_000),
        }


def safe_print(*args: Any, **kwargs: Any) -> None:
    """``print``, beside bars that a terminal shows rather than through them."""
    if find_spec("tqdm") is not None and kwargs.get("file") in (None, sys.stdout, sys.stderr):
        from tqdm import tqdm as terminal

        text = kwargs.get("sep", " ").join(str(arg) for arg in args) if args else ""
        terminal.write(text, file=kwargs.get("file"), end=kwargs.get("end", "\n"))
        return
    print(*args, **kwargs)


def _is_drawn_here() -> bool:
    """Whether this process draws its bars itself: a driver that no notebook watches, or no cluster at all."""
    if current_runtime.engine is None or current_runtime.mode == LOCAL:
        return True
    return current_runtime.mode == DRIVER and not current_runtime.routes_output


def _terminal_bar(bar: tqdm) -> Any:
    """The package's bar; None where it is not installed: a count is no reason for a dependency."""
    if find_spec("tqdm") is None:
        return None
    from tqdm import tqdm as terminal

    return terminal(desc=bar._desc or None, total=bar._total, unit=bar._unit, position=bar._position, leave=False)


def _number(value: Any) -> int | float:
    """A Python number, whatever numpy made of the count."""
    as_float = float(value)
    return int(as_float) if as_float.is_integer() else as_float
