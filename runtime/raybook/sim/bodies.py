"""Bodies: what simulated user code does: the code of a task or method, and the program of a driver.

Drawn from seeds of their own, so that a fault schedule does not change what is asked of the cluster. Code may see any
error that a fault can cause, and goes on; whether an error was right, the checkers say.
"""

from __future__ import annotations

import random
from typing import Any

from raybook.base.ids import ACTOR_ID_BYTES
from raybook.base.specs import STREAMING
from raybook.sim.fiber import Program
from raybook.sim.handles import Handle
from raybook.sim.plans import SIZES, TaskPlan, draw_call, draw_task
from raybook.sim.user import User, UserError

ASK_PAUSE_US = 600_000
HANDLES_MAX = 24
"""A driver lets go of some when it holds more."""


def run_body(user: User, plan: TaskPlan, attempt: int, given: list[Handle], state: User) -> Program:
    """The code of a task. Returns the references that its value is to contain."""
    rng = random.Random(plan.seed)
    yield from user.work(1 + int(plan.run_us * (0.5 + rng.random())))
    if attempt < plan.raises_before and plan.retry_exceptions:
        raise UserError("planned for an early attempt")
    if plan.raises and plan.num_returns != STREAMING:
        raise UserError("planned")
    inside: list[Handle] = []
    if plan.depth:
        inside = yield from _nested(user, rng, plan.depth, [h for h in given if len(h.key) == 20])
    for _ in range(plan.asks):
        yield from _ask(user, rng, [h for h in given if len(h.key) == ACTOR_ID_BYTES])
    if plan.keeps_refs:
        for handle in given[:2]:
            user.give(handle, state)
        if len(state.handles) > 6:
            state.drop(next(iter(state.handles)))
        given = given[2:]
    if not plan.gives_refs:
        return []
    own = yield from user.put(rng.getrandbits(30), rng.choice(SIZES), given[:1])
    return [*inside[:1], *given[:1], *([own] if own is not None else [])]


def _nested(user: User, rng: random.Random, depth: int, given: list[Handle]) -> Program:
    """Tasks of tasks: this worker owns what it submits."""
    refs: list[Handle] = []
    for _ in range(rng.randrange(1, 4)):
        child = draw_task(rng, depth - 1, is_nested=True)
        args = rng.sample(refs, min(len(refs), rng.randrange(2)))
        boxed = given[:1] if rng.random() < 0.3 else []
        refs += user.submit(child, args, boxed)
    if refs and rng.random() < 0.2:
        user.cancel(rng.choice(refs), False)
    if rng.random() < 0.7:
        yield from user.get(refs + given[:1])
        user.close_views()
    elif refs:
        yield from user.wait(refs, 1, None)
    return refs


def _ask(user: User, rng: random.Random, actors: list[Handle]) -> Program:
    """Call actors whose handles were handed on."""
    for actor in actors:
        answers = user.call(actor, TaskPlan(rng.getrandbits(48), "asked", 300), [], [], 1)
        yield from user.get(answers)
        for answer in answers:
            user.drop(answer)
    yield from user.work(ASK_PAUSE_US)


class Driver:
    """The program of a driver: ``steps`` things that people do in cells, then it lets go of everything. may_hold_cpu: one
    actor at a time may keep a CPU, and there are enough for that."""

    def __init__(self, user: User, seed: int, steps: int, *, may_exit: bool = False, may_hold_cpu: bool = True) -> None:
        self.user = user
        self.actors: list[tuple[Handle, int]] = []
        """(handle, max_task_retries)."""
        self._rng = random.Random(seed)
        self._steps = steps
        self._may_exit = may_exit
        self._may_hold_cpu = may_hold_cpu
        self._refs: list[Handle] = []
        self._verbs: list[tuple[int, Any]] = [
            (30, self._submit),
            (6, self._burst),
            (4, self._chain),
            (18, self._get),
            (6, self._wait),
            (8, self._put),
            (8, self._drop),
            (4, self._create_actor),
            (20, self._call),
            (2, self._kill),
            (3, self._forget_actor),
            (4, self._cancel),
            (5, self._stream),
            (6, self._sleep),
        ]

    def program(self) -> Program:
        """What the driver does."""
        verbs = [verb for _, verb in self._verbs]
        weights = [weight for weight, _ in self._verbs]
        for _ in range(self._steps):
            yield from self._rng.choices(verbs, weights)[0]()
            while len(self._refs) > HANDLES_MAX:
                self._let_go(self._rng.choice(self._refs))
        for handle in self._refs:
            yield from self.user.get([handle])
        self.finish()
        self.user.close()

    def finish(self) -> None:
        """What must be given back that has no handle."""

    def _keep(self, handles: list[Handle]) -> None:
        self._refs += handles

    def _let_go(self, handle: Handle) -> None:
        self._refs.remove(handle)
        self.user.drop(handle)

    def _some(self, most: int) -> list[Handle]:
        refs = self._refs
        return self._rng.sample(refs, min(len(refs), self._rng.randrange(most + 1)))

    def _submit(self) -> Program:
        plan = draw_task(self._rng, self._rng.choice((0, 0, 1, 2)))
        if plan.num_returns == STREAMING:
            yield from self._run_stream(plan)
            return
        boxed = self._some(2) if self._rng.random() < 0.25 else []
        if self.actors and self._rng.random() < 0.1:
            boxed.append(self._rng.choice(self.actors)[0])
        self._keep(self.user.submit(plan, self._some(2), boxed))

    def _burst(self) -> Program:
        """A map: many of one function."""
        for _ in range(self._rng.randrange(5, 25)):
            plan = draw_task(random.Random(self._rng.randrange(3)), 0)
            if plan.num_returns == STREAMING:
                continue
            plan = TaskPlan(self._rng.getrandbits(48), plan.name, plan.run_us, retries=plan.retries)
            handles = self.user.submit(plan, [], [])
            if self._rng.random() < 0.7:
                self._keep(handles)
            else:
                for handle in handles:
                    self.user.drop(handle)
        yield from self.user.work(1)

    def _chain(self) -> Program:
        """Each takes the one before."""
        last: list[Handle] = []
        run_us = self._rng.choice((3, 40, 2_000))
        for _ in range(self._rng.randrange(3, 10)):
            plan = TaskPlan(
                self._rng.getrandbits(48), "link", run_us, size=self._rng.choice((0, 0, 0, 300_000)), retries=3
            )
            link = self.user.submit(plan, last, [])
            for handle in last:
                self.user.drop(handle)
            last = link
        self._keep(last)
        yield from self.user.work(1)

    def _get(self) -> Program:
        handles = self._some(4)
        if not handles:
            return
        got = yield from self.user.get(handles, self._rng.choice((None, None, None, 0, 5)))
        for each in got:
            if each is not None:
                if self._rng.random() < 0.5:
                    self._keep([handle for handle in each.inside if len(handle.key) == 20])
                else:
                    for handle in each.inside:
                        self.user.drop(handle)
        if self._rng.random() < 0.6:
            self.user.close_views()

    def _wait(self) -> Program:
        handles = self._some(5)
        if handles:
            count = self._rng.randrange(1, len(handles) + 1)
            yield from self.user.wait(handles, count, self._rng.choice((None, 10, 100)))

    def _put(self) -> Program:
        handle = yield from self.user.put(
            self._rng.getrandbits(30), self._rng.choice(SIZES), self._some(2) if self._rng.random() < 0.4 else []
        )
        if handle is not None:
            self._keep([handle])

    def _drop(self) -> Program:
        for handle in self._some(3):
            self._let_go(handle)
        yield from self.user.work(1)

    def _create_actor(self) -> Program:
        if len(self.actors) < 4:
            seed = self._rng.getrandbits(48)
            plan = TaskPlan(seed, f"Actor{seed % 100}", 300, raises=self._rng.random() < 0.05)
            actor = self.user.create_actor(
                plan,
                self._some(1),
                max_restarts=self._rng.choice((0, 1, 3, -1)),
                resources=self._rng.choice(({}, {}, {"CPU": 10_000})) if self._may_hold_cpu else {},
                concurrency=self._rng.choice((1, 1, 4)),
            )
            self._may_hold_cpu = False
            self.actors.append((actor, self._rng.choice((0, 0, 2, -1))))
        yield from self.user.work(1)

    def _call(self) -> Program:
        if not self.actors:
            return
        actor, retries = self._rng.choice(self.actors)
        for _ in range(self._rng.choice((1, 1, 4, 12))):
            plan = draw_call(self._rng, may_exit=self._may_exit and retries >= 0)
            boxed = self._some(1) if self._rng.random() < 0.3 or plan.keeps_refs else []
            self._keep(self.user.call(actor, plan, self._some(1), boxed, retries))
        yield from self.user.work(1)

    def _kill(self) -> Program:
        if self.actors:
            actor, _ = self._rng.choice(self.actors)
            yield from self.user.kill(actor, self._rng.random() < 0.5)

    def _forget_actor(self) -> Program:
        """The last handle goes: it ends after its calls."""
        if self.actors:
            actor = self.actors.pop(self._rng.randrange(len(self.actors)))[0]
            self.user.drop(actor)
        yield from self.user.work(1)

    def _cancel(self) -> Program:
        if self._refs:
            handle = self._rng.choice(self._refs)
            is_call = handle.key[8] >= 0x80
            if handle.key[:8] == self.user.process.client_id:
                self.user.cancel(handle, not is_call and self._rng.random() < 0.2)
        yield from self.user.work(1)

    def _stream(self) -> Program:
        seed = self._rng.getrandbits(48)
        window, retries = self._rng.choice((-1, 1, 3)), self._rng.choice((0, 3))
        plan = TaskPlan(
            seed, "stream", 300, STREAMING, self._rng.choice(SIZES), 0, retries, items=self._rng.randrange(12),
            window=window, raises=self._rng.random() < 0.1, gives_refs=self._rng.random() < 0.2,
        )  # fmt: skip
        yield from self._run_stream(plan)

    def _run_stream(self, plan: TaskPlan) -> Program:
        (first,) = self.user.submit(plan, self._some(1), [])
        stream = self.user.open_stream(first)
        last = self._rng.choice((plan.items + 2, plan.items + 2, 2))
        for index in range(1, last + 1):
            goes_on, item = yield from self.user.next_item(first, index)
            if not goes_on:
                break
            if item is not None:
                (got,) = yield from self.user.get([item])
                self.user.close_views()
                for handle in got.inside if got is not None else ():
                    self.user.drop(handle)
                self.user.drop(item)
        self.user.drop(stream)
        self.user.drop(first)

    def _sleep(self) -> Program:
        yield from self.user.work(self._rng.choice((100, 5_000, 60_000, 400_000, 1_500_000)))
