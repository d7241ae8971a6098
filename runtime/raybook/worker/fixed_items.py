"""Fixed items: what a generator made for a task that declares how many returns it has (``num_returns=3``).

Each item is one return. Whoever asks for the items that came before an error, or before the generator ended too early,
gets them; the error is the value of the others. Items beyond the declared number are not asked for, and the generator
is closed. Knows nothing of how values are stored or sent. Source: Ray's generators with a fixed ``num_returns``.
"""

from __future__ import annotations

from collections.abc import Callable
from types import GeneratorType
from typing import Any

END: Any = object()
"""What a step of a generator gives at its end."""


class FixedItems:
    """The items, and what ended the generator before there were enough of them."""

    __slots__ = ("error", "items")

    def __init__(self, items: list[Any], error: BaseException | None) -> None:
        self.items = items
        self.error = error


def is_taken_apart(result: GeneratorType, num_returns: int, function: Any) -> bool:
    """Whether the items of a generator are the returns. With one return, only that of a generator function
    which was told to have one: a generator that a plain function returns is a mistake, and said to be one."""
    return num_returns > 1 or result.gi_code is getattr(function, "__code__", None)


def next_item(generator: GeneratorType) -> Any:
    """The next item, or END."""
    return next(generator, END)


def take_items(generator: GeneratorType, count: int, step: Callable[[Any], Any] = next_item) -> FixedItems:
    """The first ``count`` items. step: runs user code up to the next item, or END. Of what the generator raises, only
    an Exception is kept for the missing items; an interrupt or an exit is the task's."""
    items: list[Any] = []
    error: BaseException | None = None
    try:
        while len(items) < count:
            item = step(generator)
            if item is END:
                error = ValueError(f"Task returned {len(items)} objects, but num_returns={count}.")
                break
            items.append(item)
    except Exception as raised:  # noqa: BLE001 - whatever user code raises is the value of the missing items.
        error = raised
    finally:
        generator.close()
    return FixedItems(items, error)
