"""Steadiness: what has waited for a while, as opposed to what is just on its way.

Nodes report one after the other. A task that was given to a new node is still reported as waiting by the old one for some
milliseconds, while the new one reports less room: seen together they look like a task without a place. So demand is the
least that was seen of it over a short window. Invariant: nothing counts that was not there in every look of the window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Steadiness:
    """window_ms: how long something has to be there before it counts; 0: at once."""

    def __init__(self, window_ms: int) -> None:
        self.window_ms = window_ms
        self._looks: deque[tuple[int, Mapping[Any, int]]] = deque()

    def look(self, counts: Mapping[Key, int], now_ms: int) -> dict[Key, int]:
        """What of ``counts`` counts now, in the same order. Cost: keys × looks in the window."""
        looks = self._looks
        looks.append((now_ms, counts))
        began_ms = now_ms - self.window_ms
        while len(looks) > 1 and looks[1][0] <= began_ms:
            looks.popleft()
        if looks[0][0] > began_ms:
            return {}
        steady = {key: min(seen.get(key, 0) for _, seen in looks) for key in counts}
        return {key: count for key, count in steady.items() if count}
