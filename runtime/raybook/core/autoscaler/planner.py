"""Planner: which nodes to add for what waits, and why what is left over gets none. One plan from one moment's facts.

In this order: the least number of each type; ``request_resources``, on what nodes have in all; placement groups, whole or
not at all; tasks and actors. Each is laid on nodes that are there or on their way before any is added. Among types the one
that wastes least is taken: no GPU for what asks for none, then the fullest by what is asked for, then the smaller one,
then the one named first. Never looks at how busy anything is. Invariant: never more of a type, or in all, than its bounds
say. Source: Ray's resource demand scheduler.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from raybook.base.label_selector import matches
from raybook.base.resources import CPU, GPU, Shape
from raybook.base.specs import Bundle
from raybook.core.autoscaler import words
from raybook.core.autoscaler.settings import NodeType, Settings
from raybook.core.autoscaler.sketch import Place, Sketch, how_many, meets
from raybook.core.scheduling.bundles import STRICT_PACK, STRICT_SPREAD
from raybook.protocol.messages.scaling import GroupLoad, ShapeCount

Score = tuple[bool, int, float, float, int, int]


class Row(msgspec.Struct, frozen=True):
    """So many of one shape, on nodes that meet all selectors."""

    shape: Shape
    count: int
    selectors: tuple[Mapping[str, str], ...] = ()


class Launch(msgspec.Struct):
    """Add so many of a type. reason: a part of a sentence, "" where what is ``laid`` on them says it all. is_urgent: not
    held up by ``upscaling_speed``."""

    node_type: str
    count: int
    reason: str = ""
    laid: list[tuple[Shape, int]] = []
    is_urgent: bool = False

    @property
    def why(self) -> str:
        """A part of a sentence."""
        if self.reason:
            return self.reason
        return f"{words.shapes(self.laid)} {words.does(self.laid)} not fit on the nodes there are"


class Plan(msgspec.Struct):
    """launches: in the order in which they are wanted. unmet: why what else waits gets no node, a sentence each; the
    permanent ones in ``impossible``, too."""

    launches: list[Launch] = []
    unmet: list[str] = []
    impossible: list[str] = []


class Planner:
    """counts: how many of each type there are, in whatever state: what is being taken down still costs. active: the same
    without those. resting: types that may not be launched now, with the reason. sketch: the nodes there are and those on
    their way; changed. whole: the same nodes as if they were empty; what ``request_resources`` needs of it is used."""

    def __init__(
        self,
        settings: Settings,
        counts: Mapping[str, int],
        active: Mapping[str, int],
        resting: Mapping[str, str],
        sketch: Sketch,
        whole: Sketch,
    ) -> None:
        self._settings = settings
        self._counts = dict(counts)
        self._active = active
        self._resting = resting
        self._sketch = sketch
        self._whole = whole
        self.plan = Plan()

    # --- what is wanted, in order -------------------------------------------------------------------------------------

    def least(self) -> None:
        """Every type has its least number of nodes."""
        for node_type in self._settings.types:
            lacking = node_type.min_nodes - self._active.get(node_type.name, 0)
            count = min(lacking, self._room(node_type))
            if count > 0 and node_type.name not in self._resting:
                self._launch(node_type, count, f"its least number is {node_type.min_nodes}", is_urgent=True)

    def request(self, bundles: Sequence[Bundle]) -> None:
        """``request_resources``: so much there shall be in all, whoever uses it. What it adds is free for tasks."""
        lacking = [(row, self._whole.fill(row.shape, row.count, row.selectors)) for row in rows_of(bundles)]
        left = [msgspec.structs.replace(row, count=count) for row, count in lacking if count]
        if left:
            whats = words.shapes((row.shape, row.count) for row in left)
            left = self._grow(left, f"request_resources asks for {whats} more than there is", is_urgent=True)
            self._explain(left, "bundles of request_resources")

    def group(self, group: GroupLoad) -> None:
        """A placement group, or what is left of it."""
        mark, counts = self._sketch.mark(), dict(self._counts)
        planned = [msgspec.structs.replace(launch, laid=list(launch.laid)) for launch in self.plan.launches]
        place = {STRICT_PACK: self._together, STRICT_SPREAD: self._apart}.get(group.strategy, self._anywhere)
        left = place(group)
        if left:
            self._sketch.take_back(mark)
            self.plan.launches, self._counts = planned, counts
            self._explain(left, f"bundles of {words.group(group)}")

    def tasks(self, waiting: Iterable[ShapeCount]) -> None:
        """Tasks and actors."""
        rows = []
        for each in sorted(waiting, key=lambda each: _hardest_first(each.shape)):
            row = Row(each.shape, each.count, (self._selector(each),))
            count = self._sketch.fill(row.shape, row.count, row.selectors)
            if count:
                rows.append(msgspec.structs.replace(row, count=count))
        if rows:
            left = self._grow(rows, "")
            self._explain(left, "tasks or actors")

    # --- placement groups ---------------------------------------------------------------------------------------------

    def _anywhere(self, group: GroupLoad) -> list[Row]:
        """PACK and SPREAD are wishes: what matters is that everything finds room."""
        left = []
        for row in rows_of(group.bundles):
            count = self._sketch.fill(row.shape, row.count, row.selectors)
            if count:
                left.append(msgspec.structs.replace(row, count=count))
        return self._grow(left, f"{words.group(group)} has no room") if left else []

    def _together(self, group: GroupLoad) -> list[Row]:
        """STRICT_PACK: all on one node, that of the bundles that have a place."""
        whole: Shape = {}
        for bundle in group.bundles:
            for name, amount in bundle.shape.items():
                whole[name] = whole.get(name, 0) + amount
        row = Row(whole, 1, tuple(bundle.selector for bundle in group.bundles if bundle.selector))
        held = list(dict.fromkeys(group.taken))
        candidates = self._sketch.with_room(whole, row.selectors)
        if held:
            candidates = [place for place in candidates if [place.node_id] == held]
        if candidates:
            self._sketch.lay(candidates[0], whole)
            return []
        return [row] if held else self._grow([row], f"{words.group(group)} has no room on one node")

    def _apart(self, group: GroupLoad) -> list[Row]:
        """STRICT_SPREAD: a node for each. Those with the fewest nodes to go to choose first."""
        taken = dict.fromkeys(group.taken)
        choices = []
        for bundle in group.bundles:
            row = Row(bundle.shape, 1, (bundle.selector,) if bundle.selector else ())
            found = self._sketch.with_room(row.shape, row.selectors)
            choices.append((row, [place for place in found if not place.node_id or place.node_id not in taken]))
        used: list[Place] = []
        left = []
        for row, found in sorted(choices, key=lambda choice: len(choice[1])):
            place = next((place for place in found if not any(place is other for other in used)), None)
            if place is None:
                left.append(row)
            else:
                self._sketch.lay(place, row.shape)
                used.append(place)
        why = f"{words.group(group)} needs a node for each bundle"
        return [row for row in left if self._grow([row], why)]

    # --- growing ------------------------------------------------------------------------------------------------------

    def _grow(self, rows: list[Row], why: str, is_urgent: bool = False) -> list[Row]:
        """Add nodes for these rows; what found none. why: as in ``Launch.reason``. Cost: types × rows for each different
        filling of a node, not for each node."""
        left = list(rows)
        while left:
            best = max(self._fillings(left), key=lambda candidate: candidate[0], default=None)
            if best is None:
                break
            _, node_type, filling = best
            # The same filling again and again, as long as enough of everything is left.
            times = min(self._room(node_type), min(left[index].count // count for index, count in filling.items()))
            laid_on_each = [] if is_urgent else [(left[index].shape, count) for index, count in filling.items()]
            self._launch(node_type, times, why, is_urgent, laid_on_each)
            left = [
                msgspec.structs.replace(row, count=row.count - filling.get(index, 0) * times)
                for index, row in enumerate(left)
            ]
            left = [row for row in left if row.count]
        return left

    def _fillings(self, rows: Sequence[Row]) -> Iterable[tuple[Score, NodeType, dict[int, int]]]:
        """For each type that may be launched: what of the rows one node of it would hold, and how well that fits."""
        asked = {name: True for row in rows for name in row.shape}
        for order, node_type in enumerate(self._settings.types):
            if self._room(node_type) <= 0 or node_type.name in self._resting:
                continue
            left = dict(node_type.resources)
            filling: dict[int, int] = {}
            for index, row in enumerate(rows):
                count = min(row.count, how_many(left, row.shape)) if meets(row.selectors, node_type.labels) else 0
                if count:
                    filling[index] = count
                    for name, amount in row.shape.items():
                        left[name] = left.get(name, 0) - amount * count
            if filling:
                yield _score(node_type, left, asked, order), node_type, filling

    def _launch(
        self,
        node_type: NodeType,
        count: int,
        why: str,
        is_urgent: bool = False,
        filling: Sequence[tuple[Shape, int]] = (),
    ) -> None:
        self._counts[node_type.name] = self._counts.get(node_type.name, 0) + count
        for _ in range(count):
            total = dict(node_type.resources)
            place = self._sketch.add(Place(node_type.name, total, dict(total), node_type.labels, is_new=True))
            for shape, laid in filling:
                self._sketch.lay(place, shape, laid)
            self._whole.add(Place(node_type.name, total, dict(total), node_type.labels, is_new=True))
        last = self.plan.launches[-1] if self.plan.launches else None
        if last is None or (last.node_type, last.reason, last.is_urgent) != (node_type.name, why, is_urgent):
            last = Launch(node_type.name, 0, why, is_urgent=is_urgent)
            self.plan.launches.append(last)
        last.count += count
        last.laid += [(shape, laid * count) for shape, laid in filling]

    def _room(self, node_type: NodeType) -> int:
        """How many more of it there may be."""
        own = node_type.max_nodes - self._counts.get(node_type.name, 0)
        return min(own, self._settings.max_nodes - sum(self._counts.values()))

    # --- what gets none -----------------------------------------------------------------------------------------------

    def _selector(self, waiting: ShapeCount) -> Mapping[str, str]:
        """The first selector that any node could meet, of those there are or could be; else the one that was asked for."""
        for selector in (waiting.labels, *(other.labels for other in waiting.fallbacks)):
            there = any(matches(selector, p.labels) and how_many(p.total, waiting.shape) for p in self._sketch)
            if there or self._types_for(Row(waiting.shape, 1, (selector,))):
                return selector
        return waiting.labels

    def _types_for(self, row: Row) -> list[NodeType]:
        """Types of which an empty node would do, whatever the bounds."""
        return [
            node_type
            for node_type in self._settings.types
            if node_type.max_nodes
            and how_many(node_type.resources, row.shape)
            and meets(row.selectors, node_type.labels)
        ]

    def _explain(self, left: Sequence[Row], noun: str) -> None:
        for row in _merged(left):
            what = words.waiting(row.shape, row.count, row.selectors, noun)
            possible = self._types_for(row)
            if possible:
                self.plan.unmet.append(f"{what}: {self._why_none(possible)}.")
                continue
            exists = any(how_many(p.total, row.shape) and meets(row.selectors, p.labels) for p in self._sketch)
            if exists:
                self.plan.unmet.append(f"{what} for room on a node that is there: no node type can hold that.")
                continue
            types = words.types(self._settings, row.shape)
            text = f"{what} for ever: no node can hold that, and no node type could ({types})."
            self.plan.unmet.append(text)
            self.plan.impossible.append(text)

    def _why_none(self, possible: Sequence[NodeType]) -> str:
        if sum(self._counts.values()) >= self._settings.max_nodes:
            return f"the cluster has its {self._settings.max_nodes} nodes (max_workers)"
        reasons = []
        for node_type in possible:
            if self._counts.get(node_type.name, 0) >= node_type.max_nodes:
                reasons.append(f"there are {node_type.max_nodes} of type {node_type.name}, its largest number")
            elif node_type.name in self._resting:
                reasons.append(self._resting[node_type.name])
        return "; ".join(reasons) or "its parts do not find room together"


def rows_of(bundles: Iterable[Bundle]) -> list[Row]:
    """Equal bundles together, the hardest to place first."""
    rows: dict[object, Row] = {}
    for bundle in bundles:
        key = (tuple(sorted(bundle.shape.items())), tuple(sorted(bundle.selector.items())))
        known = rows.get(key)
        selectors = (bundle.selector,) if bundle.selector else ()
        rows[key] = Row(bundle.shape, 1 if known is None else known.count + 1, selectors)
    return sorted(rows.values(), key=lambda row: _hardest_first(row.shape))


def _merged(rows: Iterable[Row]) -> list[Row]:
    """Equal rows together."""
    found: dict[str, Row] = {}
    for row in rows:
        key = f"{sorted(row.shape.items())} {row.selectors}"
        known = found.get(key)
        found[key] = row if known is None else msgspec.structs.replace(known, count=known.count + row.count)
    return list(found.values())


def _hardest_first(shape: Mapping[str, int]) -> tuple[int, int, int, str]:
    return (-shape.get(GPU, 0), -len(shape), -shape.get(CPU, 0), str(sorted(shape.items())))


def _score(node_type: NodeType, left: Mapping[str, int], asked: Mapping[str, bool], order: int) -> Score:
    """The larger, the better. Utilisation counts what was asked for; memory that nobody asks for is not wasted by it."""
    total = node_type.resources
    shares = [1 - left[name] / total[name] for name in asked if total.get(name)]
    wastes_gpus = bool(total.get(GPU)) and GPU not in asked
    used = sum(1 for name in asked if total.get(name) and left[name] < total[name])
    mean = sum(shares) / len(shares) if shares else 0.0
    size = total.get(GPU, 0) + total.get(CPU, 0) + len(total)
    return (not wastes_gpus, used, min(shares, default=0.0), mean, -size, -order)
