"""raybook in a notebook: magics, live panels, worker output under the cell.

Reading order: magics/ray_cluster → session → output_router. ``load_ipython_extension`` is what ``%load_ext raybook``
calls; ``register_if_in_kernel`` is for ``import raybook`` and does nothing outside a running kernel.

Importing this package imports none of it: its other half, ``server``, runs in the Jupyter server's environment, where
neither ipywidgets nor a kernel need be.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

__all__ = ["load_ipython_extension", "register_if_in_kernel", "unload_ipython_extension"]


def load_ipython_extension(shell: Any) -> None:
    """Register magics, completion and cell hooks with this shell. Idempotent. Cost: 50 ms the first time."""
    import_module("raybook_kernel.extension").load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take back the cell hooks and end the panels' thread; the cluster lives on. Idempotent."""
    import_module("raybook_kernel.extension").unload(shell)


def register_if_in_kernel() -> None:
    """For ``import raybook``: load the extension when this process is a Jupyter kernel, else do nothing. Costs one
    dictionary look-up elsewhere: IPython is never imported here."""
    ipython = sys.modules.get("IPython")
    if ipython is None:
        return
    shell = ipython.get_ipython()
    if type(shell).__name__ == "ZMQInteractiveShell":
        load_ipython_extension(shell)


# Last, because inside a kernel this loads the extension by the functions above, before any module of ours is half
# imported: whoever comes first, `import raybook` or `import raybook_kernel`, the order is the same.
import raybook  # noqa: E402, F401
