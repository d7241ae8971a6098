"""Views: which stored object a Python value looks into, if it is a view of shared memory.

Follows what numpy and memoryviews say they are based on down to the pin (``io/pin``) that keeps the object.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from raybook.core.owner.records import Unpin

BASES_MAX = 8


def viewed_object(value: Any) -> bytes | None:
    """The id of the object whose bytes this value shows; None for anything else. Cost: 1 µs."""
    module = sys.modules.get("raybook.io.pin")
    if module is None:
        return None
    if not isinstance(value, (memoryview, module.numpy.ndarray)):
        return None
    for _ in range(BASES_MAX):
        if isinstance(value, module.Pin):
            release = getattr(value, "_release", None)
            if release is not None:
                return _id_in(release)
        if isinstance(value, memoryview):
            value = value.obj
        else:
            value = getattr(value, "base", None)
        if value is None:
            return None
    return None


def _id_in(release: Any) -> bytes | None:
    """The id that the end of a pin hands in (``worker/values``)."""
    if not isinstance(release, partial) or not release.args:
        return None
    what = release.args[-1]
    return what.object_id if isinstance(what, Unpin) else what if isinstance(what, bytes) else None
