"""Connect: makes an engine the current one of this process, and tells it how public refs and handles look.

Called by ``init`` in drivers and by the entry of a worker process.
"""

from __future__ import annotations

from typing import Any

from raybook.api.actor_handle import ActorHandle, reduce_handle
from raybook.api.context import ARCHIVES, current_runtime
from raybook.api.object_ref import ObjectRef, reduce_ref
from raybook.engines.engine import Engine


def attach_engine(engine: Engine, mode: str, cluster: Any = None, context: Any = None) -> None:
    """Make ``engine`` current. mode: DRIVER, WORKER or LOCAL. cluster: what ``shutdown`` has to stop as well. Call it
    before the first submission."""
    engine.make_ref = ObjectRef
    engine.serialization.reducers[ObjectRef] = reduce_ref
    engine.serialization.reducers[ActorHandle] = reduce_handle
    current_runtime.engine = engine
    current_runtime.mode = mode
    current_runtime.cluster = cluster
    current_runtime.context = context
    current_runtime.is_forked = False
    shelf = current_runtime.lasting.get(ARCHIVES)
    if shelf is not None:
        shelf.send_all(engine)
