"""Process: one driver or worker: the shipped owner machine, with virtual sockets and virtual threads around it.

The same turn as the core process's: read what has arrived, take what user threads handed over, ask the machine, carry
out its effects, look at the timers, write. A *fuse* of n messages kills it after the n-th it writes, so that a crash may
fall between any two effects. Decides nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from raybook.base.ids import IdFactory
from raybook.base.specs import Endpoint, Location
from raybook.core.owner.locality import Locality
from raybook.core.owner.owner import Owner
from raybook.core.owner.records import (
    FreeOwn,
    FromPeer,
    FromRaylet,
    FunctionStats,
    GiveBackIdle,
    LogLine,
    LookAgain,
    PeerGone,
    PushTo,
    ToPeer,
    ToRaylet,
    UnhandledError,
    WakeUp,
)
from raybook.core.owner.regions import EVERYTHING, RECALL_BYTES_MIN, Regions, Ticket
from raybook.core.worker.copies import Copies, CopyTicket
from raybook.protocol.messages.raylet import GcsCall, GcsReply, NodeGone
from raybook.protocol.messages.store import (
    ExtentGranted,
    ExtentRefused,
    RecallIdle,
    ReclaimQuery,
    RegionsFreed,
    SpillWanted,
)
from raybook.protocol.messages.worker import Hello
from raybook.sim.fiber import Fiber, Program
from raybook.sim.network import Port
from raybook.sim.timeline import Timer

if TYPE_CHECKING:
    from raybook.sim.executor import SimExecutor
    from raybook.sim.node import Node
    from raybook.sim.world import World

BUSY_WAIT_MS = 20
IDLE_WAIT_MS = 500
"""As in ``worker/core_process``."""
TURN_US = 30
"""A loop that was woken turns this soon at the latest; what arrives meanwhile is one batch."""
WAKE_US = 50
"""The same for a user thread."""
CLOSED: Any = object()
BROKEN: Any = object()
"""In the place of a message: the far end closed, or the network broke."""


class Lock:
    """What a ticket's or wait's lock is here: its release wakes a fiber."""

    __slots__ = ("release",)

    def __init__(self, release: Callable[[], None]) -> None:
        self.release = release


class Process:
    """kind: "driver" or "worker". ``executor`` and ``link`` are set by who makes it."""

    def __init__(self, world: World, node: Node, client_id: bytes, kind: str, job_id: bytes) -> None:
        self.world = world
        self.node = node
        self.client_id = client_id
        self.name = client_id.decode("ascii", "replace")
        self.kind = kind
        self.job_id = job_id
        self.pid = world.next_pid()
        self.address = f"unix:/{self.name}.s"
        self.me = Endpoint(client_id, node.node_id, self.address)
        self.owner = Owner(client_id, world.config)
        owner = self.owner
        self.copies = Copies(self.to_raylet, self.submit, owner.objects, owner.references, owner.pins, node.node_id)
        if node.abroad is not None:
            self.owner.recovery.is_on = True
            self.owner.leases.locality = Locality(node.node_id)
            self.owner.evacuation.here = node.node_id
        self.ids = IdFactory(client_id)
        self.queue: deque[Any] = deque()
        self.regions = Regions(self.to_raylet, self.owner.pins.touches)
        self.executor: SimExecutor | None = None
        self.link: Port | None = None
        self.by_client: dict[bytes, Port] = {}
        self.ports: dict[Port, None] = {}
        self.is_alive = True
        self.has_crashed = False
        self.fuse: int | None = None
        self.stats: dict[str, FunctionStats] = {}
        self._fibers: dict[Fiber, None] = {}
        self._calls: dict[int, Callable[[Any], None]] = {}
        self._next_call = 1
        self._arrived: list[tuple[Port, Any]] = []
        self._unsent: dict[Port, list[Any]] = {}
        self._unsent_link: list[Any] = []
        self._dead_nodes: dict[bytes, str] = {}
        self._timer_ms = 0
        self._alarm: Timer | None = None
        self._is_due = False
        self._random = world.rng.random
        self._effects: dict[type, Callable[[Any], None]] = {
            ToPeer: lambda effect: self.send_peer(effect.client_id, effect.message, effect.address),
            PushTo: lambda effect: self.send_peer(effect.client_id, effect.message, effect.address),
            ToRaylet: lambda effect: self.to_raylet(effect.message),
            WakeUp: lambda effect: effect.wait.callback(),
            FreeOwn: self._free_own,
            LookAgain: lambda effect: self.queue.append(_nothing),
            GiveBackIdle: lambda effect: self.regions.give_back_all(),
            LogLine: lambda effect: None,
            UnhandledError: lambda effect: None,
        }
        self._raylet_handlers: dict[type, Callable[[Any], None]] = {
            GcsReply: self._on_gcs_reply,
            **self.copies.handlers,
            ExtentGranted: self.regions.granted,
            ExtentRefused: self.regions.refused,
            RegionsFreed: self._regions_freed,
            ReclaimQuery: self.regions.reclaim_asked,
            RecallIdle: self.regions.recalled,
        }

    @property
    def place(self) -> bytes:
        """The node that it is on."""
        return self.node.node_id

    # User threads

    def submit(self, event: Any) -> None:
        """Hand an event over, to be handled at once."""
        self.queue.append(event)
        self.rouse()

    def append(self, event: Any) -> None:
        """Hand it over without waking anybody, as finalizers do."""
        self.queue.append(event)

    def spawn(self, program: Program, on_end: Callable[[Any], None] = lambda result: None) -> Fiber:
        """Start a user thread."""

        def ended(result: Any) -> None:
            self._fibers.pop(fiber, None)
            on_end(result)

        fiber = Fiber(self.world.timeline, program, lambda: 1 + int(self._random() * WAKE_US), ended)
        self._fibers[fiber] = None
        fiber.start()
        return fiber

    def allocate(self, fiber: Fiber, size: int) -> Program:
        """Room in the arena; a ticket with ``offset`` or ``refusal``."""
        ticket = Ticket(size, Lock(fiber.waker()))
        self.submit(ticket)
        try:
            yield
        except BaseException:
            self.submit(lambda: self.regions.abandon(ticket))
            raise
        return ticket

    def fetch_copy(self, fiber: Fiber, key: bytes, location: Location) -> Program:
        """A copy of another node's object; a ticket with ``copy``, or with the ``reason`` why there is none."""
        ticket = CopyTicket(key, location, fiber.waker())
        self.submit(ticket)
        yield
        return ticket

    def call_gcs(self, method: str, request: Any, on_reply: Callable[[Any], None] = lambda reply: None) -> None:
        """Ask the GCS through the raylet."""
        self.submit(lambda: self._call(method, request, on_reply))

    def _call(self, method: str, request: Any, on_reply: Callable[[Any], None]) -> None:
        number = self._next_call
        self._next_call += 1
        self._calls[number] = on_reply
        self.to_raylet(GcsCall(number, method, msgspec.msgpack.encode(request)))

    # The loop

    def rouse(self) -> None:
        """The loop shall turn soon."""
        if not self._is_due and self.is_alive:
            self._is_due = True
            self.world.timeline.after(int(self._random() * TURN_US), self._turn)

    def _turn(self) -> None:
        self._is_due = False
        if not self.is_alive:
            return
        inbox: list[Any] = []
        arrived, self._arrived = self._arrived, []
        for port, message in arrived:
            if port.is_closed:
                continue
            if message is CLOSED or message is BROKEN:
                self._port_ended(port, inbox, is_cut_off=message is BROKEN)
            elif port is self.link:
                self._on_raylet(message, inbox)
            else:
                self._on_peer(port, message, inbox)
            if not self.is_alive:
                return
        for _ in range(len(self.queue)):
            self._take(self.queue.popleft(), inbox)
        now_ms = self.world.timeline.now_ms
        if inbox:
            self._execute(self.owner.handle(inbox, now_ms))
            self._timer_ms = min(self._timer_ms, now_ms + BUSY_WAIT_MS)
        if now_ms >= self._timer_ms:
            self._on_timer(now_ms, bool(inbox))
        self._flush()
        if self.is_alive:
            self.world.after_turn(self)
            self._arm()

    def _arm(self) -> None:
        if self.queue:
            self.rouse()
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self.world.timeline.at(self._timer_ms * 1000, self.rouse)

    def _take(self, event: Any, inbox: list[Any]) -> None:
        kind = type(event)
        if kind is Ticket:
            self.regions.allocate(event)
        elif kind is CopyTicket:
            self.copies.ask(event)
        elif kind is ToRaylet:
            self.to_raylet(event.message)
        elif callable(event):
            event()
        else:
            inbox.append(event)

    def _execute(self, effects: list[Any]) -> None:
        for effect in effects:
            self._effects[type(effect)](effect)

    def _on_timer(self, now_ms: int, is_busy: bool) -> None:
        self._execute(self.owner.tick(now_ms))
        self.regions.look(now_ms)
        wait_ms = BUSY_WAIT_MS if is_busy else IDLE_WAIT_MS
        deadline_ms = self.owner.next_deadline_ms()
        if deadline_ms is not None:
            wait_ms = min(wait_ms, max(1, deadline_ms - now_ms))
        if self.executor is not None:
            self.executor.on_idle()
        self._timer_ms = now_ms + wait_ms

    # In

    def arrived(self, port: Port, message: Any) -> None:
        """The network brings a message."""
        if self.is_alive:
            self._arrived.append((port, message))
            self.rouse()

    def ended(self, port: Port) -> None:
        """The network brings the end of a connection."""
        self.arrived(port, CLOSED)

    def broke(self, port: Port) -> None:
        """The network brings the news that it is broken."""
        self.arrived(port, BROKEN)

    def _on_peer(self, port: Port, message: Any, inbox: list[Any]) -> None:
        if type(message) in self.owner.accepted:
            inbox.append(FromPeer(port.peer_id, message))
        elif type(message) is Hello:
            if message.endpoint.node_id in self._dead_nodes:
                self._drop(port)
                return
            port.peer_id = message.endpoint.client_id
            self.by_client.setdefault(port.peer_id, port)
        elif self.executor is not None:
            self.executor.on_message(port, message)

    def _on_raylet(self, message: Any, inbox: list[Any]) -> None:
        kind = type(message)
        if kind is SpillWanted:
            message.bytes_wanted -= self.regions.give_back_idle(EVERYTHING, RECALL_BYTES_MIN)
        handler = self._raylet_handlers.get(kind)
        if kind is NodeGone:
            gone = self._node_gone(message, inbox)
            inbox.append(FromRaylet(message))
            inbox += gone
        elif kind in self.owner.accepted_from_raylet:
            inbox.append(FromRaylet(message))
        elif handler is not None:
            handler(message)
        elif self.executor is not None:
            self.executor.on_raylet(message)
        # It may have asked for something that is looked after by the timer.
        self._timer_ms = 0

    def _on_gcs_reply(self, message: GcsReply) -> None:
        self._calls.pop(message.call_id)(message)

    def _port_ended(self, port: Port, inbox: list[Any], *, is_cut_off: bool) -> None:
        gone = self._drop(port, "the network is broken" if is_cut_off else "", is_cut_off)
        if gone is not None:
            inbox.append(gone)

    def _node_gone(self, message: NodeGone, inbox: list[Any]) -> list[PeerGone]:
        """Answers that had come from there count, and then its processes are gone."""
        node_id = message.node_id
        self._dead_nodes[node_id] = f"its node {node_id.hex()} died: {message.reason}"
        ended = []
        for port in [port for port in self.ports if port.far.listener.place == node_id]:
            for arrived, said in self._arrived:
                if arrived is port and said is not CLOSED and said is not BROKEN:
                    self._on_peer(port, said, inbox)
            gone = self._drop(port, self._dead_nodes[node_id])
            if gone is not None:
                ended.append(gone)
        return ended

    # Out

    def connected(self, port: Port) -> None:
        """Somebody connected to us; who it is comes with its Hello."""
        self.ports[port] = None

    def _reach(self, client_id: bytes, address: str) -> Port | None:
        port = self.by_client.get(client_id)
        if port is not None or not address:
            return port
        other = self.world.process_at(address)
        if other is None or other.place in self._dead_nodes:
            return None
        port, far = self.world.network.connect(self, other)
        port.peer_id = client_id
        other.connected(far)
        self.by_client[client_id] = port
        self.ports[port] = None
        self._unsent[port] = [Hello(self.me)]
        return port

    def send_peer(self, client_id: bytes, message: Any, address: str = "") -> None:
        """Queue for another process; who cannot be reached is gone."""
        port = self._reach(client_id, address)
        if port is None:
            self.queue.append(PeerGone(client_id))
        else:
            self._unsent.setdefault(port, []).append(message)
            self.rouse()

    def send_now(self, port: Port, message: Any) -> bool:
        """Write from a user thread, behind what is queued. False when the connection is closed."""
        if port.is_closed:
            return False
        self._unsent.setdefault(port, []).append(message)
        return self._flush_port(port)

    def to_raylet(self, message: Any) -> None:
        """Queue for the raylet."""
        self._unsent_link.append(message)
        self.rouse()

    def _flush(self) -> None:
        self.flush_link()
        for port in list(self._unsent):
            # Who is closed at the other end is still read to its end.
            self._flush_port(port)
            if not self.is_alive:
                return

    def _flush_port(self, port: Port) -> bool:
        for message in self._unsent.pop(port, ()):
            if not self._burn():
                return False
            if not port.send(message):
                return False
        return True

    def flush_link(self) -> None:
        """Write what is queued for the raylet."""
        messages, self._unsent_link = self._unsent_link, []
        for message in messages:
            if not self._burn() or self.link is None:
                return
            self.link.send(message)

    def _burn(self) -> bool:
        """One more message is about to be written. False when the process dies of it."""
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0 and self.is_alive:
                self.die("its fuse burned down")
        return self.is_alive

    def _drop(self, port: Port, reason: str = "", is_cut_off: bool = False) -> PeerGone | None:
        self._unsent.pop(port, None)
        port.close()
        self.ports.pop(port, None)
        client_id = port.peer_id
        if self.by_client.get(client_id) is not port:
            return None
        del self.by_client[client_id]
        for other in self.ports:
            if other.peer_id == client_id:
                self.by_client[client_id] = other
                return None
        if self.executor is not None:
            self.executor.on_peer_gone(client_id)
        return PeerGone(client_id, reason, is_cut_off)

    # Memory

    def _free_own(self, effect: FreeOwn) -> None:
        self.world.check.memory.freed(self, effect.offset)
        self.regions.free(effect.offset)

    def _regions_freed(self, message: RegionsFreed) -> None:
        for offset in message.offsets:
            self.world.check.memory.freed(self, offset)
        self.regions.freed(message)

    # The end

    def leave(self) -> None:
        """End in good order: what was handed over still goes out."""
        if self.is_alive:
            self._turn()
            self._end("")

    def die(self, reason: str) -> None:
        """End here and now, as by SIGKILL."""
        if self.is_alive:
            self.has_crashed = True
            self._end(reason)

    def _end(self, reason: str) -> None:
        self.is_alive = False
        for port in list(self.ports):
            port.close()
        if self.link is not None:
            self.link.close()
        for fiber in list(self._fibers):
            fiber.end()
        if self._alarm is not None:
            self._alarm.cancel()
        self.world.process_ended(self, reason)


def _nothing() -> None:
    pass
