"""World: one cluster in one thread from one seed: drivers, workers, raylets, the GCS, the network between, and checkers.

``World(seed).run()`` plays the program of the seed to its end, then lets go of everything, and raises what a checker
found, with the seed, the faults and the stories of the ids in question. Same seed, same trace. Decides nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from raybook.base.config import Config
from raybook.sim.bodies import Driver
from raybook.sim.checkers.drains import Drains
from raybook.sim.checkers.grants import Grants
from raybook.sim.checkers.groups import Groups
from raybook.sim.checkers.lineage import Lineage
from raybook.sim.checkers.liveness import Liveness
from raybook.sim.checkers.lives import Lives
from raybook.sim.checkers.memory import Memory
from raybook.sim.checkers.order import Order
from raybook.sim.checkers.values import Values
from raybook.sim.checkers.violation import Violation
from raybook.sim.executor import SimExecutor
from raybook.sim.faults import NO_FAULTS, Faults, Schedule, describe
from raybook.sim.gcs import Gcs
from raybook.sim.handles import Ledger, TaskEntry
from raybook.sim.network import Network
from raybook.sim.node import Node
from raybook.sim.process import Process
from raybook.sim.timeline import Timeline
from raybook.sim.user import User
from raybook.sim.wide_bodies import WideDriver

CHECK_EVERY = 64
"""Walks over everything that has a handle are made this often; what they find does not go away by itself."""
REST_MS = 12_000
"""After everybody has let go: longer than all time-outs that the end of leases, actors and workers may take, and than the
longest pause of a pool whose forks have failed."""
SILENCE_SHARE_PERCENT = 150
"""Of the health check's time-out, as in ``io/keepalive``."""
EVENTS_A_STEP_MAX = 3_000
"""A step of a program costs 20 to 300 events; more than this is somebody who turns in circles."""
MIB = 1 << 20


@dataclass(frozen=True)
class Setting:
    """What kind of cluster and program. drivers: in turns on the nodes; the first, and its node, are never victims of
    faults. cpus, gpus, store_bytes: of each node."""

    steps: int = 40
    drivers: int = 1
    nodes: int = 1
    cpus: int = 4
    gpus: int = 2
    store_bytes: int = 512 * MIB
    actors_exit: bool = False
    config: Config = Config(spilling=0)
    replay: str = ""
    """The command line that plays this world again, for reports."""


class Checkers:
    """All families."""

    def __init__(self, world: World) -> None:
        self.grants = Grants(world)
        self.memory = Memory(world)
        self.liveness = Liveness(world)
        self.values = Values(world)
        self.order = Order()
        self.groups = Groups(world)
        self.lives = Lives(world)
        self.lineage = Lineage(world)
        self.drains = Drains(world)

    def after_gcs(self, gcs: Gcs) -> None:
        """The GCS has answered."""
        gcs.actors.check_invariants()
        gcs.nodes.check_invariants()


class World:
    """See the module."""

    def __init__(self, seed: int, setting: Setting = Setting(), schedule: Schedule = NO_FAULTS) -> None:
        self.seed = seed
        self.setting = setting
        self.config = setting.config
        self.rng = random.Random(seed)
        self.timeline = Timeline()
        self.network = Network(self.timeline, self.rng)
        self.network.silence_us = SILENCE_SHARE_PERCENT * self.config.health_check_timeout_ms * 10
        self.ledger = Ledger()
        self.nodes: dict[bytes, Node] = {}
        """Those that live, in the order in which they joined."""
        self.dead_nodes: dict[bytes, Node] = {}
        self.processes: dict[bytes, Process] = {}
        self.by_address: dict[str, Process] = {}
        self.has_cancelled = False
        self.has_killed = False
        self.has_removed_group = False
        self.last_fault_ms = max((fault.end_ms for fault in schedule), default=0)
        self._ids = 0
        self._node_count = 0
        self._pids = 1000
        self._turns = 0
        self._drivers_left = setting.drivers
        self.faults = Faults(self, schedule)
        self.check = Checkers(self)
        self.gcs = Gcs(self)
        self.gcs.start()
        nodes = [self.add_node() for _ in range(setting.nodes)]
        drivers = [self._make_driver(nodes[index % len(nodes)]) for index in range(setting.drivers)]
        self.driver = drivers[0]
        for index, driver in enumerate(drivers):
            self._play(driver, seed * 31 + index)
        self.faults.start()

    # Making

    def next_client_id(self, letter: bytes) -> bytes:
        """A fresh one, that reads well."""
        self._ids += 1
        return letter + b"%07d" % self._ids

    def next_pid(self) -> int:
        """A fresh one."""
        self._pids += 1
        return self._pids

    def add_node(self) -> Node:
        """A node joins."""
        setting = self.setting
        amounts = {"CPU": 10_000 * setting.cpus, "GPU": 10_000 * setting.gpus}
        self._node_count += 1
        # Its first bytes are those of its leases' numbers.
        node_id = b"%03d-node" % self._node_count
        resources = {name: amount for name, amount in amounts.items() if amount}
        node = Node(self, node_id, resources, setting.store_bytes, has_others=setting.nodes > 1)
        node.arena.on_overwritten = lambda old, new: self.check.memory.overwritten(node, old, new)
        self.nodes[node_id] = node
        node.start()
        return node

    def node(self, node_id: bytes) -> Node:
        """Also a dead one."""
        return self.nodes.get(node_id) or self.dead_nodes[node_id]

    def _make_driver(self, node: Node) -> Process:
        process = Process(self, node, self.next_client_id(b"d"), "driver", self.next_client_id(b"j"))
        self._add(process)
        node.join(process)
        return process

    def make_worker(self, node: Node, client_id: bytes) -> Process:
        """A forked process."""
        process = Process(self, node, client_id, "worker", b"")
        self._add(process)
        process.executor = SimExecutor(process)
        return process

    def _add(self, process: Process) -> None:
        self.processes[process.client_id] = process
        self.by_address[process.address] = process

    def _play(self, driver: Process, seed: int) -> None:
        user = User(driver)
        setting = self.setting
        may_hold_cpu = setting.cpus - setting.drivers >= 2
        kind = Driver if setting.nodes == 1 else WideDriver
        program = kind(user, seed, setting.steps, may_exit=setting.actors_exit, may_hold_cpu=may_hold_cpu)
        user.fiber = driver.spawn(program.program(), self._driver_done)

    def _driver_done(self, result: object) -> None:
        self._drivers_left -= 1

    # Looking

    def process_at(self, address: str) -> Process | None:
        """Who listens there, if anybody."""
        process = self.by_address.get(address)
        return process if process is not None and process.is_alive else None

    def after_turn(self, process: Process) -> None:
        """A process has come to rest for a moment."""
        process.owner.check_invariants()
        process.owner.recovery.check_invariants()
        self.check.lineage.after_turn(process)
        if process.executor is not None:
            process.executor.intake.check_invariants()
        self._turns += 1
        if self._turns % CHECK_EVERY == 0:
            self.check.memory.check_reachable()
            self.check.liveness.check()

    def process_ended(self, process: Process, reason: str) -> None:
        """Its memory, references and threads are gone."""
        if process.has_crashed:
            self.ledger.crashed.add(process.client_id)
        elif process.executor is not None and process.executor.actor is not None:
            self.ledger.ended_actors.add(process.client_id)
        self.ledger.process_gone(process)
        process.node.arena.holder_died(process.client_id)
        if process.kind == "driver":
            self._drivers_left -= 1
        process.node.reap(process, reason)

    def node_ended(self, node: Node, reason: str) -> None:
        """A node is gone, with everything on it."""
        del self.nodes[node.node_id]
        self.dead_nodes[node.node_id] = node
        self.ledger.dead_nodes.setdefault(node.node_id, reason)
        self.check.grants.node_ended(node)
        self.check.groups.node_ended(node)
        for process in list(self.processes.values()):
            if process.node is node:
                process.die(reason)
        self.timeline.after(self.network.latency_us(), self.gcs.node_disconnected, node.node_id)

    def note_node_dead(self, node_id: bytes, reason: str) -> None:
        """The GCS says so."""
        node = self.nodes.get(node_id)
        if node is not None and not node.drain.why and not self.faults.may_look_dead(node_id):
            raise Violation("liveness", f"the GCS took the living node {node_id!r} for dead: {reason}")
        self.ledger.dead_nodes.setdefault(node_id, reason)

    def note_cancel(self, task_id: bytes) -> None:
        """User code has cancelled it."""
        self.has_cancelled = True
        entry = self.ledger.tasks.get(task_id, TaskEntry("", 0))
        entry.is_cancelled = True

    def note_kill(self, actor_id: bytes) -> None:
        """User code has killed an actor."""
        self.has_killed = True

    def note_actor_dead(self, actor_id: bytes) -> None:
        """The GCS says so: of old age, too, when its last handle went."""
        self.has_killed = True

    # Running

    def run(self) -> World:
        """Play to the end; itself. Violation, with everything that explains it."""
        with self._explained():
            while self._drivers_left > 0:
                if not self.timeline.step():
                    raise self.check.liveness.stuck() or Violation("liveness", "nothing happens any more")
                if self.timeline.happened % 4096 == 0:
                    self.check.liveness.check()
                    if self.timeline.happened > EVENTS_A_STEP_MAX * self.setting.steps * self.setting.drivers:
                        raise Violation("liveness", "far more happens than the program asks for")
        self.finish()
        return self

    def advance(self, span_us: int) -> None:
        """Let so much time pass. Violation."""
        end_us = self.timeline.now_us + span_us
        with self._explained():
            while self.timeline.now_us < end_us and self.timeline.step():
                pass

    def finish(self) -> None:
        """User code holds nothing any more: let everything come to rest, and look what is left. Violation."""
        with self._explained():
            self._let_rest()
            self._check_end()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except Violation as violation:
            if "\n" not in violation.args[0]:
                violation.args = (self.report(violation),)
            raise
        except AssertionError as broken:
            found = Violation("machine", str(broken))
            found.args = (self.report(found),)
            raise found from broken

    def _let_rest(self) -> None:
        self.faults.heal()
        for process in self._living():
            if process.executor is not None:
                process.executor.state.close()
        self._pass(max(self.timeline.now_ms, self.last_fault_ms) + REST_MS)
        for node in self.nodes.values():
            if node.abroad is not None:
                node.abroad.transfers.give_up_all()
        self._pass(self.timeline.now_ms + 100)

    def _pass(self, end_ms: int) -> None:
        while self.timeline.now_ms < end_ms and self.timeline.step():
            pass

    def _check_end(self) -> None:
        for process in self._living():
            self.check.memory.at_end(process)
        self.check.groups.at_end()
        for node in self.nodes.values():
            self.check.grants.at_end(node)
            self.check.memory.copies_at_end(node)
            node.store.table.check_invariants()
            # One that was killed between sealing a value and saying so leaves it to an owner who never heard of it.
            crashed = {process.hex() for process in self.ledger.crashed}
            left = [row for row in node.store.table.rows(1000) if row["client_id"] not in crashed]
            if left:
                keys = [bytes.fromhex(str(row["object_id"])) for row in left[:3]]
                raise Violation("memory", f"sealed objects that nobody freed: {left}", *keys)

    def _living(self) -> list[Process]:
        return [process for process in self.processes.values() if process.is_alive]

    # Telling

    def report(self, violation: Violation) -> str:
        """What a person needs to find the cause."""
        lines = [
            f"{violation.checker}: {violation.text}",
            f"seed {self.seed}, {self.setting.steps} steps, {self.setting.drivers} drivers, {self.setting.nodes} nodes, "
            f"at {self.timeline.now_us} µs",
            f"replay: {self.setting.replay or 'as in the failing call: the setting has no command line'}",
            "faults: " + (describe(self.faults.schedule) or "none"),
            "ends: " + ", ".join(f"{what} {count}" for what, count in sorted(self.ledger.ends.items())),
        ]
        for key in violation.keys:
            lines += self._stories(key)
        lines.append("latest messages:")
        lines += self.network.latest
        return "\n".join(lines)

    def _stories(self, key: bytes) -> Iterable[str]:
        yield f"story of {key.hex()}:"
        entry = self.ledger.tasks.get(key[:16])
        if entry is not None:
            yield f"  {entry}"
        for process in self._living():
            counts, borrowers = process.owner.references.counts, process.owner.references.borrowers
            if key in counts or key in borrowers or key in process.owner.objects.values:
                yield (
                    f"  {process.name}: {process.owner.story(key)}; {counts.get(key, 0)} counts, "
                    f"borrowers {sorted(borrowers.get(key, ()))}"
                )
        for node in self.nodes.values():
            for story in (node.leases.story(key), node.store.table.story(key)):
                yield from (f"  {node.name}: {line}" for line in story.splitlines()[-12:])
        if len(key) == 16 and self.gcs.actors.record(key) is not None:
            yield from (f"  gcs: {line}" for line in self.gcs.actors.story(key).splitlines())
        if self.gcs.groups.table.record(key) is not None:
            yield from (f"  gcs: {line}" for line in self.gcs.groups.table.story(key).splitlines())
