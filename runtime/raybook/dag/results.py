"""Results: which results of a compiled graph have been read, are wanted, and were handed out. Book-keeping only.

Results come by channel, in the order of the executions, and are asked for in any order; one result is asked for by
*position*, and two positions may share a channel. Invariants: a value is kept only while somebody may ask for it; each
position of each execution is handed out once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raybook.base.errors import RayCgraphCapacityExceeded
from raybook.dag.messages import Failure


class Results:
    """channel_of: position → number of its channel among the driver's. buffered_max: executions with values in here."""

    def __init__(self, channel_of: list[int], buffered_max: int) -> None:
        self._channel_of = channel_of
        self._buffered_max = buffered_max
        self.submitted = 0
        self.asked = -1
        """The latest execution that somebody has asked for."""
        self.next = [0] * (max(channel_of) + 1)
        """Of each channel, the execution whose value comes next."""
        self._values: dict[int, dict[int, Any]] = {}
        self._open: dict[int, set[int]] = {}
        """Execution → positions that were neither handed out nor dropped."""

    @property
    def finished(self) -> int:
        """Executions all of whose values were read."""
        return min(self.next)

    @property
    def in_flight(self) -> int:
        """Executions submitted and not finished."""
        return self.submitted - self.finished

    @property
    def buffered(self) -> int:
        """Executions of which values lie here."""
        return len(self._values)

    def submit(self) -> int:
        """One more execution; its number, from 0 on."""
        execution = self.submitted
        self._open[execution] = set(range(len(self._channel_of)))
        self.submitted += 1
        return execution

    def drop(self, execution: int, position: int) -> None:
        """Nobody will ask for this one."""
        positions = self._open.get(execution)
        if positions is not None:
            positions.discard(position)
            self._tidy(execution, position)

    def keep_only(self, is_held: Callable[[int, int], bool]) -> None:
        """Drop what nobody holds, and what an interrupt left half dropped."""
        for execution, positions in list(self._open.items()):
            for position in range(len(self._channel_of)):
                if position not in positions or not is_held(execution, position):
                    self.drop(execution, position)
        for execution in self._values.keys() - self._open.keys():
            del self._values[execution]

    def is_wanted(self, channel: int) -> bool:
        """Whether somebody may ask for the channel's next value. RayCgraphCapacityExceeded when there is no room for it."""
        execution = self.next[channel]
        positions = self._open.get(execution)
        if not positions or not any(self._channel_of[position] == channel for position in positions):
            return False
        if execution not in self._values and len(self._values) >= self._buffered_max:
            raise RayCgraphCapacityExceeded(
                f"The compiled graph can't have more than {self._buffered_max} buffered results, and you currently have "
                f"{len(self._values)} buffered results. Call `ray.get()` on CompiledDAGRef's (or await on "
                "CompiledDAGFuture's) to retrieve results, or increase `_max_buffered_results` if buffering is desired, "
                "note that this will increase driver memory usage."
            )
        return True

    def put(self, channel: int, value: Any) -> None:
        """The channel's next value, wanted."""
        self._values.setdefault(self.next[channel], {})[channel] = value
        self.next[channel] += 1

    def lose(self, channel: int, failure: Failure) -> None:
        """The channel's next value was read, and an interrupt came before it was kept."""
        execution = self.next[channel]
        if self._open.get(execution):
            self._values.setdefault(execution, {}).setdefault(channel, failure)
        self.next[channel] += 1

    def pass_over(self, channel: int) -> None:
        """The channel's next value was read by nobody."""
        self.next[channel] += 1

    def is_settled(self, execution: int) -> bool:
        """Whether nothing has to be waited for: every value was read, or one is an error."""
        return min(self.next) > execution or self.failure(execution) is not None

    def failure(self, execution: int) -> Failure | None:
        """The first error among the execution's values."""
        values = self._values.get(execution)
        if values:
            for channel in sorted(values):
                if type(values[channel]) is Failure:
                    return values[channel]
        return None

    def may_finish_head(self) -> bool:
        """Whether the oldest unfinished execution is one that nobody will wait for any more, or has waited for."""
        head = self.finished
        return head < self.submitted and (head <= self.asked or head not in self._open)

    def take(self, execution: int, position: int) -> Any:
        """The value, or the Failure to raise instead: its own, or another's when it is not there yet."""
        values = self._values.get(execution, {})
        channel = self._channel_of[position]
        value = values[channel] if channel in values else self.failure(execution)
        self.drop(execution, position)
        return value

    def _tidy(self, execution: int, position: int) -> None:
        positions = self._open[execution]
        channel = self._channel_of[position]
        values = self._values.get(execution)
        if values is not None and not any(self._channel_of[other] == channel for other in positions):
            values.pop(channel, None)
        if not positions:
            del self._open[execution]
        if values is not None and not values:
            del self._values[execution]
