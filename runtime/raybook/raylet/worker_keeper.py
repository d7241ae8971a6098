"""Worker keeper: the lives of this node's worker processes, from the order to the last word about their end.

Knows processes: what a new one is told, what the zygote reports of it, what became of its actor. Whether one is
started, leased or ended, the deciders say. Death is what ``waitpid`` said; a closed socket only makes us look again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raybook.base.config import Config
from raybook.base.environments import environment_of
from raybook.base.facts import ACTOR_ALIVE, ACTOR_DEAD
from raybook.core.node import lease_events as le
from raybook.core.node import worker_pool as wp
from raybook.io.memory import out_of_memory_kills
from raybook.protocol.messages import gcs as gcs_messages
from raybook.protocol.messages.raylet import ActorStarted, WorkerExiting
from raybook.protocol.messages.zygote import ForkFailed, WorkerExited, WorkerForked, WorkerOptions, ZygoteReady
from raybook.raylet.clients import Client, ClientTable, WorkerProcess
from raybook.raylet.crash_report import describe_ending
from raybook.raylet.effects import NodeDecider
from raybook.raylet.gcs_link import GcsLink
from raybook.raylet.zygote_client import ZygoteHandle, start_zygote
from raybook.raylet.zygote_link import ZygoteLink

logger = logging.getLogger(__name__)

LOGS = "logs"


@dataclass(slots=True, frozen=True)
class Workplace:
    """What every worker of a node is told alike."""

    raylet_address: str
    token: bytes
    session_dir: str
    worker_environment: dict[str, str]


@dataclass(slots=True, frozen=True)
class Hooks:
    """What the raylet does about a worker's end: hear it out, drop its connection, tell everybody, finish its log; and say
    that it died, if it did not mean to end."""

    read_last_messages: Callable[[Client], None]
    forget: Callable[[Client], None]
    client_gone: Callable[[Client, str], None]
    log_ended: Callable[[WorkerProcess], None]
    died: Callable[[WorkerProcess, str], None]


class WorkerKeeper:
    """handle: the zygote, ours from now on. ``attach`` before the first fork."""

    def __init__(
        self, config: Config, place: Workplace, handle: ZygoteHandle, clients: ClientTable, hooks: Hooks
    ) -> None:
        self._config = config
        self._place = place
        self._handle = handle
        self._clients = clients
        self._hooks = hooks
        self._oom_kills = out_of_memory_kills()
        self._closed = False

    def attach(self, decider: NodeDecider, gcs: GcsLink) -> None:
        """Connect what needs each other, and order the first workers."""
        self._decider = decider
        self._gcs = gcs
        decider.zygote = self._link()
        decider.workers()

    def end(self) -> None:
        """End the zygote and every worker. ``wait`` afterwards. Idempotent."""
        if not self._closed:
            self._closed = True
            if self._decider.zygote is not None:
                self._decider.zygote.end()

    def wait(self) -> None:
        """Block until they are gone, some milliseconds after ``end``; run it in a thread."""
        self._handle.close()

    def kill(self, client_id: bytes, reason: str) -> None:
        """End a worker that cannot be led any more, if it still lives."""
        process = self._clients.process(client_id)
        if process is not None and not self._closed:
            self._decider.kill(process, reason)

    def options(self, client_id: bytes, environment: str) -> WorkerOptions:
        """What a new worker is told. environment: of one that is ready."""
        plan = self._decider.environments.plan(environment)
        return WorkerOptions(
            self._place.raylet_address,
            self._place.token,
            client_id,
            self._place.session_dir,
            f"{self._place.session_dir}/{LOGS}/worker-{client_id.hex()}",
            self._config.worker_niceness,
            {**self._place.worker_environment, **plan.variables},
            environment,
            plan.interpreter,
            plan.working_dir,
            list(plan.import_paths),
            environment_of(environment).setup_hook,
        )

    def _link(self) -> ZygoteLink:
        return ZygoteLink(self._handle, self._zygote_said, self._zygote_lost)

    def _zygote_said(self, message: Any) -> None:
        if self._closed:
            return
        if isinstance(message, WorkerForked):
            process = self._clients.forked(message.start_id, message.pid)
            if process is not None and process.kill_reason:
                self._decider.kill(process, process.kill_reason)
        elif isinstance(message, WorkerExited):
            process = self._clients.process_of_pid(message.pid)
            if process is not None:
                self._worker_exited(process, message.status, message.rss_bytes_max)
        elif isinstance(message, ForkFailed):
            process = self._clients.process_of_start(message.start_id)
            logger.error("A worker could not be started: %s", message.text)
            if process is not None:
                self._clients.remove_process(process)
            self._decider.workers(wp.WorkerStartFailed(message.start_id))
        elif isinstance(message, ZygoteReady):
            logger.info("The zygote (pid %d) imported everything in %d ms.", message.pid, message.import_ms)

    def _zygote_lost(self) -> None:
        """The kernel has ended its workers with it. Start another one and go on."""
        if self._closed:
            return
        logger.error("The zygote died, and all workers with it; starting another one.")
        self._decider.zygote = None
        self._handle.close()
        self._handle = start_zygote(self._handle.worker_main)
        lost = self._clients.processes()
        self._decider.zygote = self._link()
        for process in lost:
            process.kill_reason = process.kill_reason or "the process it was forked from died."
            self._worker_exited(process, signal.SIGKILL, 0)

    def _worker_exited(self, process: WorkerProcess, status: int, rss_bytes_max: int) -> None:
        client = process.client
        if client is not None:
            self._hooks.read_last_messages(client)
        kills = out_of_memory_kills() if os.WIFSIGNALED(status) else self._oom_kills
        ending = describe_ending(
            process.pid,
            status,
            rss_bytes_max,
            process.log_path,
            self._config.log_lines_kept,
            process.kill_reason,
            process.leaving,
            kills > self._oom_kills,
            process.memory_code is not None,
        )
        self._oom_kills = kills
        self._clients.remove_process(process)
        self._clear_up(process)
        if process.leaving is None:
            self._hooks.died(process, ending.text)
        if client is None:
            logger.error("A worker died before it registered. %s", ending.text)
            self._decider.workers(wp.WorkerStartFailed(process.start_id))
            if process.environment:
                self._decider.environments.broken(process.environment, ending.text)
            return
        self._hooks.log_ended(process)
        self._hooks.forget(client)
        self._decider.workers(wp.WorkerLeft(client.client_id))
        died = le.WorkerDied(
            client.client_id,
            ending.text,
            ending.exit_code,
            ending.out_of_memory,
            process.leaving is not None,
            process.memory_code or "",
        )
        self._decider.lease(died)
        self._hooks.client_gone(client, ending.text)
        _remove_empty(process.log_path + ".out", process.log_path + ".err")

    def _clear_up(self, process: WorkerProcess) -> None:
        """What a killed process could not remove itself: the socket at which it was reached."""
        socket = f"{self._place.session_dir}/{process.client_id.hex()}.s"
        with contextlib.suppress(OSError):
            os.unlink(socket)

    def actor_started(self, client: Client, message: ActorStarted) -> None:
        """The actor's ``__init__`` ended, well or not."""
        actor = self._decider.leases.actor_of(client.client_id)
        if actor is None or actor.spec.actor_id != message.actor_id:
            return
        if message.error:
            self._gcs.tell(
                "ActorStateReport",
                gcs_messages.ActorStateReport(
                    message.actor_id,
                    actor.incarnation,
                    ACTOR_DEAD,
                    reason=message.error_text,
                    creation_failed=True,
                    payload=message.error,
                ),
            )
            reason = f"the __init__ of its actor failed: {message.error_text}"
            self._decider.lease(le.ActorFailed(client.client_id, reason))
            return
        self._decider.lease(le.ActorReady(client.client_id))
        self._gcs.tell(
            "ActorStateReport",
            gcs_messages.ActorStateReport(
                message.actor_id, actor.incarnation, ACTOR_ALIVE, client.endpoint, client.pid
            ),
        )

    def exiting(self, client: Client, message: WorkerExiting) -> None:
        """The worker ends on purpose."""
        process = self._clients.process(client.client_id)
        if process is not None:
            process.leaving = message.reason
            self._decider.workers(wp.WorkerLeft(client.client_id))
            self._decider.lease(le.WorkerLeaving(client.client_id, message.stays))


def _remove_empty(*paths: str) -> None:
    """Logs in which nothing was written: a thousand actors that say nothing leave no two thousand files."""
    for path in paths:
        with contextlib.suppress(OSError):
            if not os.path.getsize(path):
                os.unlink(path)
