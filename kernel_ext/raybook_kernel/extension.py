"""Extension: what loading raybook into a shell registers, and what unloading takes back."""

from __future__ import annotations

from typing import Any

from raybook.api.captures import watch_code
from raybook.api.own_tasks import failed_tasks
from raybook_kernel import displays, tracebacks
from raybook_kernel.magics import looking, ray_cluster, ray_job, remote_cells, rerun, waiting
from raybook_kernel.session import SESSION_ATTRIBUTE, session_of
from raybook_widgets import close_hub

LOADED_ATTRIBUTE = "raybook_is_loaded"


def load(shell: Any) -> None:
    """Register with this shell. Idempotent."""
    if getattr(shell, LOADED_ATTRIBUTE, False):
        return
    session = session_of(shell)
    tracebacks.register(shell, lambda: session.is_connected and bool(failed_tasks()))
    for magic in (ray_cluster, ray_job, looking, waiting, remote_cells, rerun):
        magic.register(shell)
    displays.register(shell)
    shell.events.register("pre_run_cell", session.before_cell)
    shell.events.register("post_run_cell", session.after_cell)
    session.access.route_output(True)
    watch_code(session.code)
    session.hub.start_watching()
    session.before_cell()
    session.interrupts.watch(shell)
    setattr(shell, LOADED_ATTRIBUTE, True)


def unload(shell: Any) -> None:
    """Take back the cell hooks, end the panels' thread, make panels final; the cluster lives on. Idempotent."""
    if not getattr(shell, LOADED_ATTRIBUTE, False):
        return
    session = session_of(shell)
    shell.events.unregister("pre_run_cell", session.before_cell)
    shell.events.unregister("post_run_cell", session.after_cell)
    session.access.route_output(False)
    watch_code(None)
    close_hub(shell)
    delattr(shell, SESSION_ATTRIBUTE)
    setattr(shell, LOADED_ATTRIBUTE, False)
