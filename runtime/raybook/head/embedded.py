"""The embedded cluster: GCS and raylet on one loop, the owner's watch, and an end that leaves nothing.

Composition only. The end has one order: clients are let go, every descendant is killed and reaped, the registry record
and the session folder go, the process exits. The watchdog does the same from its thread when the loop is stuck.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import platform
import signal
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from raybook.base import ids
from raybook.base.config import read_environment
from raybook.base.resources import CPU, NODE_RESOURCE, OBJECT_STORE_MEMORY, Shape, to_user
from raybook.base.version import VERSION
from raybook.core.autoscaler.configuration import local_configuration
from raybook.gcs.service import GcsService
from raybook.io import cluster_registry, daemon, session_dir
from raybook.io.channel import Channel, LocalChannel, RemoteError
from raybook.io.clock import anchored_clock
from raybook.io.descendants import end_descendants
from raybook.io.http_door import HttpDoor
from raybook.io.peer_address import write_peer_host
from raybook.io.process import become_subreaper, raise_file_limit, start_time
from raybook.io.session_door import SessionDoor
from raybook.io.storage import MemoryStorage
from raybook.io.watchdog import Watchdog
from raybook.protocol.auth import new_token
from raybook.protocol.messages.daemons import AutoscaleBounds, HeadOptions, NodeOptions, OwnerProcess, Ready
from raybook.protocol.messages.gcs import NodeInfo
from raybook.raylet.offer import offered_labels, offered_resources
from raybook.raylet.service import Raylet

logger = logging.getLogger(__name__)

JOBS_SERVER = "raybook.jobs.server"
"""What is behind the HTTP door; started by the first who knocks."""

FIRST_WORKER_S = 0.5
"""A cluster is ready when its first worker is: a first task at once would wait for it all the same. It is ready about
when the head is; a machine that swaps does not hold up ``init`` for longer than this."""

GRPC_DELAY_S = 0.5
"""grpc is imported in a thread, which takes the GIL 0.1 s from the loop: not while the driver's first tasks start."""

STEP_STOP_S = 0.5
"""Time for each step of an orderly end, such as the raylet letting its workers go, before they are killed."""


def run_head(arguments: str, zygote: Any) -> int:
    """Run until the end; the exit code. Errors before readiness go to whoever started us."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    options = msgspec.json.decode(arguments, type=HeadOptions)
    head = Head(options, zygote)
    try:
        _run_on_loop(head.run())
    except (OSError, ValueError, TypeError, RemoteError) as error:
        logger.exception("The head could not start.")
        head.starter.tell({"error": f"The head could not start: {error}"})
    finally:
        # Also after an error that nobody foresaw: its traceback is on its way to the log.
        head.leave_nothing()
    if not head.was_ready:
        return 1
    # Threads of grpc and the watchdog are of no more use; waiting for them costs a shutdown 50 ms.
    logging.shutdown()
    os._exit(0)


def _run_on_loop(main: Any) -> None:
    try:
        import uvloop
    except ImportError:  # Not built for every platform; asyncio's own loop is slower, not different.
        asyncio.run(main)
    else:
        uvloop.run(main)


class Head:
    """One embedded cluster."""

    def __init__(self, options: HeadOptions, zygote: Any) -> None:
        self._options = options
        self._zygote = zygote
        self._session = Path(options.session_dir)
        self._registry = cluster_registry.registry_dir()
        self.starter = daemon.Starter(options.ready_fd)
        self.was_ready = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_reason: asyncio.Future[str] | None = None
        self._owner_died = False
        self._rpc: Any = None
        self._autoscaler: Any = None
        become_subreaper()
        raise_file_limit()
        session_dir.claim(self._session, os.getpid())
        self._watchdog = Watchdog(options.owner, self._owner_is_gone, self._end_by_force)

    async def run(self) -> None:
        """Start everything, serve, stop everything."""
        self._loop = asyncio.get_running_loop()
        self._stop_reason = self._loop.create_future()
        self._loop.add_signal_handler(signal.SIGTERM, self.stop, "it was terminated")
        if self._owner_died:
            return
        options = self._options
        config = read_environment(os.environ)
        token = new_token()
        token_file = session_dir.write_token(self._session, token)
        resources = offered_resources(config, options.amounts)
        gcs = GcsService(
            config,
            anchored_clock(),
            MemoryStorage(),
            connect_raylet=lambda node: self._channel_to(node, raylet, token),
            cluster_id=bytes.fromhex(options.cluster_id),
            seed=int.from_bytes(ids.random_id(), "big"),
        )
        gcs.on_stop = self.stop
        gcs.life.owner = options.owner
        gcs.life.on_owner = self._change_owner
        node_id = ids.random_id()
        raylet = Raylet(
            node_id,
            config,
            options.session_dir,
            token,
            LocalChannel(gcs),
            resources,
            resources[OBJECT_STORE_MEMORY],
            self._zygote,
            offered_labels(resources, options.labels),
            gateway_host=options.host if options.autoscale is not None else "",
        )
        if options.autoscale is not None:
            write_peer_host(options.session_dir, options.host)
        raylet.on_driver_gone = lambda client_id: self._driver_left(gcs, client_id)
        raylet.on_stop = self.stop
        await gcs.start()
        door = HttpDoor(JOBS_SERVER, {"cluster_id": options.cluster_id}, self._session)
        door.open(options.http_host, options.http_port)
        node_socket = await raylet.start()
        sessions = SessionDoor(self._session, token, config)
        sessions.open(options.host, options.session_port)
        if resources.get(CPU):
            await raylet.wait_for_worker(FIRST_WORKER_S)
        record = self._record(node_socket, str(token_file), _shown(resources), door.address, sessions.address)
        cluster_registry.write_record(record, self._registry)
        self.was_ready = True
        gcs.life.on_change = lambda: self._life_changed(gcs, record)
        self.starter.tell(msgspec.to_builtins(_ready(record, node_id)))
        background = self._loop.create_task(self._serve_others(gcs, token, record))
        reason = await self._stop_reason
        logger.info("The cluster ends: %s.", reason)
        background.cancel()
        door.close()
        sessions.close()
        for step in (self._stop_scaling(), raylet.stop(reason), gcs.close()):
            task = self._loop.create_task(step)
            await asyncio.wait([task], timeout=STEP_STOP_S)
            if task.done() and task.exception() is not None:
                logger.error("A step of the end failed; the end goes on.", exc_info=task.exception())
        await asyncio.wait([background], timeout=STEP_STOP_S)

    def stop(self, reason: str) -> None:
        """Begin the end, on the loop. Idempotent."""
        self._watchdog.announce_end()
        if self._stop_reason is not None and not self._stop_reason.done():
            self._stop_reason.set_result(reason)

    def leave_nothing(self) -> None:
        """Kill and reap every descendant, remove record and folder. Idempotent; works from any thread. A head that
        never was ready leaves its folder to its starter, who reads the log in it."""
        end_descendants(timeout_s=1.0)
        cluster_registry.remove_record(self._options.cluster_id, self._registry)
        if self.was_ready or self._owner_died:
            session_dir.remove(self._session)

    def _owner_is_gone(self) -> None:
        """From the watchdog's thread: process death is certain knowledge, so there is no grace."""
        self._owner_died = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.stop, "its owner's process has ended")

    def _change_owner(self, owner: OwnerProcess | None) -> str:
        """From now on the cluster lives with this process, or until it is stopped."""
        if not self._watchdog.set_owner(owner):
            return f"The process {owner.pid if owner else 0} that should own the cluster is gone."
        self._options.owner = owner
        return ""

    def _life_changed(self, gcs: GcsService, record: cluster_registry.ClusterRecord) -> None:
        life = gcs.life
        owner = life.owner
        record.owner = None if owner is None else cluster_registry.Owner(owner.pid, owner.start_time, owner.kernel_id)
        record.persist = owner is None
        record.idle_timeout_s, record.idle_since_unix_ms = life.idle_timeout_s, life.idle_since_ms
        cluster_registry.write_record(record, self._registry)

    def _end_by_force(self) -> None:
        logger.error("The head did not end in time; ending by force.")
        self.leave_nothing()
        os._exit(1)

    def _driver_left(self, gcs: GcsService, client_id: bytes) -> None:
        """A driver's connection closed. The owner's own driver takes its cluster along, also while the process lives
        on (it shut down, or connected elsewhere)."""
        owner = self._options.owner
        if owner is not None and gcs.driver_pid(client_id) == owner.pid:
            self.stop("its owner's driver has left")

    def _record(
        self, node_socket: str, token_file: str, resources: dict[str, float], http_address: str, session_address: str
    ) -> cluster_registry.ClusterRecord:
        options = self._options
        owner = options.owner
        return cluster_registry.ClusterRecord(
            cluster_id=options.cluster_id,
            name=options.name,
            address="",
            node_socket=node_socket,
            session_dir=options.session_dir,
            token_file=token_file,
            head_pid=os.getpid(),
            head_start_time=start_time(os.getpid()) or 0,
            owner=None if owner is None else cluster_registry.Owner(owner.pid, owner.start_time, owner.kernel_id),
            persist=owner is None,
            env_prefix=sys.prefix,
            python_version=platform.python_version(),
            raybook_version=VERSION,
            created_unix_ms=time.time_ns() // 1_000_000,
            resources=resources,
            http_address=http_address,
            session_address=session_address,
        )

    async def _serve_others(self, gcs: GcsService, token: bytes, record: cluster_registry.ClusterRecord) -> None:
        """In the background: sweep what killed heads left, then serve the CLI and the Jupyter server over gRPC until
        cancelled; the record gets the address. Without grpc the cluster works, but only its own machine sees it."""
        assert self._loop is not None
        swept = await self._loop.run_in_executor(None, session_dir.sweep, self._session.parent)
        for folder in swept:
            logger.info("Removed %s, which a killed head had left.", folder)
        page = await self._serve_metrics(gcs, token)
        record.metrics_address = page.address if page is not None else ""
        try:
            await self._serve_grpc(gcs, token, record)
        finally:
            if page is not None:
                page.close()

    async def _serve_metrics(self, gcs: GcsService, token: bytes) -> Any:
        """Prometheus' page, where it was asked for. Imported late: most clusters have none."""
        options = self._options
        if options.metrics_port is None:
            return None
        assert self._loop is not None
        module = await self._loop.run_in_executor(None, importlib.import_module, "raybook.gcs.metrics_page")
        page = module.MetricsPage(gcs, self._loop, token)
        try:
            page.serve(options.host, options.metrics_port)
        except OSError:
            logger.exception("The page for Prometheus is not served.")
            return None
        logger.info("Prometheus can read http://%s/metrics.", page.address)
        return page

    async def _serve_grpc(self, gcs: GcsService, token: bytes, record: cluster_registry.ClusterRecord) -> None:
        """Until cancelled."""
        options = self._options
        assert self._loop is not None
        if not options.serve_grpc:
            cluster_registry.write_record(record, self._registry)
            await self._loop.create_future()
            return
        if options.autoscale is None:
            await asyncio.sleep(GRPC_DELAY_S)
        rpc = self._rpc = await self._loop.run_in_executor(None, importlib.import_module, "raybook.io.rpc")
        try:
            server = await rpc.serve_grpc(gcs, "Gcs", f"{options.host}:{options.port}", token)
        except OSError:
            logger.exception("The GCS serves no gRPC.")
            return
        try:
            record.address = server.address
            cluster_registry.write_record(record, self._registry)
            if options.autoscale is not None:
                await self._start_scaling(gcs, options.autoscale, record)
            await self._loop.create_future()
        finally:
            await server.stop()

    # Nodes beside this one

    def _channel_to(self, node: NodeInfo, raylet: Raylet, token: bytes) -> Channel:
        """A node of another process has come by gRPC, so that is there."""
        return (
            self._rpc.GrpcChannel("Raylet", node.raylet_address, token)
            if node.raylet_address
            else LocalChannel(raylet.service)
        )

    async def _start_scaling(
        self, gcs: GcsService, bounds: AutoscaleBounds, record: cluster_registry.ClusterRecord
    ) -> None:
        """Imported late: most clusters have one node."""
        assert self._loop is not None
        assembly = await self._loop.run_in_executor(None, importlib.import_module, "raybook.autoscaler.assembly")
        node = NodeOptions(
            -1, self._options.session_dir, record.token_file, record.address, record.cluster_id, host=self._options.host
        )
        cpus = record.resources.get(CPU, 0) if bounds.node_cpus is None else bounds.node_cpus
        config = read_environment(os.environ)
        self._autoscaler = assembly.make_loop(
            local_configuration(bounds, cpus), node, LocalChannel(gcs), anchored_clock(), config
        )
        self._autoscaler.start()

    async def _stop_scaling(self) -> None:
        if self._autoscaler is not None:
            await self._autoscaler.close()


def _ready(record: cluster_registry.ClusterRecord, node_id: bytes) -> Ready:
    return Ready(
        cluster_id=record.cluster_id,
        node_id=node_id.hex(),
        node_socket=record.node_socket,
        address=record.address,
        session_dir=record.session_dir,
        token_file=record.token_file,
        pid=record.head_pid,
        http_address=record.http_address,
        session_address=record.session_address,
    )


def _shown(resources: Shape) -> dict[str, float]:
    """What is worth showing of a node's resources: not the unit that only has its name."""
    return to_user({name: amount for name, amount in resources.items() if not name.startswith(NODE_RESOURCE)})
