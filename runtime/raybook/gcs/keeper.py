"""Keeper of the GCS: ``python -m raybook.gcs.keeper OPTIONS``, run by ``raybook start --head``. Starts the GCS, and starts
it again when it dies.

The GCS's own process can be killed at any moment; nodes live on meanwhile, and one started with the same ports and the same
store takes over. The keeper does nothing but wait (no grpc, no tables: 18 MB), so little can happen to it;
without it the GCS goes on, and is not started again. A GCS that ends in order takes its keeper along, SIGTERM ends both,
and one that kept its tables in memory is not started again: a second one would know of nothing that runs.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from raybook.core.cluster.revival import pause_ms
from raybook.io import daemon, session_dir
from raybook.io.store_address import MEMORY
from raybook.protocol.messages.daemons import REPLACED_CODE, GcsOptions, Ready

logger = logging.getLogger(__name__)

GCS_MODULE = "raybook.gcs.main"
START_TIMEOUT_S = 30.0
STOP_S = 4.0
"""The GCS says farewell to its nodes for two."""


class Keeper:
    """One GCS after the other. ``run`` returns the exit code."""

    def __init__(self, options: GcsOptions) -> None:
        self._options = options
        self._session = Path(options.session_dir)
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        # A signal's handler writes to it, so that a wait for something else ends.
        self._woken = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        signal.signal(signal.SIGTERM, self._terminate)

    def run(self) -> int:
        starter = daemon.Starter(self._options.ready_fd)
        session_dir.claim(self._session, os.getpid())
        try:
            said = self._start()
        except daemon.DaemonFailed as failure:
            starter.tell({"error": failure.what})
            return 1
        self._options = _again(self._options, msgspec.convert(said, Ready))
        starter.tell(said)
        code = self._keep()
        session_dir.release(self._session, os.getpid())
        return code

    def _keep(self) -> int:
        born, pause = time.monotonic(), 0
        while True:
            code = self._wait()
            if code is not None:
                if self._stopping or code in (0, REPLACED_CODE):
                    return code
                logger.error("The GCS died (%s).", _cause(code))
            if self._options.store == MEMORY:
                logger.error("It kept its tables in memory, so it is not started again. End the cluster: raybook stop.")
                return 1
            pause = pause_ms(int((time.monotonic() - born) * 1000), pause)
            self._poll(-1, pause / 1000)
            if self._stopping:
                return 0
            begin = born = time.monotonic()
            try:
                self._start()
            except daemon.DaemonFailed as failure:
                logger.error("The GCS could not be started again: %s.", failure.what)
            else:
                logger.warning("The GCS serves again, %.2f s after it was started.", time.monotonic() - begin)

    def _start(self) -> dict[str, Any]:
        log_path = self._session / session_dir.LOGS / "gcs.log"
        self._process = None
        self._process, said = daemon.spawn(GCS_MODULE, msgspec.to_builtins(self._options), log_path, START_TIMEOUT_S)
        if self._stopping:
            self._process.send_signal(signal.SIGTERM)
        return said

    def _wait(self) -> int | None:
        """Its exit code, as Popen has it; None when there is no GCS."""
        if self._process is None:
            return None
        if self._process.poll() is not None:
            return self._process.returncode
        pidfd = os.pidfd_open(self._process.pid)
        try:
            while not self._poll(pidfd, None):
                # Woken by SIGTERM: the GCS has been told, and gets its time.
                if not daemon.wait(self._process, STOP_S):
                    self._process.kill()
        finally:
            os.close(pidfd)
        return self._process.wait()

    def _poll(self, pidfd: int, timeout_s: float | None) -> bool:
        """Wait for a process's end or for SIGTERM; whether the process has ended."""
        poller = select.poll()
        poller.register(self._woken, select.POLLIN)
        if pidfd >= 0:
            poller.register(pidfd, select.POLLIN)
        return pidfd in [fd for fd, _ in poller.poll(None if timeout_s is None else timeout_s * 1000)]

    def _terminate(self, signum: int, frame: Any) -> None:
        self._stopping = True
        os.eventfd_write(self._woken, 1)
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)


def _again(options: GcsOptions, ready: Ready) -> GcsOptions:
    """What a later GCS is started with: the ports that the first one got, because others know them by now."""
    return msgspec.structs.replace(
        options,
        port=_port_of(ready.address, options.port),
        metrics_port=_port_of(ready.metrics_address, options.metrics_port),
        http_port=_port_of(ready.http_address, options.http_port),
        is_restart=True,
    )


def _port_of(address: str, otherwise: Any) -> Any:
    return int(address.rpartition(":")[2]) if address else otherwise


def _cause(code: int) -> str:
    return f"by signal {-code}" if code < 0 else f"with code {code}"


def main() -> int:
    """Keep a GCS until it ends in order; the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    daemon.restore_environment()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    return Keeper(msgspec.json.decode(sys.argv[1], type=GcsOptions)).run()


if __name__ == "__main__":
    sys.exit(main())
