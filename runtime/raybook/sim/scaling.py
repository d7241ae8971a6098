"""Scaling world: the shipped autoscaler against a provider with faults, nodes that come late and work that comes in waves.

One thread, virtual time, one seed. The provider refuses, forgets, hangs and lists late; nodes never join, die, and refuse to
go; the GCS is told of each node with a delay of its own, so that its view is never of one moment. Work is tasks of several
shapes and placement groups, laid on nodes first come, first served. What must hold is checked from outside, by the world's
own books:

    bounds      never more of a type, or in all, than allowed; none removed below the least number
    idleness    nothing is removed that works, or that has not been idle for its time since it joined
    liveness    once faults have stopped: all work that some type can hold is done, and what is left is the least number
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from itertools import count as counter
from typing import Any

import msgspec

from raybook.base.resources import Shape, fits, shape_of
from raybook.base.specs import Bundle
from raybook.core.autoscaler import events as ev
from raybook.core.autoscaler.machine import Autoscaler
from raybook.core.autoscaler.settings import NodeType, Settings
from raybook.core.cluster.resource_view import ResourceView
from raybook.core.scheduling.bundles import STRATEGIES, place_bundles
from raybook.protocol.messages.scaling import INSTANCE_LABEL, ClusterLoad, GroupLoad, NodeActivity, ShapeCount
from raybook.sim.checkers.violation import Violation

LOOK_MS = 1_000
LOOK_SOON_MS = 200
DEAD_SHOWN_MS = 5_000
"""The GCS remembers the dead for long; here, as long as it matters."""
SHAPES = tuple(shape_of(shape) for shape in ({"CPU": 1}, {"CPU": 2}, {"CPU": 1, "GPU": 1}, {"CPU": 0.5}))


class Faults(msgspec.Struct, frozen=True):
    """Each a chance, in thousandths, at each occasion."""

    refuse: int = 0
    lose: int = 0
    never_join: int = 0
    die: int = 0
    list_fails: int = 0
    hang: int = 0
    terminate_fails: int = 0


class Node(msgspec.Struct, eq=False):
    """One of the provider's. told_ms and told: what the GCS knows of it, which is a report old."""

    name: str
    kind: NodeType
    request: str
    joined_ms: int | None = None
    free: Shape = {}
    running: int = 0
    idle_since_ms: int = 0
    alive: bool = True
    leaving: bool = False
    told: NodeActivity | None = None
    told_idle_ms: int = 0
    told_number: int = -1

    @property
    def node_id(self) -> bytes:
        return self.name.encode()


class Work(msgspec.Struct, eq=False):
    """A task, or (bundles) a group. began: the nodes it runs on."""

    number: int
    shape: Shape
    takes_ms: int
    strategy: str = ""
    bundles: list[Bundle] = []
    born_ms: int = 0


def types() -> tuple[NodeType, ...]:
    return (
        NodeType("cpu", shape_of({"CPU": 2}), min_nodes=1, max_nodes=6),
        NodeType("big", shape_of({"CPU": 8}), max_nodes=2),
        NodeType("gpu", shape_of({"CPU": 4, "GPU": 2}), max_nodes=3),
    )


class ScalingWorld:
    """seed: of everything that is drawn. faulty_ms: for how long faults happen and work comes."""

    def __init__(self, seed: int, faults: Faults | None = None, faulty_ms: int = 60_000, waves: int = 8) -> None:
        self.faults = faults or Faults()
        self.settings = Settings(
            types(),
            max_nodes=8,
            idle_timeout_ms=10_000,
            launch_timeout_ms=15_000,
            join_timeout_ms=15_000,
            end_timeout_ms=10_000,
            backoff_ms=1_000,
            backoff_ms_max=8_000,
            absence_ms=5_000,
        )
        self.machine = Autoscaler(self.settings)
        self.now_ms = 1_000
        self.launches = 0
        self.done = 0
        self.nodes: dict[str, Node] = {}
        self.dead: dict[bytes, NodeActivity] = {}
        self.waiting: list[Work] = []
        self.failures: list[ev.LaunchFailed] = []
        self.listing: tuple[ev.ProvidedNode, ...] = ()
        self._rng = random.Random(seed)
        self._carries_requests = bool(self._rng.randrange(2))
        self._faulty_until_ms = self.now_ms + faulty_ms
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = counter()
        self._names = counter(1)
        for _ in range(waves):
            self._later(self._rng.randrange(faulty_ms), self._wave)
        self._look()

    # --- running ------------------------------------------------------------------------------------------------------

    def run(self, settle_ms: int = 240_000) -> None:
        """To the end of the faults, and until all is quiet; Violation when that does not come."""
        end_ms = self._faulty_until_ms + settle_ms
        while self._events and self._events[0][0] <= end_ms:
            self.now_ms, _, happens = heapq.heappop(self._events)
            happens()
            self._check_bounds()
        if self.waiting:
            texts = [f"{work.strategy or 'task'} {work.shape or work.bundles}" for work in self.waiting[:3]]
            raise Violation("liveness", f"{len(self.waiting)} pieces of work got no node: {texts}.")
        left = {kind.name: self._count(kind.name) for kind in self.settings.types}
        least = {kind.name: kind.min_nodes for kind in self.settings.types}
        if left != least:
            raise Violation("liveness", f"Nodes that are left: {left}; there should be {least}.")

    def _later(self, after_ms: int, happens: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now_ms + after_ms, next(self._order), happens))

    def _strikes(self, permille: int) -> bool:
        return self.now_ms < self._faulty_until_ms and self._rng.randrange(1000) < permille

    def _count(self, kind: str) -> int:
        return sum(node.kind.name == kind for node in self.nodes.values())

    def _check_bounds(self) -> None:
        for kind in self.settings.types:
            if self._count(kind.name) > kind.max_nodes:
                raise Violation(
                    "bounds", f"There are {self._count(kind.name)} {kind.name}, and {kind.max_nodes} may be."
                )
        if len(self.nodes) > self.settings.max_nodes:
            raise Violation("bounds", f"There are {len(self.nodes)} nodes, and {self.settings.max_nodes} may be.")

    # --- work ---------------------------------------------------------------------------------------------------------

    def _wave(self) -> None:
        """Several tasks of one shape, or a group."""
        rng = self._rng
        takes_ms = rng.choice((100, 2_000, 15_000))
        if rng.randrange(3):
            shape = rng.choice(SHAPES)
            works = [Work(next(self._names), shape, takes_ms) for _ in range(rng.randrange(1, 30))]
        else:
            strategy = rng.choice(STRATEGIES)
            bundles = [Bundle(rng.choice(SHAPES[:2])) for _ in range(rng.randrange(1, 4))]
            works = [Work(next(self._names), {}, takes_ms, strategy, bundles)]
        for work in works:
            work.born_ms = self.now_ms
        self.waiting += works
        self._serve()

    def _serve(self) -> None:
        """Begin what finds room, in order."""
        left = []
        for work in self.waiting:
            placed = self._placed(work)
            if placed is None:
                left.append(work)
                continue
            for node, shape in placed:
                for name, amount in shape.items():
                    node.free[name] -= amount
                node.running += 1
                self._report(node)
            self._later(work.takes_ms, lambda work=work, placed=placed: self._ended(work, placed))  # type: ignore[misc]
        self.waiting = left

    def _placed(self, work: Work) -> list[tuple[Node, Shape]] | None:
        usable = [n for n in self.nodes.values() if n.joined_ms is not None and n.alive and not n.leaving]
        if not work.bundles:
            node = next((node for node in usable if fits(work.shape, node.free)), None)
            return None if node is None else [(node, work.shape)]
        view = ResourceView()
        for node in usable:
            view.add(node.node_id, node.kind.resources, node.free, {})
        plan = place_bundles(dict(enumerate(work.bundles)), work.strategy, view).plan
        if plan is None:
            return None
        return [(self.nodes[node_id.decode()], work.bundles[index].shape) for index, node_id in plan.items()]

    def _ended(self, work: Work, placed: list[tuple[Node, Shape]]) -> None:
        if any(not node.alive for node, _ in placed):
            self.waiting.append(work)  # It is tried again.
        else:
            self.done += 1
        for node, shape in placed:
            for name, amount in shape.items():
                node.free[name] += amount
            node.running -= 1
            if not node.running:
                node.idle_since_ms = self.now_ms
            self._report(node)
        self._serve()

    # --- nodes --------------------------------------------------------------------------------------------------------

    def _report(self, node: Node) -> None:
        """The GCS hears of it a moment later."""
        busy = f"{node.running} tasks on it" if node.running else ""
        told = NodeActivity(
            node.node_id, False, True, node.kind.resources, dict(node.free), {INSTANCE_LABEL: node.name}, busy
        )
        idle_since_ms, number = node.idle_since_ms, next(self._order)

        def arrives() -> None:
            if node.alive and number > node.told_number:  # One node's reports keep their order.
                node.told, node.told_idle_ms, node.told_number = told, idle_since_ms, number

        self._later(self._rng.randrange(5, 100), arrives)

    def _join(self, node: Node) -> None:
        if node.name in self.nodes and not self._strikes(self.faults.never_join):
            node.joined_ms = node.idle_since_ms = self.now_ms
            node.free = dict(node.kind.resources)
            self._report(node)
            self._serve()
            if self._strikes(self.faults.die):
                self._later(self._rng.randrange(1, 20_000), lambda: self._die(node))

    def _die(self, node: Node) -> None:
        """It stays listed until it is taken down."""
        node.alive = False
        self.dead[node.node_id] = NodeActivity(
            node.node_id, False, False, labels={INSTANCE_LABEL: node.name}, death="it was unplugged"
        )
        self._later(DEAD_SHOWN_MS, lambda: self._bury(node))

    def _bury(self, node: Node) -> None:
        self.dead.pop(node.node_id, None)

    def _remove(self, node: Node) -> None:
        self.nodes.pop(node.name, None)
        if node.alive:
            self._die(node)

    # --- the autoscaler's shell ---------------------------------------------------------------------------------------

    def _look(self) -> None:
        self._later(LOOK_SOON_MS if self.machine.is_eager else LOOK_MS, self._look)
        if self._strikes(self.faults.list_fails):
            events: list[Any] = [ev.ProviderFailed("it does not answer")]
        else:
            listed = tuple(ev.ProvidedNode(node.name, node.kind.name, node.request) for node in self.nodes.values())
            # A list is as old as the way from the provider.
            listed, self.listing = (listed, listed) if self._rng.randrange(4) else (self._known(listed), listed)
            events = [ev.InstancesSeen(listed), *self.failures]
            self.failures = []
        self._decide([*events, ev.ClusterSeen(self._load())])

    def _known(self, listed: tuple[ev.ProvidedNode, ...]) -> tuple[ev.ProvidedNode, ...]:
        """Those of the last list that are still there: new ones show up late."""
        before = {each.instance_id for each in self.listing}
        return tuple(each for each in listed if each.instance_id in before)

    def _load(self) -> ClusterLoad:
        nodes = [NodeActivity(b"head", True, total={}, available={}, busy="a driver on it")]
        for node in self.nodes.values():
            if node.told is not None and node.alive:
                idle_ms = 0 if node.told.busy else self.now_ms - node.told_idle_ms
                nodes.append(msgspec.structs.replace(node.told, idle_ms=idle_ms, draining="yes" * node.leaving))
        tasks = [ShapeCount(work.shape, 1) for work in self.waiting if not work.bundles]
        groups = [
            GroupLoad(work.number.to_bytes(8, "big"), work.strategy, work.bundles)
            for work in self.waiting
            if work.bundles
        ]
        return ClusterLoad([*nodes, *self.dead.values()], tasks, groups)

    def _decide(self, events: list[Any]) -> None:
        for effect in self.machine.handle(events, self.now_ms):
            if isinstance(effect, ev.CreateNodes):
                self._create(effect)
            elif isinstance(effect, ev.TerminateNode):
                self._terminate(effect)
            elif isinstance(effect, ev.RetireIfIdle):
                self._retire(effect)
        self.machine.check_invariants()

    def _create(self, effect: ev.CreateNodes) -> None:
        self.launches += effect.count
        if self._strikes(self.faults.hang):
            return  # Neither an answer nor a node.
        if self._strikes(self.faults.refuse):
            answer = ev.CreateAnswered(effect.request, "there is no room in this zone")
            self._later(self._rng.randrange(1, 2_000), lambda: self._decide([answer]))
            return
        kind = self.settings.type_named(effect.node_type)
        assert kind is not None, "A type that nobody knows was asked for."
        for _ in range(effect.count):
            if self._strikes(self.faults.lose):
                self.failures.append(ev.LaunchFailed(effect.node_type, 1, "it broke", effect.request))
                continue
            node = Node(f"i{next(self._names)}", kind, effect.request if self._carries_requests else "")
            self._later(self._rng.randrange(1, 3_000), lambda node=node: self._appear(node))  # type: ignore[misc]

    def _appear(self, node: Node) -> None:
        self.nodes[node.name] = node
        self._later(self._rng.randrange(1, 4_000), lambda: self._join(node))

    def _terminate(self, effect: ev.TerminateNode) -> None:
        node = self.nodes.get(effect.instance_id)
        if node is None:
            return
        if self._strikes(self.faults.terminate_fails):
            self._decide_later(ev.TerminateAnswered(effect.instance_id, "not allowed"))
            return
        if node.running and node.alive:
            raise Violation("idleness", f"{node.name} is taken down with {node.running} tasks: {effect.why}.")
        node.leaving = True
        self._later(self._rng.randrange(1, 3_000), lambda: self._remove(node))

    def _decide_later(self, event: Any) -> None:
        self._later(self._rng.randrange(1, 500), lambda: self._decide([event]))

    def _retire(self, effect: ev.RetireIfIdle) -> None:
        node = self.nodes.get(effect.instance_id)
        if node is None or node.running or not node.alive:
            self._decide_later(ev.RetireAnswered(effect.instance_id, effect.attempt, False, "it works"))
            return
        assert node.joined_ms is not None, "A node that has not joined was asked to go."
        # By what the GCS has been told; what runs at this moment, the node itself knows.
        idle_ms = self.now_ms - max(node.joined_ms, node.told_idle_ms)
        if idle_ms < self.settings.idle_timeout_ms:
            raise Violation("idleness", f"{node.name} is to go after {idle_ms} ms.")
        others = [n for n in self.nodes.values() if n.kind is node.kind and not n.leaving and n is not node]
        if len(others) < node.kind.min_nodes:
            raise Violation("bounds", f"{node.name} is to go, and {len(others)} {node.kind.name} would be left.")
        node.leaving = True
        self._decide_later(ev.RetireAnswered(effect.instance_id, effect.attempt, True))
        self._later(self._rng.randrange(1, 2_000), lambda: self._die(node))
