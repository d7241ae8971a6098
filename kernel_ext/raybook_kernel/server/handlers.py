"""The routes: HTTP in, JSON out, every one behind the Jupyter server's own login.

    GET {base_url}raybook/ping                              {"api_version": 1}
    GET {base_url}raybook/clusters                          {"clusters": [record, ...]}
    GET {base_url}raybook/clusters/by-kernel/<kernel_id>    {"cluster": record or null}

Errors: 403 without a token, as the server gives it. A kernel that owns nothing is an answer (null), not an error.
Cost of a request: one small file and one /proc read for each cluster of this user.
"""

from __future__ import annotations

from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

from raybook.observe.clusters import cluster_of_kernel, living_clusters
from raybook_kernel.server.records import public_record

API_VERSION = 1
KERNEL_ID = r"(?P<kernel_id>[\w.-]+)"


class _ReadOnlyHandler(APIHandler):
    """Shared by the routes: what a server with an authorizer asks permission for."""

    auth_resource = "kernels"


class PingHandler(_ReadOnlyHandler):
    """Says that the server part is here: how a page decides whether it may speak to a cluster through the server."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        self.finish({"api_version": API_VERSION})


class ClustersHandler(_ReadOnlyHandler):
    """All clusters of the user this server runs as."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        self.finish({"clusters": [public_record(record) for record in living_clusters()]})


class ClusterOfKernelHandler(_ReadOnlyHandler):
    """The cluster one kernel owns."""

    @web.authenticated
    @authorized
    async def get(self, kernel_id: str) -> None:
        record = cluster_of_kernel(kernel_id)
        self.finish({"cluster": public_record(record) if record else None})


def routes(base_url: str) -> list[tuple[str, type[Any]]]:
    """Tornado's (pattern, handler) pairs for a server at this base URL."""
    return [
        (url_path_join(base_url, "raybook", "ping"), PingHandler),
        (url_path_join(base_url, "raybook", "clusters"), ClustersHandler),
        (url_path_join(base_url, "raybook", "clusters", "by-kernel", KERNEL_ID), ClusterOfKernelHandler),
    ]
