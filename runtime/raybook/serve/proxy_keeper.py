"""Proxy keeper: which nodes have an HTTP proxy, and whether each knows the routes in force.

Proxies stand on the head node, or on every node with a replica; they are started at once, so that a busy port is told
before anything is deployed. Invariant: an application counts as running only when each healthy proxy has its route.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from raybook.api import NodeAffinitySchedulingStrategy, get_runtime_context, kill, nodes, remote
from raybook.serve.core.names import NAMESPACE, PROXY_PREFIX
from raybook.serve.core.statuses import ProxyStatus
from raybook.serve.exceptions import RayServeException
from raybook.serve.proxy import HttpProxy

logger = logging.getLogger("ray.serve")
Routes = dict[str, tuple[str, str, str]]
Doors = dict[str, tuple[str, str]]
"""prefix → (node, path) of the only replica behind it."""


class ProxyKeeper:
    """The proxy of one node."""

    def __init__(self, node_id: str, http: dict[str, Any], grpc: dict[str, Any], is_first: bool) -> None:
        self.node_id = node_id
        self.name = f"{PROXY_PREFIX}-{node_id}"
        self.status = ProxyStatus.STARTING
        self.error = ""
        self.facts: dict[str, Any] = {}
        self.routes_sent: tuple[Routes, dict[str, str]] | None = None
        self.is_sending = False
        options = {
            "name": self.name, "namespace": NAMESPACE, "lifetime": "detached", "num_cpus": 0, "max_restarts": -1,
            "max_concurrency": 100_000, "get_if_exists": True,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False),
        }  # fmt: skip
        self.handle = remote(**options)(HttpProxy).remote(http, grpc, is_first)

    async def start(self) -> None:
        """Until it listens, or cannot."""
        try:
            self.facts = await self.handle.listen.remote()
            self.status = ProxyStatus.HEALTHY
        except Exception as error:  # noqa: BLE001 - why it cannot listen is for the user to read.
            self.status, self.error = ProxyStatus.UNHEALTHY, str(getattr(error, "cause", None) or error)

    def wanted(self, routes: Routes, doors: Doors) -> tuple[Routes, dict[str, str]]:
        """What it should know."""
        return routes, {prefix: path for prefix, (node_id, path) in doors.items() if node_id == self.node_id}

    async def send(self, wanted: tuple[Routes, dict[str, str]]) -> None:
        """Tell it the routes; what fails is sent again."""
        self.is_sending = True
        try:
            await self.handle.update_routes.remote(*wanted)
            self.routes_sent, self.status = wanted, ProxyStatus.HEALTHY
        except Exception as error:  # noqa: BLE001 - it is starting again, or gone with its node.
            logger.warning("The proxy on node %s did not take its routes: %r", self.node_id, error)
            await asyncio.sleep(0.2)
        finally:
            self.is_sending = False


class ProxyFleet:
    """All proxies. location: Disabled, HeadOnly or EveryNode. on_change() is called when one listens, or cannot."""

    def __init__(
        self, http: dict[str, Any], grpc: dict[str, Any], location: str, on_change: Callable[[], None]
    ) -> None:
        self._on_change = on_change
        self._http = http
        self._grpc = grpc
        self._location = location
        self._proxies: dict[str, ProxyKeeper] = {}
        self._routes: Routes = {}
        self._doors: Doors = {}
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """The head node's, at once."""
        if self._location != "Disabled":
            self._add(_head_node(), is_first=True)

    def _add(self, node_id: str, is_first: bool) -> None:
        proxy = self._proxies[node_id] = ProxyKeeper(node_id, self._http, self._grpc, is_first)
        task = self._starting[node_id] = asyncio.get_running_loop().create_task(proxy.start())
        task.add_done_callback(lambda _: self._on_change())

    async def ready(self) -> None:
        """Until the first listens. RayServeException saying why it cannot."""
        for node_id, task in list(self._starting.items())[:1]:
            await asyncio.wait([task])
            proxy = self._proxies[node_id]
            if proxy.status is ProxyStatus.UNHEALTHY:
                raise RayServeException(proxy.error)

    def set_routes(self, routes: Routes, doors: Doors, replica_nodes: set[str]) -> None:
        """What is to be served, where single replicas take connections, and where replicas run."""
        self._routes, self._doors = routes, doors
        if self._location == "EveryNode":
            for node_id in replica_nodes - self._proxies.keys():
                self._add(node_id, is_first=False)
        for proxy in self._proxies.values():
            wanted = proxy.wanted(routes, doors)
            # One that starts listens first: whether its port is free, `listen` alone finds out.
            if proxy.status is ProxyStatus.HEALTHY and proxy.routes_sent != wanted and not proxy.is_sending:
                task = asyncio.get_running_loop().create_task(proxy.send(wanted))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def routes_pending(self) -> bool:
        """Whether a healthy proxy does not have the routes in force yet."""
        return any(
            (proxy.routes_sent is None or proxy.routes_sent[0] != self._routes)
            and proxy.status is not ProxyStatus.UNHEALTHY
            for proxy in self._proxies.values()
        )

    def handles(self) -> dict[str, Any]:
        """By node."""
        return {node_id: proxy.handle for node_id, proxy in self._proxies.items()}

    def rows(self) -> dict[str, dict[str, Any]]:
        """For status: by node."""
        return {
            node_id: {"status": proxy.status.value, "actor_name": proxy.name, "error": proxy.error, **proxy.facts}
            for node_id, proxy in self._proxies.items()
        }

    async def shutdown(self) -> None:
        """Stop listening; connections that have a request are answered first."""
        for proxy in self._proxies.values():
            try:
                await asyncio.wait_for(_await(proxy.handle.drain.remote()), 3.0)
            except Exception as error:  # noqa: BLE001 - it ends in any case.
                logger.debug("Draining the proxy on %s: %r", proxy.node_id, error)
            try:
                kill(proxy.handle)
            except Exception as error:  # noqa: BLE001 - gone already.
                logger.debug("Ending the proxy on %s: %r", proxy.node_id, error)


async def _await(ref: Any) -> Any:
    return await ref


def _head_node() -> str:
    """The node that has the GCS, as far as can be told; else this one."""
    rows = [row for row in nodes() if row["Alive"]]
    head = next((row["NodeID"] for row in rows if "node:__internal_head__" in row["Resources"]), None)
    return head or get_runtime_context().get_node_id()
