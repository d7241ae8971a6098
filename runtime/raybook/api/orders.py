"""Orders from outside: how a library hears of what somebody wants who has no reference to its things, such as a button in
JupyterLab that stops a trial of another process's sweep.

The order travels through the GCS to every process (``worker/orders``), so it reaches a driver whose main thread is busy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raybook.api.context import started_engine

Handler = Callable[[dict[str, Any]], dict[str, Any] | None]


def on_order(verb: str, handler: Handler) -> Callable[[], None]:
    """Have ``handler`` called with every order of this verb, until the returned function is called.

    handler: gets what the order says (``{"verb": "stop-trial", "run_id": …, "trial_id": …}``); returns what it did, as a
    dict of JSON-able values, or None when the thing is not its own. It runs on the I/O thread: it takes note and returns;
    whatever it raises is told to whoever gave the order. In local mode, and in thin clients, no order arrives.
    RuntimeError when nothing was started.
    """
    desk = getattr(started_engine(), "orders", None)
    return desk.add(verb, handler) if desk is not None else lambda: None
