"""Engine factory: from checked options to a connected engine. The one place where engines are named.

They are imported here when they are needed: a script that only defines functions needs none, and a driver never needs
the local mode.
"""

from __future__ import annotations

from typing import Any

from raybook.api.context import DRIVER, LOCAL
from raybook.api.init_options import InitOptions
from raybook.engines.engine import Engine


def start_engine(options: InitOptions) -> tuple[Engine, str, Any]:
    """(engine, mode, cluster that was started here or None). ConnectionError when there is no cluster at the address;
    RuntimeError, with the log of the step that failed, when one cannot be started. Blocks until it is up."""
    if options.local_mode:
        from raybook.engines.local_mode import LocalModeEngine

        return LocalModeEngine(options), LOCAL, None
    from raybook.engines.native import NativeEngine

    if options.address is None:
        return NativeEngine.start_local(options), DRIVER, None
    return NativeEngine.connect(options.address, options), DRIVER, None
