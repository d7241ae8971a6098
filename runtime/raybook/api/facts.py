"""Facts from above: how libraries (Tune, Train, ...) put rows under the eyes of whoever looks."""

from __future__ import annotations

from raybook.api.context import current_runtime
from raybook.base.facts import Fact, Row


def publish_fact(kind: str, key: str, row: Row | None) -> None:
    """Publish one row of ``kind`` (see ``base/facts``); None forgets the key. Does nothing when raybook is not started.
    Returns at once."""
    engine = current_runtime.engine
    if engine is not None and not engine.closed:
        engine.publish_facts([Fact(kind, key, row)])
