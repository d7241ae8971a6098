"""The same world, driven by hypothesis: any order of what users do and of what goes wrong."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from raybook.base.specs import STREAMING
from raybook.sim.fiber import Program
from raybook.sim.handles import Handle
from raybook.sim.plans import SIZES, TaskPlan
from raybook.sim.user import User
from raybook.sim.world import Setting, World

SEED = st.integers(0, 1 << 20)


class SimulatedCluster(RuleBasedStateMachine):
    """One driver; each rule is a cell that it runs, or a fault."""

    def __init__(self) -> None:
        super().__init__()
        self.refs: list[Handle] = []
        self.actors: list[tuple[Handle, int]] = []
        self.running = 0

    @initialize(seed=SEED, cpus=st.sampled_from([2, 4]))
    def begin(self, seed: int, cpus: int) -> None:
        self.world = World(seed, Setting(steps=0, cpus=cpus))
        self.user = User(self.world.driver)

    def run(self, program: Any) -> None:
        """Run a piece of code beside everything else."""
        user = User(self.world.driver)
        self.running += 1

        def ended(result: Any) -> None:
            self.running -= 1
            for handle in list(user.handles):
                user.give(handle, self.user)
            user.close()

        user.fiber = self.world.driver.spawn(program(user), ended)

    def pick(self, data: Any, most: int) -> list[Handle]:
        if not self.refs:
            return []
        return data.draw(st.lists(st.sampled_from(self.refs), max_size=most, unique=True))

    @staticmethod
    def hold(user: User, handles: list[Handle]) -> list[Handle]:
        """References of its own for a call that waits, as a frame holds its arguments: a cell beside it may drop those."""
        return [user.adopt(handle.key, handle.address, handle.via) for handle in handles if handle.is_open]

    # What users do

    @rule(data=st.data(), seed=SEED, run_us=st.sampled_from([3, 300, 20_000]), size=st.sampled_from(SIZES[-4:]),
          retries=st.integers(0, 2), raises=st.booleans(), depth=st.integers(0, 1), gives_refs=st.booleans())  # fmt: skip
    def submit(self, data: Any, seed: int, run_us: int, size: int, retries: int, raises: bool, depth: int,
               gives_refs: bool) -> None:  # fmt: skip
        plan = TaskPlan(
            seed, f"f{run_us}", run_us, size=size, retries=retries, raises=raises and seed % 4 == 0, depth=depth,
            gives_refs=gives_refs,
        )  # fmt: skip
        self.refs += self.user.submit(plan, self.pick(data, 2), self.pick(data, 1))

    @rule(seed=SEED, count=st.integers(2, 20))
    def map(self, seed: int, count: int) -> None:
        for index in range(count):
            self.refs += self.user.submit(TaskPlan(seed + index, "map", 5, retries=1), [], [])

    @rule(data=st.data(), digest=SEED, size=st.sampled_from([0, 200_000]))
    def put(self, data: Any, digest: int, size: int) -> None:
        boxed = self.pick(data, 2)

        def program(user: User) -> Program:
            held = self.hold(user, boxed)
            handle = yield from user.put(digest, size, held)
            if handle is not None:
                self.refs.append(handle)
            for each in held:
                user.drop(each)

        self.run(program)

    @rule(data=st.data(), timeout_ms=st.sampled_from([None, None, 0, 20]))
    def get(self, data: Any, timeout_ms: int | None) -> None:
        handles = self.pick(data, 3)

        def program(user: User) -> Program:
            held = self.hold(user, handles)
            if held:
                got = yield from user.get(held, timeout_ms)
                self.refs += [inside for each in got if each is not None for inside in each.inside]
            for each in held:
                user.drop(each)

        if handles:
            self.run(program)

    @precondition(lambda self: self.refs)
    @rule(data=st.data())
    def drop(self, data: Any) -> None:
        handle = data.draw(st.sampled_from(self.refs))
        self.refs.remove(handle)
        self.user.drop(handle)

    @precondition(lambda self: self.refs)
    @rule(data=st.data(), force=st.booleans())
    def cancel(self, data: Any, force: bool) -> None:
        handle = data.draw(st.sampled_from(self.refs))
        if handle.key[:8] == self.world.driver.client_id:
            self.user.cancel(handle, force and handle.key[8] < 0x80)

    @rule(seed=SEED, items=st.integers(0, 5), window=st.sampled_from([-1, 1]))
    def stream(self, seed: int, items: int, window: int) -> None:
        def program(user: User) -> Program:
            plan = TaskPlan(seed, "stream", 200, STREAMING, 200_000, items=items, window=window, retries=2)
            (first,) = user.submit(plan, [], [])
            stream = user.open_stream(first)
            for index in range(1, items + 2):
                goes_on, item = yield from user.next_item(first, index)
                if not goes_on:
                    break
                yield from user.get([item])
                user.close_views()
            for handle in (stream, first):
                user.drop(handle)

        self.run(program)

    @precondition(lambda self: len(self.actors) < 3)
    @rule(data=st.data(), seed=SEED, restarts=st.sampled_from([0, 2]), retries=st.sampled_from([0, 2]))
    def create_actor(self, data: Any, seed: int, restarts: int, retries: int) -> None:
        args = self.pick(data, 1)
        actor = self.user.create_actor(TaskPlan(seed, "Actor", 100), args, restarts, {}, 1)
        self.actors.append((actor, retries))

    @precondition(lambda self: self.actors)
    @rule(data=st.data(), seed=SEED, count=st.integers(1, 5), keeps=st.booleans())
    def call(self, data: Any, seed: int, count: int, keeps: bool) -> None:
        actor, retries = data.draw(st.sampled_from(self.actors))
        for index in range(count):
            plan = TaskPlan(seed + index, "method", 50, keeps_refs=keeps)
            self.refs += self.user.call(actor, plan, self.pick(data, 1), self.pick(data, 1), retries)

    @precondition(lambda self: self.actors)
    @rule(data=st.data(), no_restart=st.booleans())
    def kill(self, data: Any, no_restart: bool) -> None:
        actor, _ = data.draw(st.sampled_from(self.actors))

        def program(user: User) -> Program:
            yield from user.kill(actor, no_restart)

        self.run(program)

    @precondition(lambda self: self.actors)
    @rule(data=st.data())
    def forget_actor(self, data: Any) -> None:
        actor = data.draw(st.sampled_from(self.actors))
        self.actors.remove(actor)
        self.user.drop(actor[0])

    # What goes wrong

    @rule(which=st.integers(0, 9), fuse=st.integers(0, 6))
    def crash(self, which: int, fuse: int) -> None:
        workers = [process for process in self.world.processes.values() if process.is_alive and process.executor]
        if workers:
            self.world.faults.is_disturbed = True
            victim = workers[which % len(workers)]
            victim.fuse = fuse
            if not fuse:
                victim.die("a rule")

    @precondition(lambda self: self.world.gcs.is_up)
    @rule(away_ms=st.sampled_from([20, 500]))
    def restart_gcs(self, away_ms: int) -> None:
        self.world.faults.is_disturbed = True
        self.world.gcs.crash()
        self.world.timeline.after(away_ms * 1000, self.world.gcs.start)

    @rule(span_us=st.sampled_from([50, 1_000, 30_000, 400_000, 2_500_000]))
    def time_passes(self, span_us: int) -> None:
        self.world.advance(span_us)

    @invariant()
    def promises_are_kept(self) -> None:
        if hasattr(self, "world"):
            self.world.check.memory.check_reachable()
            self.world.check.liveness.check()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        while self.running:
            # The liveness checker ends this when somebody waits for ever.
            self.world.advance(1_000_000)
            self.world.check.liveness.check()
        self.user.close()
        self.world.finish()


TestSimulatedCluster = SimulatedCluster.TestCase
TestSimulatedCluster.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
