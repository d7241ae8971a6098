"""Pin: keeps an object's range of the arena from being reused while anybody looks at it.

It knows no arena and no object: bytes to look at, and whom to tell. Apart from `shm_arena` because it imports numpy,
which `import raybook` must not.

Invariant: `release` is called exactly once for each pin, after the last view over it is gone.

Why a numpy subclass: its instances take part in the buffer protocol and run `__del__` when the last view goes.
A weak reference on a memoryview fires too early (slices keep the exporter alive, not the memoryview);
`weakref.finalize` costs 1 µs; and a class of our own can export a buffer only from Python 3.12 on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy


class Pin(numpy.ndarray):
    """A uint8 array over a range, whose end of life is the release of the range."""

    __slots__ = ("_release",)

    _release: Callable[[], None]

    def __del__(self) -> None:
        # Somebody who digs out `view.obj` and slices it makes a Pin without `_release`; that one keeps this one alive.
        release = getattr(self, "_release", None)
        if release is not None:
            release()


def pinned_buffer(view: memoryview, release: Callable[[], None]) -> memoryview:
    """See `shm_arena.pinned_buffer`."""
    pin: Any = Pin(len(view), numpy.uint8, view)
    pin._release = release
    exported: memoryview = memoryview(pin)
    return exported
