"""Network: connections between processes, in virtual time. Bytes in, the same bytes out, late and in order.

A connection is two streams, each first in, first out as a socket's; different connections overtake each other as the
seed has it. What a process had handed to its socket when it died still arrives, then comes the end of the stream; what
it had not handed over is gone. Messages travel encoded, so that nobody shares an object with another process, and what
the wire cannot carry is found out. Knows nothing of what messages mean.
"""

from __future__ import annotations

import random
import zlib
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from raybook.protocol.messages.neighbours import NeighbourMessage
from raybook.protocol.messages.raylet import RayletMessage
from raybook.protocol.messages.worker import WorkerMessage
from raybook.sim.timeline import Timeline

LATENCY_US = 20
"""Of an idle socket and a waiting reader, with the wake-up."""
SPREAD_US = 180
"""How much a busy scheduler adds, mostly less."""
ACROSS_US = 80
"""What a switch between two machines adds."""
LAST_FRAMES = 12
"""How much of the latest traffic a report shows."""

TO_PEER, TO_RAYLET, TO_NEIGHBOUR = "peer", "raylet", "neighbour"
"""What a connection carries: messages between drivers and workers, with their raylet, or between raylets."""
GCS_PLACE = b"gcs"
Link = frozenset[bytes]
"""Two places."""


class Listener(Protocol):
    """Who sits at the end of a connection. place: the node it is on."""

    name: str

    @property
    def place(self) -> bytes: ...

    def arrived(self, port: Port, message: Any) -> None:
        """One message."""

    def ended(self, port: Port) -> None:
        """The other side closed, and all it had sent has been read."""

    def broke(self, port: Port) -> None:
        """The network is broken, or was reset: what was on its way is lost, and the other side may live."""


class Port:
    """One end of a connection."""

    __slots__ = ("_free_us", "_network", "_pending", "caller", "far", "is_closed", "listener", "peer_id")

    def __init__(self, network: Network, listener: Listener) -> None:
        self.listener = listener
        self.far: Port = self
        self.peer_id = b""
        """Who is at the other end, once known."""
        self.caller: Any = None
        """What the executor at this end takes it for."""
        self.is_closed = False
        self._network = network
        self._free_us = 0
        self._pending: deque[bytes] = deque()
        """Sent by us, and not read at the other end."""

    def send(self, message: Any) -> bool:
        """Hand a message to the socket. False when the other end is closed, as a write finds out."""
        if self.is_closed or self.far.is_closed:
            return False
        self._network.carry(self, message)
        return True

    def close(self) -> None:
        """Close this end; the other one hears of it after all that was sent. Idempotent."""
        if not self.is_closed:
            self.is_closed = True
            self._network.end(self)

    def read_all(self) -> None:
        """Deliver at once what the other end has sent, as who reads a dead process's last words does."""
        while self.far._pending:
            self._network.deliver(self.far)


class Network:
    """All connections. ``wrap``: told of each message as it is delivered, for checkers and reports."""

    def __init__(self, timeline: Timeline, rng: random.Random) -> None:
        self.slow_share = 0.0
        """This share of messages is held up by as much as ``slow_us``."""
        self.slow_us = 0
        self.trace = 0
        """A running hash of every delivery: two runs of one seed have the same."""
        self.delivered = 0
        self.kinds: dict[str, int] = {}
        self.latest: deque[str] = deque(maxlen=LAST_FRAMES)
        self._timeline = timeline
        self._random = rng.random
        self._encode = msgspec.msgpack.Encoder().encode
        self._decoders = {
            TO_PEER: msgspec.msgpack.Decoder(WorkerMessage).decode,
            TO_RAYLET: msgspec.msgpack.Decoder(RayletMessage).decode,
            TO_NEIGHBOUR: msgspec.msgpack.Decoder(NeighbourMessage).decode,
        }
        self._ports: dict[Port, str] = {}
        """Open ones → what they carry."""
        self._cuts: dict[Link, int] = {}
        """Two places → how often they are cut off from each other."""
        self._held: list[tuple[Port, Callable[..., None]]] = []
        self.broken: set[Link] = set()
        """Places between which a connection broke: those there may have held each other for out of reach."""
        self.silence_us = 15_000_000
        """As ``io/keepalive`` asks the kernel for."""
        self.watch: Callable[[Port, Any], None] | None = None

    def connect(self, near: Listener, far: Listener, carries: str = TO_PEER) -> tuple[Port, Port]:
        """A new connection: its two ends."""
        ports = Port(self, near), Port(self, far)
        ports[0].far, ports[1].far = ports[1], ports[0]
        for port in ports:
            self._ports[port] = carries
        if self.is_cut(near.place, far.place):
            self._timeline.after(self.silence_us, self._give_up, ports[0])
        return ports

    # Cuts

    def cut(self, here: bytes, there: bytes) -> None:
        """From now on nothing passes between two places."""
        link = frozenset((here, there))
        self._cuts[link] = self._cuts.get(link, 0) + 1
        for port in list(self._ports):
            if port.listener.place == here and port.far.listener.place == there:
                self._timeline.after(self.silence_us, self._give_up, port)

    def _give_up(self, port: Port) -> None:
        """Nothing came for so long: if nothing can come still, the kernels say so at both ends."""
        if self.is_cut(port.listener.place, port.far.listener.place):
            self._break(port)

    def _break(self, port: Port) -> None:
        self.broken.add(frozenset((port.listener.place, port.far.listener.place)))
        for end in (port, port.far):
            end._pending.clear()
            if not end.is_closed:
                self._timeline.after(self.latency_us(), self._tell_broken, end)

    def _tell_broken(self, port: Port) -> None:
        if not port.is_closed:
            port.listener.broke(port)

    def heal(self, here: bytes, there: bytes) -> None:
        """One cut less; after the last one everything arrives that was sent meanwhile."""
        link = frozenset((here, there))
        left = self._cuts.get(link, 0) - 1
        if left > 0:
            self._cuts[link] = left
            return
        self._cuts.pop(link, None)
        held, self._held = self._held, []
        for port, function in held:
            self._in_order(port, function, port)

    def heal_all(self) -> None:
        """Everybody reaches everybody."""
        for link in list(self._cuts):
            self._cuts[link] = 1
            here, *there = sorted(link)
            self.heal(here, there[0] if there else here)

    def is_cut(self, here: bytes, there: bytes) -> bool:
        """Whether nothing passes between these places."""
        return bool(self._cuts) and frozenset((here, there)) in self._cuts

    def lose(self, number: int) -> str:
        """One connection between two nodes breaks, of those that are open the one of this number (modulo); its name, "" when
        there is none. What had not arrived never does."""
        open_ones = [port for port in self._ports if not (port.is_closed or port.far.is_closed)]
        across = [port for port in open_ones if port.listener.place < port.far.listener.place]
        if not across:
            return ""
        port = across[number % len(across)]
        self._break(port)
        return f"{port.listener.name} – {port.far.listener.name}"

    # Messages

    def latency_us(self) -> int:
        """How long the next message takes."""
        draw = self._random()
        late_us = LATENCY_US + int(SPREAD_US * draw * draw)
        if self.slow_share and self._random() < self.slow_share:
            late_us += int(self._random() * self.slow_us)
        return late_us

    def carry(self, port: Port, message: Any) -> None:
        port._pending.append(self._encode(message))
        self._in_order(port, self._arrive, port)

    def end(self, port: Port) -> None:
        self._in_order(port, self._tell_end, port)
        if port.far.is_closed:
            self._ports.pop(port, None)
            self._ports.pop(port.far, None)

    def _in_order(self, port: Port, function: Callable[..., None], *args: Any) -> None:
        late_us = self.latency_us()
        if port.listener.place != port.far.listener.place:
            late_us += ACROSS_US
        port._free_us = max(port._free_us, self._timeline.now_us + late_us)
        self._timeline.at(port._free_us, function, *args)

    def _is_held(self, port: Port, function: Callable[..., None]) -> bool:
        if self._cuts and self.is_cut(port.listener.place, port.far.listener.place):
            self._held.append((port, function))
            return True
        return False

    def _arrive(self, port: Port) -> None:
        if port._pending and not self._is_held(port, self._arrive):
            self.deliver(port)

    def deliver(self, port: Port) -> None:
        """The oldest message that ``port`` sent reaches the other end."""
        frame = port._pending.popleft()
        far = port.far
        if far.is_closed:
            return
        self.delivered += 1
        self.trace = zlib.crc32(frame, self.trace ^ (self._timeline.now_us & 0xFFFFFFFF))
        message = self._decoders[self._ports[port]](frame)
        kind = type(message).__name__
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        self.latest.append(f"{self._timeline.now_us} µs: {port.listener.name} → {far.listener.name}: {kind}")
        if self.watch is not None:
            self.watch(port, message)
        far.listener.arrived(far, message)

    def _tell_end(self, port: Port) -> None:
        if self._is_held(port, self._tell_end):
            return
        while port._pending and not port.far.is_closed:
            # Held up by a cut until now.
            self.deliver(port)
        if not port.far.is_closed:
            port.far.listener.ended(port.far)
