"""One node in a process of its own: the raylet between two gRPC conversations, and an end that leaves nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import Any

import msgspec

from raybook.base import ids
from raybook.base.config import read_environment
from raybook.base.resources import OBJECT_STORE_MEMORY
from raybook.io import session_dir
from raybook.io.channel import RemoteError
from raybook.io.daemon import Starter
from raybook.io.descendants import end_descendants
from raybook.io.process import become_subreaper, raise_file_limit
from raybook.io.rpc import GrpcChannel, RpcServer, serve_grpc
from raybook.io.watchdog import Watchdog
from raybook.protocol.messages.daemons import NodeOptions, Ready
from raybook.raylet.offer import offered_resources
from raybook.raylet.service import Raylet
from raybook.raylet.zygote_client import ZygoteHandle

logger = logging.getLogger(__name__)

STOP_S = 1.0
"""Time for the raylet to let its clients and workers go before they are killed."""


def run_node(options: NodeOptions, zygote: ZygoteHandle) -> int:
    """Run until the end; the exit code. Errors before readiness go to whoever started us."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    become_subreaper()
    raise_file_limit()
    node = StandaloneNode(options, zygote)
    try:
        asyncio.run(node.run())
    except (OSError, ValueError, TypeError, RemoteError) as error:
        logger.exception("The node could not run.")
        node.starter.tell({"error": f"The node could not start: {error}"})
        return 1
    finally:
        node.leave_nothing()
    # Threads of grpc and the watchdog are of no more use.
    logging.shutdown()
    os._exit(0)


class StandaloneNode:
    """The service the GCS calls, until there is a raylet to pass its calls to."""

    def __init__(self, options: NodeOptions, zygote: ZygoteHandle) -> None:
        self._options = options
        self._zygote = zygote
        self._session = Path(options.session_dir)
        self._raylet: Raylet | None = None
        self.starter = Starter(options.ready_fd)
        session_dir.claim(self._session, os.getpid())
        self._watchdog = Watchdog(None, lambda: None, self._end_by_force)

    async def call(self, method: str, request: Any) -> Any:
        """See ``raylet/node_service``."""
        if self._raylet is None:
            raise RemoteError("RaySystemError", "This node is still starting.")
        return await self._raylet.service.call(method, request)

    async def run(self) -> None:
        """Join, serve, leave."""
        options = self._options
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[str] = loop.create_future()

        def stop(reason: str) -> None:
            self._watchdog.announce_end()
            if not ended.done():
                ended.set_result(reason)

        loop.add_signal_handler(signal.SIGTERM, stop, "the node was terminated")
        token = Path(options.token_file).read_bytes()
        gcs = GrpcChannel("Gcs", options.gcs_address, token)
        server = await serve_grpc(self, "Raylet", f"{options.host}:0", token)
        raylet = self._raylet = self._make_raylet(token, gcs, server)
        raylet.on_stop = stop
        node_socket = await raylet.start()
        ready = Ready(
            cluster_id=options.cluster_id,
            node_id=raylet.node_id.hex(),
            node_socket=node_socket,
            address=options.gcs_address,
            session_dir=options.session_dir,
            token_file=options.token_file,
            pid=os.getpid(),
        )
        self.starter.tell(msgspec.to_builtins(ready))
        reason = await ended
        logger.info("The node ends: %s.", reason)
        await asyncio.wait([loop.create_task(raylet.stop(reason))], timeout=STOP_S)
        await server.stop()
        await gcs.close()

    def leave_nothing(self) -> None:
        """Kill and reap every descendant; the last process of the session removes its folder. Idempotent."""
        end_descendants(timeout_s=1.0)
        session_dir.release(self._session, os.getpid())

    def _make_raylet(self, token: bytes, gcs: GrpcChannel, server: RpcServer) -> Raylet:
        options = self._options
        config = read_environment(os.environ)
        resources = offered_resources(config, options.amounts)
        return Raylet(
            ids.random_id(),
            config,
            options.session_dir,
            token,
            gcs,
            resources,
            resources[OBJECT_STORE_MEMORY],
            self._zygote,
            options.labels,
            is_head=options.is_head,
            ip=options.host,
            raylet_address=server.address,
            gcs_address=options.gcs_address,
        )

    def _end_by_force(self) -> None:
        logger.error("The node did not end in time; ending by force.")
        self.leave_nothing()
        os._exit(1)
