"""Output service: carries what workers print to the drivers they print for, and to whoever looks at the cluster.

The kernel says which log files were written to (``io/folder_watch``), so a cluster that prints nothing costs nothing; a
short pause after the first word gathers a burst. A line goes to the drivers of its job here; to the GCS when that
driver is on another node; and, as a fact, to panels. What came before anybody looked is kept, a little.

A driver that does not read its lines gets no more until it has, and is told how many those were; they stay in the workers'
files.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raybook.base.facts import Fact
from raybook.io.folder_watch import FolderWatch
from raybook.protocol.messages.gcs import PublishLines
from raybook.protocol.messages.output import OutputFlushed, WorkerLine, WorkerLines
from raybook.raylet.clients import DRIVER, Client, ClientTable
from raybook.raylet.gcs_link import GcsLink
from raybook.raylet.log_monitor import LogLine, LogMonitor

logger = logging.getLogger(__name__)

GATHER_S = 0.01
"""A look follows the first write by this much; a worker's 64 KiB each, so 6 MB a second of one stream are carried."""
POLL_S = 0.25
"""Where the kernel tells nothing, files are looked at this often: 2 µs for each worker."""
UNSENT_BYTES_MAX = 8 << 20
KEPT_LINES_MAX = 1_000
"""Of one look, and before anybody looked: panels show the newest lines, and a flood must not be told line by line."""
FLUSH_S_MAX = 0.5
"""Whoever flushes is about to end, and waits: what is not read by then is left out, and said to be."""


class OutputService:
    """The output of one node's workers. folder: of their logs. actor_of: what the lease manager knows of a worker.
    log_bytes_max: what each log file keeps."""

    def __init__(
        self,
        folder: Path,
        node_id: bytes,
        ip: str,
        clients: ClientTable,
        gcs: GcsLink,
        actor_of: Callable[[bytes], Any],
        log_bytes_max: int,
    ) -> None:
        self._folder = folder
        self._node = node_id.hex()
        self._ip = ip
        self._clients = clients
        self._gcs = gcs
        self._actor_of = actor_of
        self._monitor = LogMonitor(log_bytes_max)
        self._workers: dict[str, bytes] = {}
        """Log path → worker."""
        self._changed: dict[str, None] = {}
        self._kept: deque[Fact] = deque(maxlen=KEPT_LINES_MAX)
        self._observed = False
        self._number = 0
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._watch: FolderWatch | None = None
        try:
            self._watch = FolderWatch(folder)
        except OSError as error:
            logger.info("Workers' logs are looked at every %g s: %s", POLL_S, error)
            self._timer = self._loop.call_later(POLL_S, self._poll)
        else:
            self._loop.add_reader(self._watch.fd, self._written)

    def follow(self, log_path: str, worker: Client) -> None:
        """A worker lives; what it has printed so far counts."""
        self._workers[log_path] = worker.client_id
        self._monitor.follow(log_path, worker.pid)
        self._note(log_path)

    def ended(self, log_path: str) -> None:
        """A worker is dead: its last words."""
        self._deliver(self._monitor.forget(log_path))
        self._workers.pop(log_path, None)

    def flush(self, driver: Client) -> None:
        """Everything that was printed by now goes out before the answer does."""
        end_s = self._loop.time() + FLUSH_S_MAX
        while True:
            self._deliver(self._monitor.new_lines())
            if not self._monitor.behind:
                break
            if self._loop.time() > end_s:
                self._deliver(self._monitor.leave_out())
                break
        self._deliver(self._monitor.halves(driver.job_id.hex()))
        self._own_up(driver)
        driver.connection.send(OutputFlushed())

    def set_observed(self, active: bool) -> None:
        """Panels get lines as facts, those of the last minutes too."""
        self._observed = active
        if active and self._kept:
            self._gcs.publish(list(self._kept))
            self._kept.clear()

    def announce(self, name: str, text: str) -> None:
        """Something of this node's own for the drivers here: what an installer says."""
        self.deliver_here([WorkerLine(os.getpid(), "err", name, text, "", self._ip, self._node)])

    def deliver_here(self, lines: list[WorkerLine]) -> None:
        """Lines for the drivers of this node, from wherever they were printed."""
        for client in self._clients:
            if client.kind != DRIVER or not client.wants_output:
                continue
            job = client.job_id.hex()
            wanted = [line for line in lines if not line.job or line.job == job]
            if not wanted:
                continue
            if client.connection.framed.unsent_bytes < UNSENT_BYTES_MAX:
                self._own_up(client)
                client.connection.send(WorkerLines(wanted))
            else:
                client.lines_left_out += len(wanted)

    def _own_up(self, client: Client) -> None:
        """Say what a driver that did not read was not sent."""
        if client.lines_left_out:
            text = f"[raybook left out {client.lines_left_out:,} lines of output here: they came faster than they were read]"
            client.lines_left_out = 0
            client.connection.send(
                WorkerLines([WorkerLine(os.getpid(), "out", "raylet", text, "", self._ip, self._node)])
            )

    def close(self) -> None:
        """Look no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None and self._watch.fd >= 0:
            self._loop.remove_reader(self._watch.fd)
            self._watch.close()

    # Looking

    def _written(self) -> None:
        assert self._watch is not None
        for name in self._watch.changed():
            self._changed[f"{self._folder}/{name}"] = None
        self._look_soon()

    def _note(self, log_path: str) -> None:
        self._changed[log_path + ".out"] = None
        self._changed[log_path + ".err"] = None
        self._look_soon()

    def _look_soon(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(GATHER_S, self._look)

    def _look(self) -> None:
        self._timer = None
        changed, self._changed = self._changed, {}
        self._deliver(self._monitor.new_lines(changed))
        if self._monitor.behind:
            self._changed.update(self._monitor.behind)
            self._look_soon()

    def _poll(self) -> None:
        self._deliver(self._monitor.new_lines())
        self._timer = self._loop.call_later(POLL_S, self._poll)

    # Delivering

    def _deliver(self, read: list[LogLine]) -> None:
        if not read:
            return
        lines = [self._addressed(line) for line in read]
        self._tell_viewers(lines)
        self.deliver_here(lines)
        here = {client.job_id.hex() for client in self._clients if client.kind == DRIVER}
        abroad = [line for line in lines if line.job and line.job not in here]
        if abroad:
            self._gcs.tell("PublishLines", PublishLines(abroad))

    def _addressed(self, line: LogLine) -> WorkerLine:
        """With the name of the actor, where the line itself says nothing of who printed it."""
        name, job = line.name, line.job
        if not (name and job):
            actor = self._actor_of(self._workers.get(line.path, b""))
            if actor is not None:
                name, job = name or actor.spec.class_name, job or actor.spec.job_id.hex()
        return WorkerLine(line.pid, line.stream, name, line.line, job, self._ip, self._node)

    def _tell_viewers(self, lines: list[WorkerLine]) -> None:
        facts = []
        self._number += max(0, len(lines) - KEPT_LINES_MAX)
        for line in lines[-KEPT_LINES_MAX:]:
            self._number += 1
            row = {"source": line.source, "pid": line.pid, "name": line.name, "line": line.line}
            facts.append(Fact("log", f"{self._node}:{self._number:012d}", row))
        if self._observed:
            self._gcs.publish(facts)
        else:
            self._kept.extend(facts)
