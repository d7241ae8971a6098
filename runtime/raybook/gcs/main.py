"""Entry of the GCS process of the split form: ``python -m raybook.gcs.main OPTIONS``, run by ``raybook.gcs.keeper``.

Serves gRPC, tells the nodes when the cluster ends, and goes on without them when they do not answer. Nodes live on when
this process is killed; one started again with the same options takes over from the store, and so does one on another
machine with the same Redis, which tells the nodes where it is.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import msgspec

from raybook.base import ids
from raybook.base.config import read_environment
from raybook.gcs.metrics_page import MetricsPage
from raybook.gcs.service import GcsService
from raybook.gcs.stores import open_store
from raybook.io import cluster_registry, daemon, session_dir
from raybook.io.clock import anchored_clock
from raybook.io.http_door import HttpDoor
from raybook.io.process import raise_file_limit
from raybook.io.rpc import GrpcChannel, serve_grpc
from raybook.io.storage import StoreError
from raybook.io.tls import load_tls
from raybook.io.watchdog import Ending, Watchdog
from raybook.protocol.messages.daemons import REPLACED_CODE, GcsOptions, Ready

logger = logging.getLogger(__name__)

JOBS_SERVER = "raybook.jobs.server"
"""What is behind the HTTP door: a module above this one, and a process of its own, so it is named and not imported."""

FAREWELL_S = 2.0
"""Nodes that have not taken their StopNode by then are left to their own health checks."""


def main() -> int:
    """Run a GCS until it is stopped; the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    daemon.restore_environment()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    options = msgspec.json.decode(sys.argv[1], type=GcsOptions)
    raise_file_limit()
    starter = daemon.Starter(options.ready_fd)
    ending = Ending()
    if options.owner is not None:
        watchdog = Watchdog(options.owner, ending.owner_died, lambda: _end_by_force(options), 2 * FAREWELL_S)
        ending.announce = watchdog.announce_end
    try:
        return asyncio.run(_run(options, starter, ending))
    except (OSError, ValueError) as error:
        logger.exception("The GCS could not run.")
        starter.tell({"error": f"The GCS could not start: {error}"})
        return 1


def _end_by_force(options: GcsOptions) -> None:
    logger.error("The GCS did not end in time; ending by force.")
    _leave_nothing(options)
    os._exit(0)  # On purpose: its keeper is not to start another one.


def _life_changed(cluster_id: str, gcs: GcsService) -> None:
    """The registry's record is the head raylet's; how long it stays idle is known here."""
    registry = cluster_registry.registry_dir()
    for record in cluster_registry.list_records(registry):
        if record.cluster_id == cluster_id:
            record.idle_timeout_s, record.idle_since_unix_ms = gcs.life.idle_timeout_s, gcs.life.idle_since_ms
            cluster_registry.write_record(record, registry)


def _leave_nothing(options: GcsOptions) -> None:
    cluster_registry.remove_record(options.cluster_id, cluster_registry.registry_dir())
    session_dir.release(Path(options.session_dir), os.getpid())


async def _run(options: GcsOptions, starter: daemon.Starter, ending: Ending) -> int:
    loop = asyncio.get_running_loop()
    session = Path(options.session_dir)
    session_dir.claim(session, os.getpid())
    token = Path(options.token_file).read_bytes()
    if options.tls is not None:
        session_dir.write_tls(session, options.tls)
    tls = load_tls(session)
    store = Path(options.store_file).read_text() if options.store_file else options.store
    storage = open_store(store, session, f"cluster {options.name or options.cluster_id}")
    gcs = GcsService(
        read_environment(os.environ),
        anchored_clock(),
        storage,
        connect_raylet=lambda node: GrpcChannel("Raylet", node.raylet_address, token, tls=tls),
        cluster_id=bytes.fromhex(options.cluster_id),
        seed=int.from_bytes(ids.random_id(), "big"),
    )
    gcs.life.owner = options.owner
    gcs.life.on_change = lambda: _life_changed(options.cluster_id, gcs)
    ended, gcs.on_stop = ending.begin(loop, gcs.request_stop)
    replaced: list[str] = []

    def on_replaced(reason: str) -> None:
        replaced.append(reason)
        gcs.on_stop(reason)

    def on_trouble(error: StoreError) -> None:
        loop.call_soon_threadsafe(gcs.store_in_trouble, error)

    gcs.on_replaced, storage.on_trouble = on_replaced, on_trouble
    loop.add_signal_handler(signal.SIGTERM, gcs.request_stop, "the GCS was terminated")
    await gcs.start()
    server = await serve_grpc(gcs, "Gcs", f"{options.host}:{options.port}", token, tls)
    gcs.announce(server.address)
    page = None
    if options.metrics_port is not None:
        page = MetricsPage(gcs, loop, token)
        page.serve(options.host, options.metrics_port)
    door = HttpDoor(JOBS_SERVER, {"cluster_id": gcs.cluster_id.hex()}, session)
    door.open(options.http_host, options.http_port, keep_trying=options.is_restart)
    ready = Ready(
        cluster_id=gcs.cluster_id.hex(),
        address=server.address,
        session_dir=options.session_dir,
        token_file=options.token_file,
        pid=os.getpid(),
        metrics_address=page.address if page is not None else "",
        http_address=door.address,
    )
    starter.tell(msgspec.to_builtins(ready))
    reason = await ended
    logger.info("The GCS ends: %s.", reason)
    door.close()
    if page is not None:
        page.close()
    if not replaced:
        await gcs.say_farewell(FAREWELL_S)
    await server.stop()
    await gcs.close()
    storage.close()
    _leave_nothing(options)
    return REPLACED_CODE if replaced else 0


if __name__ == "__main__":
    sys.exit(main())
