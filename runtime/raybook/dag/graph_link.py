"""Graph link: the driver's hold on the actors of a compiled graph: gives them the memory, notices their end, lets them go.

Knows nothing of what they compute. Invariants: after ``end`` no thread of this graph goes on in an actor that still
answers; ``lost`` is set once, by the first actor that went although the graph had not ended.
"""

from __future__ import annotations

import logging
import os
import select
import shutil
import socket
import tempfile
import time
from functools import partial
from typing import Any

from raybook.api import get, wait
from raybook.dag import descriptors
from raybook.dag.compile_plan import GraphPlan
from raybook.dag.doorbell import Doorbell, ring
from raybook.dag.graph_memory import GraphMemory
from raybook.dag.participant import join

logger = logging.getLogger(__name__)

LISTEN_S = 0.2
"""How often a driver that waits for its actors to join looks whether one has failed."""


class GraphLink:
    """Made by ``connect``. memory, bell, doorbells: this process's. lost: the actor that went first, or None."""

    def __init__(self, memory: GraphMemory, doorbells: list[int]) -> None:
        self.memory = memory
        self.doorbells = doorbells
        self.bell = Doorbell(doorbells[0], memory.flags, 0)
        self.lost: Any = None
        self.has_ended = False
        self._connections: dict[int, socket.socket] = {}
        self._actors: list[Any] = []

    @classmethod
    def connect(cls, plan: GraphPlan) -> GraphLink:
        """Have every actor join. Blocks until each has (so until it lives, and has taken the call); raises what the first
        that cannot says."""
        participants = len(plan.actors) + 1
        memory = GraphMemory.create(participants, plan.channels)
        flags = os.EFD_CLOEXEC | os.EFD_NONBLOCK
        link = cls(memory, [os.eventfd(0, flags) for _ in range(participants)])
        link._actors = plan.actors
        # A folder of its own, 0700: whoever can connect gets the memory. Short, as names of sockets must be.
        folder = tempfile.mkdtemp(prefix="raybook-graph-")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                listener.bind(f"{folder}/driver")
                os.chmod(f"{folder}/driver", 0o600)
                listener.listen(participants)
                refs = [
                    actor.__ray_call__.remote(join, f"{folder}/driver", actor_plan)
                    for actor, actor_plan in zip(plan.actors, plan.plans, strict=True)
                ]
                link._accept(listener, refs)
            get(refs)
        except BaseException:
            link.let_go()
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return link

    def _accept(self, listener: socket.socket, refs: list[Any]) -> None:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        while len(self._connections) < len(refs):
            if not poll.poll(LISTEN_S * 1000):
                ready, _ = wait(refs, num_returns=len(refs), timeout=0)
                if ready:
                    get(ready)
                continue
            connection, _ = listener.accept()
            participant = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "little")
            descriptors.send(connection, [self.memory.control_fd, self.memory.heap_fd, *self.doorbells])
            self._connections[participant] = connection
            self.bell.watch(connection.fileno(), partial(self._on_hangup, participant))

    def _on_hangup(self, participant: int) -> None:
        self._connections.pop(participant).close()
        if self.lost is None and not self.has_ended:
            self.lost = self._actors[participant - 1]

    def connection_fds(self) -> list[int]:
        """Of the sockets whose end means that an actor has left."""
        return [connection.fileno() for connection in self._connections.values()]

    def end(self, timeout_s: float) -> bool:
        """Tell every actor that the graph is over, and wait until they have let go; False when one has not in time."""
        self.tell_end()
        deadline = time.monotonic() + timeout_s
        while self._connections:
            left_s = deadline - time.monotonic() if timeout_s >= 0 else 1.0
            if left_s <= 0:
                logger.warning(
                    "%d actors of a compiled graph still run a method after %s s; each leaves the graph when it returns.",
                    len(self._connections), timeout_s,
                )  # fmt: skip
                return False
            self.bell.sleep(self._all_gone, left_s)
        return True

    def _all_gone(self) -> bool:
        return not self._connections

    def tell_end(self) -> None:
        """Tell every actor that the graph is over; each leaves it when the method that it runs returns."""
        self.has_ended = True
        self.memory.end()
        for eventfd in self.doorbells:
            ring(eventfd)

    def let_go(self) -> None:
        """End without waiting; only system calls, so that a finalizer may do it. Idempotent."""
        if not self.doorbells:
            return
        self.tell_end()
        self.bell.unwatch(self.connection_fds())
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()
        doorbells, self.doorbells = self.doorbells, []
        for eventfd in doorbells:
            os.close(eventfd)
        self.memory.close()
