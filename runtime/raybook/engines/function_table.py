"""Function table: the functions that this process submits, each version once.

A cell that is run again makes a new version of its function, with all that it captured. Versions that no task waits for
are forgotten, here and in the workers, once they are many or large; a task that needs one of them after all (the user
kept the old function, or an object is rebuilt) brings the code along again.
"""

from __future__ import annotations

from raybook.core.owner.records import FunctionStats
from raybook.engines.engine import Function
from raybook.worker.core_process import CoreProcess

VERSIONS_MAX = 512
BYTES_MAX = 32 << 20


class FunctionTable:
    """known: key → what is known of this version; read directly on the way of a task."""

    def __init__(self, core: CoreProcess) -> None:
        self.known: dict[bytes, FunctionStats] = {}
        self._core = core
        self._bytes = 0

    def enter(self, function: Function, name: str) -> FunctionStats:
        """A version that is not known. name: what its first caller calls it."""
        stats = FunctionStats(name, function.payload, function.short_name)
        self.known[function.key] = stats
        self._core.facts.register(stats)
        self._bytes += len(stats.payload)
        if len(self.known) > VERSIONS_MAX or self._bytes > BYTES_MAX:
            self._forget_some(stats)
        return stats

    def _forget_some(self, newest: FunctionStats) -> None:
        """The oldest first, as far as none of their tasks is on its way."""
        for key, stats in list(self.known.items()):
            if len(self.known) <= VERSIONS_MAX and self._bytes <= BYTES_MAX:
                return
            if stats is newest or stats.is_busy:
                continue
            # Another thread may enter or forget at the same time.
            if self.known.pop(key, None) is not None:
                self._bytes -= len(stats.payload)
                self._core.submit_call(lambda key=key, stats=stats: self._forget(key, stats))  # type: ignore[misc]

    def _forget(self, key: bytes, stats: FunctionStats) -> None:
        """On the I/O thread, which alone knows whether a task has come in between."""
        if not stats.is_busy:
            self._core.facts.retire(stats)
            self._core.forget_code(key)
