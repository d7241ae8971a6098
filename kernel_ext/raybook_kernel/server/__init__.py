"""The Jupyter server extension: shows clusters and hands them commands, so that a page can do both while kernels are busy.

In this room, in reading order: `handlers` (the routes), `records` (what of a record may leave the machine), `commands` and
`starting`; `socket` (one WebSocket a page) → `upstreams` (one subscription a cluster) → `panel_channel` (what a reader has
missed). It holds no state that cannot be asked for again: a restarted server has lost nothing. It runs in the Jupyter
server's environment, which need not be the kernel's, so it imports what looks at clusters and nothing else of the runtime;
it starts no thread, and grpc is imported when the first cluster is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybook_kernel.server.handlers import routes
from raybook_kernel.server.lab_extension import say_when_missing

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Jupyter's question: which modules of this package are extensions."""
    return [{"module": "raybook_kernel.server"}]


def _load_jupyter_server_extension(server_app: ServerApp) -> None:
    """Jupyter's call at start-up: add our routes under `{base_url}raybook/`."""
    base_url = server_app.web_app.settings["base_url"]
    server_app.web_app.add_handlers(".*$", routes(base_url))
    say_when_missing(server_app.log)
