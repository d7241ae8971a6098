"""Kernel identity: which kernel of the Jupyter server this process is.

The server names a kernel's connection file after it (``kernel-<id>.json``); that is the only place where a kernel can
read its own id. Source: jupyter_client's ``write_connection_file``.
"""

from __future__ import annotations

import re
from pathlib import PurePath

from IPython.core.interactiveshell import InteractiveShell

_CONNECTION_FILE = re.compile(r"kernel-(?P<id>[0-9a-fA-F-]{8,})\.json")


def kernel_id_of(shell: InteractiveShell) -> str:
    """The id in the server's URLs; "" for a kernel that no server started, and outside a kernel."""
    application = getattr(getattr(shell, "kernel", None), "parent", None)
    return kernel_id_in(str(getattr(application, "connection_file", "") or ""))


def kernel_id_in(connection_file: str) -> str:
    """The id in a connection file's name, "" when it has none."""
    match = _CONNECTION_FILE.fullmatch(PurePath(connection_file).name)
    return match["id"] if match else ""
