"""Scheduling strategies: what users write, and the string of a scheduling class that it becomes.

It knows which options say where something runs and how they are combined; the grammar of the string is in
``base/strategies``. What leaves here needs no further check: a bundle that is named exists, and the request fits it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

from raybook.api.label_strategy import NodeLabelSchedulingStrategy
from raybook.api.placement_group import PlacementGroup
from raybook.base.resources import CPU, Shape, describe, fits
from raybook.base.strategies import ANY_BUNDLE, GroupTarget, NodeTarget, group_target
from raybook.base.strategies import SPREAD as SPREAD_ON_THE_WIRE
from raybook.base.task_context import CURRENT_TASK

DEFAULT = "DEFAULT"
SPREAD = "SPREAD"
UNSET_GROUP = "default"
"""Ray's value of the option ``placement_group`` when nobody has given it."""

_NODE_ID = re.compile(r"(?:[0-9a-fA-F]{2})+")


class PlacementGroupSchedulingStrategy:
    """Run in a placement group: in bundle ``placement_group_bundle_index``, or in any of them (-1). None in place of a
    group: outside of any, also where the parent's group captures its children.

    placement_group_capture_child_tasks: whether what is submitted from there runs in the group too; None: as the
    submitter's own group has it."""

    def __init__(
        self,
        placement_group: PlacementGroup | None,
        placement_group_bundle_index: int = -1,
        placement_group_capture_child_tasks: bool | None = None,
    ) -> None:
        if placement_group not in (None, UNSET_GROUP) and not isinstance(placement_group, PlacementGroup):
            raise ValueError(f"placement_group must be an instance of PlacementGroup, got {placement_group!r}.")
        self.placement_group = placement_group
        self.placement_group_bundle_index = placement_group_bundle_index
        self.placement_group_capture_child_tasks = placement_group_capture_child_tasks

    def __repr__(self) -> str:
        return f"PlacementGroupSchedulingStrategy({self.placement_group!r}, {self.placement_group_bundle_index})"


class NodeAffinitySchedulingStrategy:
    """Run on the node with this id (hexadecimal, as ``nodes()`` shows it). soft: elsewhere if that node is gone."""

    def __init__(
        self, node_id: str, soft: bool, _spill_on_unavailable: bool = False, _fail_on_unavailable: bool = False
    ) -> None:
        if isinstance(node_id, bytes):
            node_id = node_id.hex()
        if not isinstance(node_id, str) or not _NODE_ID.fullmatch(node_id):
            raise ValueError(
                f"Invalid node_id {node_id!r}. Node ID must be a valid hex string, as raybook.nodes() shows them."
            )
        if not isinstance(soft, bool):
            raise TypeError(f"soft must be True or False, got {soft!r}.")
        if _spill_on_unavailable and not soft:
            raise ValueError("_spill_on_unavailable cannot be set when soft is False. Set soft=True to use it.")
        if _fail_on_unavailable:
            raise ValueError(
                "_fail_on_unavailable cannot be set when soft is True."
                if soft
                else "_fail_on_unavailable comes with a later version of raybook. Leave it out: the task waits for the node."
            )
        self.node_id = node_id
        self.soft = soft
        self._spill_on_unavailable = _spill_on_unavailable
        self._fail_on_unavailable = _fail_on_unavailable

    def __repr__(self) -> str:
        return f"NodeAffinitySchedulingStrategy(node_id={self.node_id!r}, soft={self.soft})"


def encode(strategy: Any) -> str:
    """The string form of a strategy that names no placement group. ValueError for anything else."""
    if strategy is None or strategy == DEFAULT:
        return ""
    if strategy == SPREAD:
        return SPREAD_ON_THE_WIRE
    if isinstance(strategy, NodeLabelSchedulingStrategy):
        return ""  # Its labels travel as a label selector: see ``labels_of``.
    if isinstance(strategy, NodeAffinitySchedulingStrategy):
        return NodeTarget(bytes.fromhex(strategy.node_id), strategy.soft).encode()
    kind = ValueError if isinstance(strategy, str) else TypeError
    raise kind(
        f"Invalid scheduling_strategy value {strategy!r}. It must be 'DEFAULT', 'SPREAD', a "
        f"PlacementGroupSchedulingStrategy, a NodeAffinitySchedulingStrategy or a NodeLabelSchedulingStrategy."
    )


def labels_of(options: Mapping[str, Any]) -> list[dict[str, str]]:
    """The label selectors of checked options, to be tried in turn; the first may be empty."""
    strategy = options.get("scheduling_strategy")
    first = dict(options.get("label_selector") or {})
    if isinstance(strategy, NodeLabelSchedulingStrategy):
        both = first.keys() & {*strategy.hard, *strategy.soft}
        if both:
            raise ValueError(f"label_selector and scheduling_strategy both ask about the label {sorted(both)[0]!r}.")
        return [{**first, **selector} for selector in strategy.selectors()]
    return [first, *(dict(other["label_selector"]) for other in options.get("fallback_strategy") or ())]


def check_strategy(name: str, value: Any) -> None:
    """The check of the option ``scheduling_strategy``."""
    if not isinstance(value, PlacementGroupSchedulingStrategy):
        encode(value)


def check_group(name: str, value: Any) -> None:
    """The check of the option ``placement_group``: a group, None (outside of any), or "default"."""
    if value is not None and value != UNSET_GROUP and not isinstance(value, PlacementGroup):
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(f"The option '{name}' must be a PlacementGroup or None, got {value!r}.")


def strategy_of(options: Mapping[str, Any], name: str, held: Shape, needed: Shape) -> str:
    """The string of checked options. name: of the task or actor, for messages. held: what it holds while it runs.
    needed: what must be free to start it. ValueError for a bundle that is not there or that it does not fit into; one
    round trip when the group's handle came from another process and its bundles are not known here."""
    strategy = options.get("scheduling_strategy")
    group = options.get("placement_group", UNSET_GROUP)
    index = options.get("placement_group_bundle_index")
    captures = options.get("placement_group_capture_child_tasks")
    index = ANY_BUNDLE if index is None else index
    if strategy is not None and group not in (UNSET_GROUP, None):
        raise ValueError(
            "Placement groups should be specified via the scheduling_strategy option: give that or placement_group, "
            "not both. The placement_group option is deprecated."
        )
    if isinstance(strategy, PlacementGroupSchedulingStrategy):
        group = strategy.placement_group
        index = strategy.placement_group_bundle_index
        captures = strategy.placement_group_capture_child_tasks
    elif strategy is not None:
        group = None
    elif isinstance(group, PlacementGroup):
        warnings.warn(
            "The option placement_group is deprecated: use scheduling_strategy=PlacementGroupSchedulingStrategy(...).",
            DeprecationWarning,
            stacklevel=5,
        )
    if not isinstance(group, PlacementGroup) or group.is_empty:
        if index != ANY_BUNDLE:
            raise ValueError(
                f"If placement group is not set, the value of bundle index must be -1, got {index}. Name the group too."
            )
        return encode(strategy) if not isinstance(strategy, PlacementGroupSchedulingStrategy) else ""
    check_bundle_index(group, index)
    check_fits(group, name, held, needed)
    if captures is None:
        parent = captured()
        captures = parent is not None
    return GroupTarget(group._id, index, bool(captures)).encode()


def inherits(options: Mapping[str, Any]) -> bool:
    """Whether these options leave it to a capturing parent where the task runs: ``placement_group=None`` and any
    scheduling strategy do not."""
    group = options.get("placement_group", UNSET_GROUP)
    return options.get("scheduling_strategy") is None and isinstance(group, str) and group == UNSET_GROUP


def captured() -> GroupTarget | None:
    """Where children of the running task go, when it captures them: any bundle of its group. Cost: 0.2 µs."""
    task = CURRENT_TASK.get()
    if task is None or task.assignment is None or not task.assignment.strategy:
        return None
    target = group_target(task.assignment.strategy)
    return GroupTarget(target.group_id, ANY_BUNDLE, True) if target is not None and target.captures else None


def check_bundle_index(group: PlacementGroup, index: Any) -> None:
    """ValueError for an index that names no bundle of the group; -1 names all."""
    if isinstance(index, bool) or not isinstance(index, int):
        raise TypeError(f"placement_group_bundle_index must be a whole number, got {index!r}.")
    if index >= group.bundle_count or index < ANY_BUNDLE:
        raise ValueError(
            f"placement group bundle index {index} is invalid. {group!r} has {group.bundle_count} bundles; use 0 to "
            f"{group.bundle_count - 1}, or -1 for any of them."
        )


def check_fits(group: PlacementGroup, name: str, held: Shape, needed: Shape) -> None:
    """ValueError for a request that could never run in any bundle of the group."""
    bundles = [describe(shape) for shape in group.shapes]
    if not any(fits(held, shape) for shape in group.shapes):
        raise ValueError(
            f"Cannot schedule {name} with the placement group because the resource request {describe(held)} cannot fit "
            f"into any bundles for the placement group, [{', '.join(bundles)}]. Ask for less, or make a group with larger "
            "bundles."
        )
    if not any(fits(needed, shape) for shape in group.shapes):
        cpus = needed.get(CPU, 0) / 10_000
        raise ValueError(
            f"Cannot schedule {name} with the placement group because the actor requires {cpus:g} CPU for creation, "
            f"but it cannot fit into any bundles of it: [{', '.join(bundles)}]. Give one a CPU, or create the actor with "
            "num_cpus=0."
        )
