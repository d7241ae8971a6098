"""Resource pools: the node's own amounts, and the bundles of placement groups that were reserved out of them.

A bundle is a small ``LocalResources`` of its own, cut out of the node's: its GPUs stay with it, and a task that waits lends
its CPU to others of the same bundle only. Decides what is reserved and what may draw from it; knows nothing of queues,
workers or of why a group exists.

Invariants: what is reserved is held in the node's pool by the bundle; a bundle is used only between its commit and its
return; one that is returned while something runs in it is gone for everybody else at once, and its amounts come back when
the last holder has let go; an attempt that was given back is never reserved again, however late it is asked for.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from raybook.base.resources import GPU, Shape, describe
from raybook.base.specs import Assignment
from raybook.base.strategies import ANY_BUNDLE, GroupTarget
from raybook.core.node.local_resources import LocalResources

REMEMBERED_MAX = 4_096
"""Removed groups, and given-back attempts, that are remembered: late messages about older ones do not exist."""

BundleKey = tuple[bytes, int]


@dataclass(slots=True, eq=False)
class _Bundle:
    key: BundleKey
    attempt: int
    pool: LocalResources
    shape: Shape
    committed: bool
    holders: int = 0
    returned: bool = False


class ResourcePools:
    """``root``: the node's own pool. ``removed``: groups that are gone for good, with the reason."""

    def __init__(self, root: LocalResources) -> None:
        self.root = root
        self.removed: dict[bytes, str] = {}
        self._bundles: dict[bytes, dict[int, _Bundle]] = {}
        self._holders: dict[Hashable, _Bundle] = {}
        self._returned: dict[bytes, int] = {}
        """Group → the latest attempt that was given back."""

    # --- bundles ------------------------------------------------------------------------------------------------------

    def prepare(self, group_id: bytes, attempt: int, bundles: Iterable[tuple[int, Shape]], commit: bool) -> str:
        """Reserve all of these bundles, or none; "" or why not. The same attempt asked for again is there already."""
        if group_id in self.removed:
            return f"the placement group was removed: {self.removed[group_id]}"
        if attempt <= self._returned.get(group_id, 0):
            return "this attempt was called off."
        reserved: list[_Bundle] = []
        present = self._bundles.get(group_id, {})
        for index, shape in bundles:
            known = present.get(index)
            if known is not None and known.attempt == attempt:
                known.committed = known.committed or commit
                continue
            assignment = self.root.allocate((group_id, index, attempt), shape) if known is None else None
            if assignment is None:
                for bundle in reserved:
                    self._free(bundle)
                free = {name: self.root.available.get(name, 0) for name in shape}
                return f"bundle {index} asks for {describe(shape)}; free here: {describe(free)}."
            devices = [device for device, _ in assignment.instances.get(GPU, ())]
            pool = LocalResources(shape, devices)
            reserved.append(_Bundle((group_id, index), attempt, pool, dict(shape), commit))
        if reserved:
            present = self._bundles.setdefault(group_id, {})
            for bundle in reserved:
                present[bundle.key[1]] = bundle
        return ""

    def commit(self, group_id: bytes, attempt: int) -> None:
        """What this attempt reserved may be used from now on."""
        for bundle in self._bundles.get(group_id, {}).values():
            if bundle.attempt == attempt:
                bundle.committed = True

    def give_back(self, group_id: bytes, attempt: int, indices: Iterable[int]) -> list[Hashable]:
        """These bundles are returned, as far as this attempt or an earlier one reserved them. Who still holds something of
        them: their amounts come back when the last one has let go."""
        self._returned.pop(group_id, None)
        self._returned[group_id] = attempt
        _forget_oldest(self._returned)
        present = self._bundles.get(group_id, {})
        returned: dict[int, _Bundle] = {}
        for index in indices:
            bundle = present.get(index)
            if bundle is None or bundle.attempt > attempt:
                continue
            del present[index]
            bundle.returned = True
            if bundle.holders:
                returned[id(bundle)] = bundle
            else:
                self._free(bundle)
        if not present:
            self._bundles.pop(group_id, None)
        return [key for key, bundle in self._holders.items() if id(bundle) in returned] if returned else []

    def remove(self, group_id: bytes, attempt: int, reason: str) -> list[Hashable]:
        """The group is gone for good; who still holds something of it."""
        self.removed[group_id] = reason
        _forget_oldest(self.removed)
        return self.give_back(group_id, attempt, list(self._bundles.get(group_id, ())))

    def _free(self, bundle: _Bundle) -> None:
        self.root.release((*bundle.key, bundle.attempt))

    def has_bundle(self, target: GroupTarget) -> bool:
        """Whether something can draw from what this names now or when others let go of it."""
        return bool(self._candidates(target))

    def _candidates(self, target: GroupTarget) -> Sequence[_Bundle]:
        present = self._bundles.get(target.group_id)
        if present is None:
            return ()
        if target.index != ANY_BUNDLE:
            bundle = present.get(target.index)
            return (bundle,) if bundle is not None and bundle.committed else ()
        return [bundle for bundle in present.values() if bundle.committed]

    # --- holders ------------------------------------------------------------------------------------------------------

    def allocate(self, key: Hashable, shape: Mapping[str, int], target: GroupTarget | None = None) -> Assignment | None:
        """Give the whole shape to ``key``, from the node's own pool or from one bundle; or nothing and None."""
        if target is None:
            return self.root.allocate(key, shape)
        for bundle in self._candidates(target):
            assignment = bundle.pool.allocate(key, shape)
            if assignment is not None:
                bundle.holders += 1
                self._holders[key] = bundle
                return assignment
        return None

    def release(self, key: Hashable) -> None:
        """Take everything back from ``key``; does nothing when it holds nothing."""
        bundle = self._holders.pop(key, None)
        if bundle is None:
            self.root.release(key)
            return
        bundle.pool.release(key)
        bundle.holders -= 1
        if bundle.returned and not bundle.holders:
            self._free(bundle)

    def pool_of(self, key: Hashable) -> LocalResources:
        """Where ``key`` draws from."""
        bundle = self._holders.get(key)
        return self.root if bundle is None else bundle.pool

    def held(self, key: Hashable) -> Assignment | None:
        """What ``key`` holds now."""
        return self.pool_of(key).held(key)

    def is_held(self, group_id: bytes) -> bool:
        """Whether something still draws from any bundle of this group. Cost: linear in what draws from bundles."""
        return any(bundle.key[0] == group_id for bundle in self._holders.values())

    # --- questions ----------------------------------------------------------------------------------------------------

    def groups(self) -> dict[bytes, list[int]]:
        """Placement group → which of its bundles are reserved here."""
        return {group_id: list(bundles) for group_id, bundles in self._bundles.items()}

    def missing_for_ever(self, shape: Mapping[str, int], target: GroupTarget | None = None) -> Shape:
        """What a request asks beyond all it could ever draw from; empty when it can be served some day. A bundle that is
        not here may come, so nothing is missing of it."""
        if target is None:
            return self.root.missing_for_ever(shape)
        candidates = self._candidates(target)
        missing = [bundle.pool.missing_for_ever(shape) for bundle in candidates]
        return min(missing, key=_size) if missing and all(missing) else {}

    def compared(self, shape: Mapping[str, int], target: GroupTarget | None) -> tuple[Shape, Shape]:
        """(what is asked, what of it is free), under names that tell pools apart: ``CPU`` of a bundle is another resource
        than the node's. For ``lease_recall``, which looks for who could make room."""
        if target is None:
            return dict(shape), {name: self.root.available.get(name, 0) for name in shape}
        where = _where(target.group_id, target.index)
        free: Shape = {}
        for bundle in self._candidates(target):
            for name in shape:
                free[name + where] = free.get(name + where, 0) + bundle.pool.available.get(name, 0)
        return {name + where: amount for name, amount in shape.items()}, {name + where: 0 for name in shape} | free

    def compared_held(self, key: Hashable) -> Shape:
        """What ``key`` holds, under the names of ``compared``: for its bundle, and for any bundle of its group."""
        bundle = self._holders.get(key)
        held = self.held(key)
        if held is None:
            return {}
        if bundle is None:
            return held.resources
        group_id, index = bundle.key
        amounts: Shape = {}
        for where in (_where(group_id, index), _where(group_id, ANY_BUNDLE)):
            amounts |= {name + where: amount for name, amount in held.resources.items()}
        return amounts

    def total_for(self, target: GroupTarget | None) -> Shape:
        """Everything that a request could draw from: the node, or the largest amounts of its bundles."""
        if target is None:
            return self.root.total
        most: Shape = {}
        for bundle in self._candidates(target):
            for name, amount in bundle.shape.items():
                most[name] = max(most.get(name, 0), amount)
        return most

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        self.root.check_invariants()
        kept = {id(bundle): bundle for bundles in self._bundles.values() for bundle in bundles.values()}
        holders: dict[int, int] = {}
        for bundle in self._holders.values():
            holders[id(bundle)] = holders.get(id(bundle), 0) + 1
            kept[id(bundle)] = bundle
        for bundle in kept.values():
            bundle.pool.check_invariants()
            assert bundle.holders == holders.get(id(bundle), 0), f"The holders of bundle {bundle.key} are miscounted."
            reserved = self.root.held((*bundle.key, bundle.attempt))
            assert reserved is not None and reserved.resources == bundle.shape, f"Bundle {bundle.key} is not reserved."
            assert bundle.committed or not bundle.holders, f"Bundle {bundle.key} is used before its commit."
        for group_id, bundles in self._bundles.items():
            assert bundles and group_id not in self.removed, f"Group {group_id.hex()} is removed or empty, but kept."


def _where(group_id: bytes, index: int) -> str:
    return f"@{group_id.hex()}:{index}"


def _forget_oldest(remembered: dict) -> None:
    if len(remembered) > REMEMBERED_MAX:
        del remembered[next(iter(remembered))]


def _size(shape: Shape) -> tuple[int, int]:
    return len(shape), sum(shape.values())
