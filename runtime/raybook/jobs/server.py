"""Entry of the jobs server: ``python -m raybook.jobs.server OPTIONS``, started by the head's HTTP door at the first knock.

A driver of the cluster that it serves. It inherits the door's listening sockets, and ends with the head.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from raybook.api import init, shutdown
from raybook.io import cluster_registry, daemon
from raybook.io.http_guard import is_loopback
from raybook.io.http_server import BoundedServer
from raybook.io.process import set_death_signal
from raybook.jobs.handler import JobsHandler, Site
from raybook.jobs.manager import SUPERVISOR_NAMESPACE, JobManager

logger = logging.getLogger(__name__)

REGISTERED_S = 10.0
"""A cluster that was just started is in the registry by then."""
TOKEN_VARIABLE = "RAYBOOK_JOBS_TOKEN"
"""Set to 1, the token is asked for on loopback, too."""


def main() -> int:
    """Serve until told to end; the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_death_signal(signal.SIGTERM)
    daemon.restore_environment()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    return asyncio.run(_serve(json.loads(sys.argv[1])))


async def _serve(options: dict[str, Any]) -> int:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    record = _record(options["cluster_id"])
    if record is None:
        logger.error("Cluster %s is not in the registry.", options["cluster_id"])
        return 1
    init(address=record.cluster_id, namespace=SUPERVISOR_NAMESPACE, log_to_driver=False)
    session = Path(options["session_dir"])
    manager = JobManager()
    await manager.recover()
    sockets = [socket.socket(fileno=fd) for fd in options["sockets"]]
    host = next((each.getsockname()[0] for each in sockets if each.family != socket.AF_UNIX), "")
    needs_token = os.environ.get(TOKEN_VARIABLE) == "1" or bool(host and not is_loopback(host))
    token = Path(record.token_file).read_bytes().hex()
    site = Site(manager, loop, token, host, needs_token, session.name, record.metrics_address)
    handler = type("BoundHandler", (JobsHandler,), {"site": site})
    servers = [BoundedServer(each, handler) for each in sockets]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True, name="raybook-http").start()
    logger.info("Jobs of cluster %s are served at %s.", record.cluster_id, [each.getsockname() for each in sockets])
    await ended.wait()
    for server in servers:
        server.shutdown()
    shutdown()
    return 0


def _record(cluster_id: str) -> cluster_registry.ClusterRecord | None:
    deadline = time.monotonic() + REGISTERED_S
    while True:
        for record in cluster_registry.list_records(cluster_registry.registry_dir()):
            if record.cluster_id == cluster_id:
                return record
        if time.monotonic() > deadline:
            return None
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
