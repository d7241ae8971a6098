"""Wide bodies: the program of a driver that has several nodes: what people do there beside what they do on one.

Spread maps, tasks for a named node, chains of large objects that only lineage brings back, placement groups with tasks and
actors in them. Decides nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raybook.base.facts import GROUP_CREATED, GROUP_REMOVED
from raybook.base.specs import Bundle, PlacementGroupSpec
from raybook.base.strategies import ANY_BUNDLE, SPREAD, GroupTarget, NodeTarget
from raybook.core.scheduling.bundles import STRATEGIES
from raybook.protocol.messages import gcs as gm
from raybook.sim.bodies import Driver
from raybook.sim.fiber import Program
from raybook.sim.plans import CPU, TaskPlan, draw_call
from raybook.sim.user import User

ASK_AGAIN_US = 30_000
_decode_reply = msgspec.msgpack.Decoder(gm.PlacementGroupReply).decode


class WideDriver(Driver):
    """See the module."""

    def __init__(self, user: User, seed: int, steps: int, **options: Any) -> None:
        super().__init__(user, seed, steps, **options)
        self._groups: list[bytes] = []
        self._verbs += [
            (14, self._spread),
            (8, self._on_node),
            (16, self._large_chain),
            (10, self._group),
            (5, self._hand_on),
        ]

    def _spread(self) -> Program:
        """A map over all nodes."""
        size = self._rng.choice((0, 200_000))
        for _ in range(self._rng.randrange(2, 9)):
            plan = TaskPlan(self._rng.getrandbits(48), "spread", 300, size=size, retries=3)
            self._keep(self.user.submit(plan, self._some(1), [], SPREAD))
        yield from self.user.work(1)

    def _on_node(self) -> Program:
        """Of a node that may be dead by the time it is asked."""
        gcs, abroad = self.user.world.gcs, self.user.process.node.abroad
        assert abroad is not None
        nodes = gcs.nodes.alive_ids() if gcs.is_up else [node.node_id for node in abroad.view]
        if not nodes:
            return
        target = NodeTarget(self._rng.choice(nodes), soft=self._rng.random() < 0.5)
        plan = TaskPlan(self._rng.getrandbits(48), "there", 2_000, size=self._rng.choice((0, 300_000)), retries=3)
        self._keep(self.user.submit(plan, self._some(1), [], target.encode()))
        yield from self.user.work(1)

    def _large_chain(self) -> Program:
        """Begun anywhere; each link is large and takes the one before."""
        last: list[Any] = []
        for step in range(self._rng.randrange(2, 6)):
            plan = TaskPlan(self._rng.getrandbits(48), "grow", 2_000, size=1_600_000, retries=4)
            link = self.user.submit(plan, last, [], "" if step else SPREAD)
            for handle in last:
                self.user.drop(handle)
            last = link
        self._keep(last)
        yield from self.user.work(1)

    def _hand_on(self) -> Program:
        """A task that calls our actor for some seconds, from wherever it runs."""
        if self.actors:
            plan = TaskPlan(self._rng.getrandbits(48), "ask", 300, retries=1, asks=self._rng.choice((1, 3, 8)))
            self._keep(self.user.submit(plan, [], [self._rng.choice(self.actors)[0]], SPREAD))
        yield from self.user.work(1)

    def _group(self) -> Program:
        """A placement group, work in it, and its end; now and then the end comes first."""
        rng = self._rng
        strategy = rng.choice(STRATEGIES)
        count = rng.randrange(1, 4)
        spec = self._create(strategy, [Bundle({"CPU": CPU}) for _ in range(count)])
        state = yield from self._wait_for(spec.group_id, rng.choice((100, 3_000, 3_000)))
        handles: list[Any] = []
        actor = None
        if state == GROUP_CREATED or rng.random() < 0.3:
            for _ in range(rng.randrange(1, 6)):
                target = GroupTarget(spec.group_id, rng.choice((ANY_BUNDLE, rng.randrange(count))))
                plan = TaskPlan(rng.getrandbits(48), "inside", 2_000, size=rng.choice((0, 200_000)), retries=3)
                handles += self.user.submit(plan, [], [], target.encode())
            if state == GROUP_CREATED and rng.random() < 0.4:
                target = GroupTarget(spec.group_id, rng.randrange(count))
                plan = TaskPlan(rng.getrandbits(48), "Inside", 300)
                actor = self.user.create_actor(plan, [], rng.choice((0, 2)), {}, 1, target.encode())
                handles += self.user.call(actor, draw_call(rng, may_exit=False), [], [], 2)
        if handles and rng.random() < 0.8:
            yield from self.user.get(handles, None if state == GROUP_CREATED else 500)
            self.user.close_views()
        self._remove(spec.group_id)
        self._keep(handles)
        if actor is not None:
            self.user.drop(actor)

    def _create(self, strategy: str, bundles: list[Bundle]) -> PlacementGroupSpec:
        user = self.user
        group_id = user.world.next_client_id(b"g") + user.process.client_id
        spec = PlacementGroupSpec(group_id, user.process.job_id, bundles, strategy)
        user.ledger.groups[group_id] = spec
        self._groups.append(group_id)
        user.process.call_gcs("CreatePlacementGroup", gm.CreatePlacementGroup(spec))
        return spec

    def _wait_for(self, group_id: bytes, timeout_ms: int) -> Program:
        """Its state when it has one that lasts, or when the time is up."""
        user = self.user
        assert user.fiber is not None
        end_ms = user.world.timeline.now_ms + timeout_ms
        while True:
            user.process.call_gcs("WaitPlacementGroup", gm.WaitPlacementGroup(group_id), user.fiber.waker())
            reply = yield
            group = _decode_reply(reply.reply).group if not reply.error_code else None
            state = "" if group is None else group.state
            if state in (GROUP_CREATED, GROUP_REMOVED) or user.world.timeline.now_ms >= end_ms:
                user.ledger.count(f"group {state or 'unknown'}")
                return state
            yield from user.work(ASK_AGAIN_US)

    def _remove(self, group_id: bytes) -> None:
        self._groups.remove(group_id)
        self.user.world.has_removed_group = True
        self.user.process.call_gcs("RemovePlacementGroup", gm.RemovePlacementGroup(group_id))

    def finish(self) -> None:
        """All groups."""
        for group_id in list(self._groups):
            self._remove(group_id)
