"""Composition root of a session process: ``python -m raybook.session_process OPTIONS``, started by the head's session door.

A driver of its cluster that runs nobody's code: an owner machine, and a line to a thin client. It ends when the client says
so, at its idle limit, and with its raylet.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from raybook.base.specs import Job
from raybook.core.session.server import ServerMachine
from raybook.engines.session_host import SessionHost
from raybook.io.daemon import restore_environment
from raybook.io.handover import hand_over
from raybook.io.process import raise_file_limit, set_death_signal
from raybook.io.session_dir import TOKEN_FILE
from raybook.session.host_link import HostLink
from raybook.worker.core_process import CoreProcess

logger = logging.getLogger(__name__)

RAYLET_SOCKET = "raylet.sock"
LOOK_S = 2.0
"""Deadlines are seconds away; a look costs microseconds."""
SWITCH_INTERVAL_S = 0.0005
"""As in workers: threads that read and write large values must not keep the I/O thread waiting."""


def main() -> int:
    """Serve until the end; the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_death_signal(signal.SIGTERM)
    restore_environment()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    raise_file_limit()
    return _serve(json.loads(sys.argv[1]))


def _serve(options: dict[str, Any]) -> int:
    folder = Path(options["folder"])
    handover = socket.socket(fileno=options["handover_fd"])
    ended = threading.Event()
    reasons: list[str] = []

    def leave(reason: str) -> None:
        reasons.append(reason)
        ended.set()

    signal.signal(signal.SIGTERM, lambda signum, frame: leave("the head has ended"))
    namespace = options["namespace"] or options["name"] or options["session_id"]
    core = CoreProcess(
        f"unix:{folder / RAYLET_SOCKET}",
        (folder / TOKEN_FILE).read_bytes(),
        "driver",
        namespace=namespace,
        kernel_id=options["kernel_id"],
        entrypoint=options["entrypoint"],
        wants_output=True,
    )
    machine = ServerMachine(
        options["name"], bytes.fromhex(options["session_id"]), int(options["idle_limit_s"] * 1000), _now_ms()
    )
    host = SessionHost(core, machine.ledger, Job(core.registered.job_id, namespace), leave)
    host.link = link = HostLink(core, machine, handover, host)
    core.start()
    core.submit(link.start)
    logger.info("Session %s serves.", options["name"] or options["session_id"])
    while not ended.wait(min(LOOK_S, link.next_deadline_s() + 0.01)):
        core.submit(link.tick)
    reason = reasons[0]
    logger.info("The session ends: %s.", reason)
    with suppress(OSError):
        hand_over(handover, reason.encode()[:4096])
    _say_farewell(core, link)
    host.transfers.close()
    core.stop()
    logging.shutdown()
    # Threads that read or write for nobody any more are not waited for.
    os._exit(0)


def _say_farewell(core: CoreProcess, link: HostLink) -> None:
    said = threading.Event()

    def farewell() -> None:
        link.farewell()
        said.set()

    core.submit(farewell)
    said.wait(0.5)


def _now_ms() -> int:
    return int(time.monotonic() * 1000)


if __name__ == "__main__":
    sys.exit(main())
