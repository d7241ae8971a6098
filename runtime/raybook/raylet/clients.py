"""Clients of a raylet: who is connected, and the processes behind workers, connected or not.

Records and look-ups only. A worker's process is known from the moment it was ordered; it becomes a client when it
registers. A client's death is known from its process, never from its socket.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from raybook.base.specs import Endpoint
from raybook.io.loop_transport import Connection

DRIVER = "driver"
WORKER = "worker"


@dataclass(slots=True, eq=False)
class Client:
    """One registered process. ``pidfd`` is open for drivers, which are not children of ours."""

    client_id: bytes
    kind: str
    pid: int
    start_time: int
    endpoint: Endpoint
    job_id: bytes
    connection: Connection
    pidfd: int = -1
    watched: dict[bytes, bool] = field(default_factory=dict)
    facts_since: int | None = None
    """Version of the event table it has, while it is subscribed."""
    wants_output: bool = False
    lines_left_out: int = 0
    """Lines that it was not sent, because it had not read those before; it is told when it has."""


@dataclass(slots=True, eq=False)
class WorkerProcess:
    """One ordered worker. ``pid`` is 0 until the zygote has forked it."""

    start_id: int
    client_id: bytes
    environment: str
    log_path: str
    pid: int = 0
    client: Client | None = None
    kill_reason: str = ""
    """Why we ended it, when we did."""
    memory_code: str | None = None
    """Set when that was for want of memory: the exception class of its task, "" when it may be tried again."""
    leaving: str | None = None
    """What it said when it announced its end."""


class ClientTable:
    """Registered clients by id, and worker processes by every name they go by."""

    def __init__(self) -> None:
        self._clients: dict[bytes, Client] = {}
        self._processes: dict[bytes, WorkerProcess] = {}
        self._by_start: dict[int, WorkerProcess] = {}
        self._by_pid: dict[int, WorkerProcess] = {}

    def __iter__(self) -> Iterator[Client]:
        return iter(list(self._clients.values()))

    def get(self, client_id: bytes) -> Client | None:
        return self._clients.get(client_id)

    def add(self, client: Client) -> None:
        self._clients[client.client_id] = client
        process = self._processes.get(client.client_id)
        if process is not None:
            process.client = client

    def remove(self, client: Client) -> bool:
        """False when it was removed before."""
        return self._clients.pop(client.client_id, None) is not None

    def add_process(self, process: WorkerProcess) -> None:
        self._processes[process.client_id] = process
        self._by_start[process.start_id] = process

    def forked(self, start_id: int, pid: int) -> WorkerProcess | None:
        process = self._by_start.get(start_id)
        if process is not None:
            process.pid = pid
            self._by_pid[pid] = process
        return process

    def remove_process(self, process: WorkerProcess) -> None:
        self._processes.pop(process.client_id, None)
        self._by_start.pop(process.start_id, None)
        self._by_pid.pop(process.pid, None)

    def process(self, client_id: bytes) -> WorkerProcess | None:
        return self._processes.get(client_id)

    def process_of_start(self, start_id: int) -> WorkerProcess | None:
        return self._by_start.get(start_id)

    def process_of_pid(self, pid: int) -> WorkerProcess | None:
        return self._by_pid.get(pid)

    def processes(self) -> list[WorkerProcess]:
        return list(self._processes.values())
