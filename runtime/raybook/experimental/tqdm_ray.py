"""tqdm_ray: a progress bar that works in tasks and actors as it does in the driver.

What workers print reaches the driver, which shows unended lines while they move; so a bar is one line that is written
again at most every ``flush_interval_s``, and ended when the bar closes. Takes what Ray's takes; without a terminal of its
own it needs no place on the screen.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

BAR_CHARS = 24


class tqdm:  # noqa: N801 - its name everywhere.
    """Progress through ``iterable``, or by hand through ``update``. total: how many steps, where that is known.
    desc, unit: words of the line. position: accepted."""

    def __init__(
        self,
        iterable: Iterable[Any] | None = None,
        desc: str | None = None,
        total: int | None = None,
        unit: str | None = None,
        position: int | None = None,
        flush_interval_s: float | None = None,
    ) -> None:
        if total is None and iterable is not None and hasattr(iterable, "__len__"):
            total = len(iterable)  # type: ignore[arg-type]
        self._iterable = iterable
        self._desc = desc or ""
        self._unit = unit or "it"
        self._interval_s = 1.0 if flush_interval_s is None else flush_interval_s
        self._next_s = 0.0
        self._closed = False
        self.total = total
        self.n = 0
        self.refresh()

    def __iter__(self) -> Iterator[Any]:
        if self._iterable is None:
            raise ValueError("No iterable was given to this progress bar.")
        try:
            for item in self._iterable:
                yield item
                self.update()
        finally:
            self.close()

    def set_description(self, desc: str) -> None:
        """Change the words at the front."""
        self._desc = desc
        self.refresh()

    def update(self, n: int = 1) -> None:
        """So many steps more."""
        self.n += n
        self.refresh()

    def refresh(self) -> None:
        """Show it, unless it was shown a moment ago."""
        now_s = time.monotonic()
        if now_s >= self._next_s and not self._closed:
            self._next_s = now_s + self._interval_s
            self._write("")

    def close(self) -> None:
        """Show it as it is now and end its line. Idempotent."""
        if not self._closed:
            self._closed = True
            self._write("\n")

    def _write(self, end: str) -> None:
        sys.stderr.write(f"\r{self}{end}")
        sys.stderr.flush()

    def __str__(self) -> str:
        front = f"{self._desc}: " if self._desc else ""
        if not self.total:
            return f"{front}{self.n}{self._unit}"
        share = min(1.0, self.n / self.total)
        bar = "#" * round(share * BAR_CHARS)
        return f"{front}{share:4.0%}|{bar:<{BAR_CHARS}}| {self.n}/{self.total} {self._unit}"


def safe_print(*args: Any, **kwargs: Any) -> None:
    """Print beside bars."""
    print(*args, **kwargs)
