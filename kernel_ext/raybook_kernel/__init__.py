"""raybook in a notebook: magics, live panels, worker output under the cell.

Reading order: magics/ray_cluster → session → output_router. ``load_ipython_extension`` is what ``%load_ext raybook``
calls; ``register_if_in_kernel`` is for ``import raybook`` and does nothing outside a running kernel.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["load_ipython_extension", "register_if_in_kernel", "unload_ipython_extension"]

LOADED_ATTRIBUTE = "raybook_is_loaded"


def load_ipython_extension(shell: Any) -> None:
    """Register magics, completion and cell hooks with this shell. Idempotent. Cost: 30 ms the first time."""
    if getattr(shell, LOADED_ATTRIBUTE, False):
        return
    from raybook_kernel.displays import register as register_displays
    from raybook_kernel.magics.ray_cluster import register as register_ray_cluster
    from raybook_kernel.session import session_of

    session = session_of(shell)
    register_ray_cluster(shell)
    register_displays(shell)
    shell.events.register("pre_run_cell", session.before_cell)
    shell.events.register("post_run_cell", session.after_cell)
    session.hub.start_watching()
    session.before_cell()
    setattr(shell, LOADED_ATTRIBUTE, True)


def unload_ipython_extension(shell: Any) -> None:
    """Take back the cell hooks and end the panels' thread; the cluster lives on. Idempotent."""
    if not getattr(shell, LOADED_ATTRIBUTE, False):
        return
    from raybook_kernel.session import SESSION_ATTRIBUTE, session_of
    from raybook_widgets import close_hub

    session = session_of(shell)
    shell.events.unregister("pre_run_cell", session.before_cell)
    shell.events.unregister("post_run_cell", session.after_cell)
    close_hub(shell)
    delattr(shell, SESSION_ATTRIBUTE)
    setattr(shell, LOADED_ATTRIBUTE, False)


def register_if_in_kernel() -> None:
    """For ``import raybook``: load the extension when this process is a Jupyter kernel, else do nothing. Costs one
    dictionary look-up elsewhere: IPython is never imported here."""
    ipython = sys.modules.get("IPython")
    if ipython is None:
        return
    shell = ipython.get_ipython()
    if type(shell).__name__ == "ZMQInteractiveShell":
        load_ipython_extension(shell)
