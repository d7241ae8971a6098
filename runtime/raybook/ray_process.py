"""Ray process: what makes raybook's verbs work inside a worker of a real Ray cluster. Composition, and nothing else.

Called before the first reference is rebuilt or the first function loaded there; idempotent.
"""

from __future__ import annotations

import threading

from raybook.api.connect import attach_engine
from raybook.api.context import WORKER, current_runtime
from raybook.engines.ray.engine import RayEngine

_making = threading.Lock()


def ensure_engine() -> None:
    """Make an engine on this process's connection to Ray the current one, unless there is one."""
    if current_runtime.engine is not None:
        return
    with _making:
        if current_runtime.engine is None:
            attach_engine(RayEngine(), WORKER)
