"""Observed: the facts of the whole cluster at one moment, for code rather than for panels.

Owners tell of their tasks only while somebody looks (that keeps them quick), so whoever wants the present counts looks
for a moment. Knows no meaning of any fact.
"""

from __future__ import annotations

import time

from raybook.api.context import started_engine
from raybook.base.facts import Row
from raybook.protocol.messages.gcs import GetFacts

LOOK_S = 0.4
"""Owners publish and the head passes on every 250 ms (``base.config.fact_interval_ms``)."""


def fact_rows(*kinds: str, look_s: float = 0.0) -> dict[str, list[Row]]:
    """The rows of these kinds as the head knows them, longest unchanged first. look_s: let owners tell what they have
    kept to themselves first; blocks as long (``LOOK_S`` is enough). RuntimeError when nothing was started."""
    engine = started_engine()
    if look_s:
        stop_looking = engine.subscribe_facts(lambda delta: None)
        try:
            time.sleep(look_s)
        finally:
            stop_looking()
    rows: dict[str, list[Row]] = {kind: [] for kind in kinds}
    for fact in engine.gcs_call("GetFacts", GetFacts()).facts:
        if fact.kind in rows and fact.row is not None:
            rows[fact.kind].append(fact.row)
    return rows
