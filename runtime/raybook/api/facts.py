"""Facts from above: how libraries (Tune, Train, ...) put rows under the eyes of whoever looks."""

from __future__ import annotations

import msgspec

from raybook.api.context import current_runtime
from raybook.base.facts import Fact, Row


def publish_fact(kind: str, key: str, row: Row | None) -> None:
    """Publish one row of ``kind`` (see ``base/facts``); None forgets the key. Does nothing when raybook is not started.
    Returns at once. TypeError for a value that no message carries, such as a number of numpy's: found out later, on the
    thread that sends, it would end the process."""
    try:
        msgspec.msgpack.encode(row)
    except TypeError as error:
        raise TypeError(
            f"The {kind} fact {key!r} was not published: {error}. Rows hold numbers, strings, booleans, None, lists and "
            "dicts of Python's own."
        ) from None
    engine = current_runtime.engine
    if engine is not None and not engine.closed:
        engine.publish_facts([Fact(kind, key, row)])
