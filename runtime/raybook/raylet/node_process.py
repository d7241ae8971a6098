"""A node of its own process: a raylet that reaches its GCS over gRPC, and an end that leaves nothing.

Composition only. The end has one order, as in the head: clients and workers go, every descendant is killed and reaped,
the session folder goes. The watchdog does the same from its thread when the loop is stuck.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path

import msgspec

from raybook.base import ids
from raybook.base.config import instance_labels, read_environment
from raybook.base.resources import OBJECT_STORE_MEMORY
from raybook.io import cluster_registry, daemon, session_dir
from raybook.io.channel import RemoteError
from raybook.io.descendants import end_descendants
from raybook.io.peer_address import write_peer_host
from raybook.io.process import become_subreaper, raise_file_limit
from raybook.io.rpc import GrpcChannel, serve_grpc
from raybook.io.session_door import SessionDoor
from raybook.io.tls import load_tls
from raybook.io.watchdog import Ending, Watchdog
from raybook.protocol.messages.daemons import NodeOptions, Ready
from raybook.raylet.offer import offered_labels, offered_resources
from raybook.raylet.service import Raylet
from raybook.raylet.zygote_client import ZygoteHandle

logger = logging.getLogger(__name__)

STOP_S = 1.0
"""Time for the raylet to let its clients and workers go before they are killed."""


def run_node(arguments: str, zygote: ZygoteHandle) -> int:
    """Run until the end; the exit code. Errors before readiness go to whoever started us."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    options = msgspec.json.decode(arguments, type=NodeOptions)
    become_subreaper()
    raise_file_limit()
    starter = daemon.Starter(options.ready_fd)
    session = Path(options.session_dir)
    session_dir.claim(session, os.getpid())

    def leave_nothing() -> None:
        end_descendants(timeout_s=1.0)
        # A head's raylet shares the folder with its GCS: the last of the two removes it.
        session_dir.release(session, os.getpid())

    def end_by_force() -> None:
        logger.error("The node did not end in time; ending by force.")
        leave_nothing()
        os._exit(1)

    ending = Ending()
    watchdog = Watchdog(options.owner, ending.owner_died, end_by_force, grace_s=2 * STOP_S)
    ending.announce = watchdog.announce_end
    try:
        asyncio.run(_run(options, zygote, starter, ending))
    except (OSError, ValueError, TypeError, RemoteError) as error:
        logger.exception("The node could not run.")
        starter.tell({"error": f"The node could not start: {error}"})
        return 1
    finally:
        leave_nothing()
    # Threads of grpc and the watchdog are of no more use.
    logging.shutdown()
    os._exit(0)


async def _run(options: NodeOptions, zygote: ZygoteHandle, starter: daemon.Starter, ending: Ending) -> None:
    loop = asyncio.get_running_loop()
    ended, stop = ending.begin(loop)
    loop.add_signal_handler(signal.SIGTERM, stop, "it was terminated")
    config = read_environment(os.environ)
    token = Path(options.token_file).read_bytes()
    if not (Path(options.session_dir) / session_dir.TOKEN_FILE).exists():
        # Drivers that begin on this node (a job's command) join through its own socket, and prove the token there.
        session_dir.write_token(Path(options.session_dir), token)
    resources = offered_resources(config, options.amounts, options.host, options.is_head)
    node_id = ids.random_id()
    if options.tls is not None:
        session_dir.write_tls(Path(options.session_dir), options.tls)
    tls = load_tls(options.session_dir)
    gcs = GrpcChannel("Gcs", options.gcs_address, token, tls=tls)
    raylet = Raylet(
        node_id,
        config,
        options.session_dir,
        token,
        gcs,
        resources,
        resources[OBJECT_STORE_MEMORY],
        zygote,
        offered_labels(resources, {**instance_labels(os.environ), **options.labels}),
        is_head=options.is_head,
        ip=options.host,
        gcs_address=options.gcs_address,
        gateway_host=options.host,
        security=tls,
    )
    write_peer_host(options.session_dir, options.host)
    raylet.on_stop = stop
    raylet.on_gcs_moved = lambda address: _follow(gcs, raylet, address)
    server = await serve_grpc(raylet.service, "Raylet", f"{options.host}:0", token, tls)
    raylet.raylet_address = server.address
    sessions = SessionDoor(Path(options.session_dir), token, config, tls)
    try:
        node_socket = await raylet.start()
        if options.is_head:
            sessions.open(options.host, options.session_port)
        ready = Ready(
            cluster_id=raylet.cluster_id.hex(),
            node_id=node_id.hex(),
            node_socket=node_socket,
            address=options.gcs_address,
            session_dir=options.session_dir,
            token_file=options.token_file,
            pid=os.getpid(),
            session_address=sessions.address,
        )
        starter.tell(msgspec.to_builtins(ready))
        reason = await ended
        logger.info("The node ends: %s.", reason)
    finally:
        sessions.close()
        await asyncio.wait([loop.create_task(raylet.stop("the node ends"))], timeout=STOP_S)
        await server.stop()
        await gcs.close()


def _follow(gcs: GrpcChannel, raylet: Raylet, address: str) -> None:
    """The GCS was started anew, perhaps elsewhere: speak to that one, and let drivers of this machine find it."""
    moved = bool(address) and address != raylet.gcs_address
    if moved:
        logger.warning("The GCS has moved from %s to %s.", raylet.gcs_address, address)
        raylet.gcs_address = address
    # Also at the same address: a new connection is there at once, the old one may still be waiting to try again.
    gcs.retarget(raylet.gcs_address)
    raylet.gcs.found_again()
    if moved:
        _note_address(address)


def _note_address(address: str) -> None:
    registry, pid = cluster_registry.registry_dir(), os.getpid()
    for node in cluster_registry.list_nodes(registry):
        if node.head_pid == pid:
            node.address = address
            cluster_registry.write_node(node, registry)
            return
    for record in cluster_registry.list_records(registry):
        if record.head_pid == pid:
            record.address = address
            cluster_registry.write_record(record, registry)
