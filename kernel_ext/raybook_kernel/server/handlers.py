"""The routes: HTTP in, JSON out, every one behind the Jupyter server's own login.

    GET  {base_url}raybook/ping                              {"api_version": 2, "commands": [...], "ws": true}
    GET  {base_url}raybook/clusters                          {"clusters": [record, ...]}
    POST {base_url}raybook/clusters                          start one: see `starting`; {"cluster": record}
    GET  {base_url}raybook/clusters/by-kernel/<kernel_id>    {"cluster": record or null}
    POST {base_url}raybook/clusters/<cluster>/<command>      see `commands`; {"ok": true, "said": text, ...}
         {base_url}raybook/ws                                see `socket`

Errors: 403 without a token or, for a POST, without the XSRF header, as the server gives it. A kernel that owns nothing is
an answer (null), not an error. Cost of a GET: one small file and one /proc read for each cluster of this user.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import msgspec
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

from raybook.observe.clusters import cluster_of_kernel, find_cluster, living_clusters
from raybook.observe.remote import ClusterSilent, CommandRefused, RemoteCluster
from raybook_kernel.server.commands import COMMAND_NAMES, COMMANDS, HandOver, hand_over
from raybook_kernel.server.records import public_record
from raybook_kernel.server.socket import PanelSocket
from raybook_kernel.server.starting import Start, start_cluster
from raybook_kernel.server.upstreams import Upstreams

API_VERSION = 2
KERNEL_ID = r"(?P<kernel_id>[\w.-]+)"
CLUSTER = r"(?P<cluster>[\w.:%-]+)"
COMMAND = r"(?P<command>[a-z-]+)"


class _Handler(APIHandler):
    """Shared by the routes: what a server with an authorizer asks permission for, and how an error is told."""

    auth_resource = "kernels"

    def refuse(self, status: int, what: str, next_step: str = "") -> None:
        self.set_status(status)
        self.finish({"message": what, "what": what, "next": next_step})

    async def answered(self, doing: Awaitable[dict[str, Any]]) -> None:
        """Finish with what it gives, or say why not."""
        try:
            self.finish(await doing)
        except ValueError as error:
            self.refuse(400, str(error))
        except CommandRefused as error:
            self.refuse(409, str(error))
        except ClusterSilent as error:
            self.refuse(504, str(error), "Try again; if it stays silent, stop it.")
        except OSError as error:
            self.refuse(409, str(error))


class PingHandler(_Handler):
    """Says that the server part is here: how a page decides whether it may speak to a cluster through the server."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        self.finish({"api_version": API_VERSION, "commands": list(COMMAND_NAMES), "ws": True})


class ClustersHandler(_Handler):
    """All clusters of the user this server runs as."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        self.finish({"clusters": [public_record(record) for record in living_clusters()]})

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Start one."""
        try:
            wish = msgspec.json.decode(self.request.body or b"{}", type=Start)
            spec = self._spec(wish.kernelspec)
        except (msgspec.MsgspecError, KeyError) as error:
            self.refuse(400, str(error).strip("'\""))
            return
        await self.answered(self._start(wish, spec))

    def _spec(self, name: str) -> Any:
        """KeyError when there is no such kernelspec."""
        return self.kernel_spec_manager.get_kernel_spec(name or self.kernel_manager.default_kernel_name)

    async def _start(self, wish: Start, spec: Any) -> dict[str, Any]:
        return {"cluster": public_record(await start_cluster(wish, spec.argv, spec.language, spec.env))}


class ClusterOfKernelHandler(_Handler):
    """The cluster one kernel owns."""

    @web.authenticated
    @authorized
    async def get(self, kernel_id: str) -> None:
        record = cluster_of_kernel(kernel_id)
        self.finish({"cluster": public_record(record) if record else None})


class CommandHandler(_Handler):
    """One command to one cluster."""

    @web.authenticated
    @authorized
    async def post(self, cluster: str, command: str) -> None:
        if command not in COMMAND_NAMES:
            self.refuse(404, f"There is no command {command!r}; there are {', '.join(COMMAND_NAMES)}.")
            return
        record = find_cluster(cluster)
        if record is None:
            self.refuse(404, f"There is no cluster {cluster!r} (any more).", "The sidebar lists those that run.")
            return
        kind, work = COMMANDS.get(command) or (HandOver, self._hand_over)
        try:
            body: Any = msgspec.json.decode(self.request.body or b"{}", type=kind)
        except msgspec.MsgspecError as error:
            self.refuse(400, f"{command}: {error}")
            return
        remote = RemoteCluster(record)
        try:
            await self.answered(_done(work(remote, body)))
        finally:
            await remote.close()

    async def _hand_over(self, remote: RemoteCluster, body: HandOver) -> dict[str, Any]:
        return await hand_over(remote, body, self._pid_of(body.kernel_id))

    def _pid_of(self, kernel_id: str) -> int | None:
        """Of a kernel that this server started itself."""
        if kernel_id not in self.kernel_manager:
            return None
        return getattr(self.kernel_manager.get_kernel(kernel_id).provisioner, "pid", None)


async def _done(work: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    return {"ok": True, **await work}


def routes(base_url: str) -> list[Any]:
    """Tornado's (pattern, handler) pairs for a server at this base URL."""
    return [
        (url_path_join(base_url, "raybook", "ping"), PingHandler),
        (url_path_join(base_url, "raybook", "clusters"), ClustersHandler),
        (url_path_join(base_url, "raybook", "clusters", "by-kernel", KERNEL_ID), ClusterOfKernelHandler),
        (url_path_join(base_url, "raybook", "clusters", CLUSTER, COMMAND), CommandHandler),
        (url_path_join(base_url, "raybook", "ws"), PanelSocket, {"upstreams": Upstreams()}),
    ]
