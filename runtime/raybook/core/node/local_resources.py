"""Local resources: what this node has, what is taken, and which single GPUs a holder was given.

Knows amounts and holders (opaque keys), nothing of tasks, queues or processes. All amounts are fixed point
(``base/resources``), memory is whole bytes. GPUs have identities: a request of less than one is packed on the fullest
device that still has room, so that whole devices stay whole; a request of one or more takes whole devices only.

Invariants: the sum of what is held is total minus available; nothing is below zero except CPU, and that only by what
``unblock_cpu`` took back (a task that has been waiting continues at once, and the node runs over for a moment).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from raybook.base.resources import CPU, GPU, INSTANCE_RESOURCES, UNIT, Shape
from raybook.base.specs import Assignment


@dataclass(slots=True)
class _Holding:
    assignment: Assignment
    blocked: bool = False
    retaken: int = 0
    """CPU that ``unblock_cpu`` took back without asking whether it was free."""


class LocalResources:
    """Amounts of one node. ``gpu_ids``: identities of the devices as the driver knows them, 0..n-1 when not given."""

    def __init__(self, total: Mapping[str, int], gpu_ids: Sequence[int] | None = None) -> None:
        self.total: Shape = {name: amount for name, amount in total.items() if amount > 0}
        self.available: Shape = dict(self.total)
        gpus = self.total.get(GPU, 0)
        count = -(-gpus // UNIT)
        ids = list(gpu_ids) if gpu_ids is not None else list(range(count))
        if len(ids) < count:
            raise ValueError(f"{count} GPUs were announced but only {len(ids)} have an identity: {ids}.")
        self._gpu_total = {ids[index]: min(UNIT, gpus - index * UNIT) for index in range(count)}
        self._gpu_free = dict(self._gpu_total)
        self._holdings: dict[Hashable, _Holding] = {}

    def missing_for_ever(self, shape: Mapping[str, int]) -> Shape:
        """What the request asks beyond everything this node has; empty when it can be served some day. A GPU request
        above one that is no whole number can never be served, and is named as missing."""
        absent = {name: amount - self.total.get(name, 0) for name, amount in shape.items()}
        absent = {name: amount for name, amount in absent.items() if amount > 0}
        gpus = shape.get(GPU, 0)
        if gpus > UNIT and gpus % UNIT and GPU not in absent:
            absent[GPU] = gpus % UNIT
        return absent

    def allocate(self, key: Hashable, shape: Mapping[str, int]) -> Assignment | None:
        """Give the whole shape to ``key``, or nothing and None. Cost: one look-up per resource, plus a scan of the
        devices for GPU requests (at most 16 on any machine known)."""
        assert key not in self._holdings, f"{key!r} holds resources already."
        available = self.available
        for name, amount in shape.items():
            if available.get(name, 0) < amount:
                return None
        instances: dict[str, list[list[int]]] = {}
        gpus = shape.get(GPU, 0)
        if gpus:
            chosen = self._choose_gpus(gpus)
            if chosen is None:
                return None
            for index, amount in chosen:
                self._gpu_free[index] -= amount
            instances[GPU] = chosen
        for name, amount in shape.items():
            available[name] -= amount
        assignment = Assignment(dict(shape), instances)
        self._holdings[key] = _Holding(assignment)
        return assignment

    def release(self, key: Hashable) -> None:
        """Take everything back from ``key``; does nothing when it holds nothing."""
        holding = self._holdings.pop(key, None)
        if holding is None:
            return
        for name, amount in holding.assignment.resources.items():
            if name != CPU or not holding.blocked:
                self.available[name] += amount
        for index, amount in holding.assignment.instances.get(GPU, ()):
            self._gpu_free[index] += amount

    def shrink(self, key: Hashable, shape: Mapping[str, int]) -> None:
        """Keep only ``shape`` of what ``key`` holds: an actor needs more to be placed than while it lives. Instances
        are kept as they are, so ``shape`` must ask as much of GPU as was allocated."""
        holding = self._holdings[key]
        held = holding.assignment.resources
        for name in list(held):
            kept = shape.get(name, 0)
            assert kept <= held[name], f"{key!r} cannot grow its {name} by shrinking."
            assert name not in INSTANCE_RESOURCES or kept == held[name], f"{name} instances are kept whole."
            if name != CPU or not holding.blocked:
                self.available[name] += held[name] - kept
            if name == CPU:
                holding.retaken = min(holding.retaken, kept)
            if kept:
                held[name] = kept
            else:
                del held[name]

    def block_cpu(self, key: Hashable) -> bool:
        """``key`` waits: its CPU may serve others. False when it holds none, or waits already."""
        holding = self._holdings.get(key)
        if holding is None or holding.blocked or not holding.assignment.resources.get(CPU):
            return False
        holding.blocked = True
        holding.retaken = 0
        self.available[CPU] += holding.assignment.resources[CPU]
        return True

    def unblock_cpu(self, key: Hashable) -> bool:
        """``key`` continues: its CPU is taken at once, if need be below zero. False when it did not wait."""
        holding = self._holdings.get(key)
        if holding is None or not holding.blocked:
            return False
        amount = holding.assignment.resources.get(CPU, 0)
        holding.blocked = False
        holding.retaken = amount
        if amount:
            self.available[CPU] -= amount
        return True

    def is_free(self) -> bool:
        """Whether nobody holds anything."""
        return not self._holdings

    def held(self, key: Hashable) -> Assignment | None:
        """What ``key`` holds now."""
        holding = self._holdings.get(key)
        return holding.assignment if holding else None

    def is_blocked(self, key: Hashable) -> bool:
        holding = self._holdings.get(key)
        return holding is not None and holding.blocked

    def _choose_gpus(self, amount: int) -> list[list[int]] | None:
        if amount < UNIT:
            room = [(free, index) for index, free in self._gpu_free.items() if free >= amount]
            return [[min(room)[1], amount]] if room else None
        if amount % UNIT:
            return None
        whole = [index for index, free in self._gpu_free.items() if free == UNIT]
        count = amount // UNIT
        return [[index, UNIT] for index in whole[:count]] if len(whole) >= count else None

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken invariant. Cost: linear in the holders."""
        taken: Shape = dict.fromkeys(self.total, 0)
        gpu_taken = dict.fromkeys(self._gpu_total, 0)
        retaken = 0
        for key, holding in self._holdings.items():
            for name, amount in holding.assignment.resources.items():
                assert amount > 0, f"{key!r} holds {amount} of {name}."
                if name != CPU or not holding.blocked:
                    taken[name] += amount
            if not holding.blocked:
                retaken += holding.retaken
            for index, amount in holding.assignment.instances.get(GPU, ()):
                gpu_taken[index] += amount
        for name, total in self.total.items():
            assert self.available[name] == total - taken[name], f"{name}: available does not match what is held."
            floor = -retaken if name == CPU else 0
            assert self.available[name] >= floor, f"{name} is overcommitted by {-self.available[name]}."
        for index, total in self._gpu_total.items():
            assert self._gpu_free[index] == total - gpu_taken[index] >= 0, f"GPU {index} is overcommitted."
        assert sum(self._gpu_free.values()) == self.available.get(GPU, 0), "GPU devices and their sum differ."
