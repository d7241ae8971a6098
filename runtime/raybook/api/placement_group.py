"""Placement groups: sets of resource bundles that are reserved together, all of them or none.

A handle knows an id and, where it was made, the bundles; everything else is asked of the GCS. Names of functions,
parameters and table fields are Ray's (RAY.md §2).
Invariant: handles compare and travel by id; who holds one does not keep the group alive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raybook.api.context import current_engine
from raybook.api.object_ref import ObjectRef
from raybook.api.public_ids import PlacementGroupID
from raybook.base.facts import GROUP_CREATED, GROUP_PREPARING, GROUP_REMOVED
from raybook.base.label_selector import NODE_ID_LABEL, check_selector
from raybook.base.resources import GPU, UNIT, Shape, shape_of, to_user
from raybook.base.specs import Bundle, PlacementGroupSpec
from raybook.base.strategies import group_target
from raybook.base.task_context import CURRENT_TASK
from raybook.protocol.messages.gcs import GetPlacementGroup, GetPlacementGroups, PlacementGroupInfo

EXAMPLE = 'For example: `[{"CPU": 1.0}, {"GPU": 1.0}]`.'
STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


class PlacementGroup:
    """A handle of a placement group. Made by ``placement_group``; may be passed to tasks and actors."""

    __slots__ = ("_id", "_shapes")

    def __init__(self, id: bytes, shapes: Sequence[Shape] | None = None) -> None:
        self._id = b"" if isinstance(id, PlacementGroupID) and id.is_nil() else bytes(id)
        self._shapes = shapes

    @property
    def id(self) -> PlacementGroupID:
        """Its id; nil for the handle of no group."""
        return PlacementGroupID(self._id)

    @staticmethod
    def empty() -> PlacementGroup:
        """The handle of no group."""
        return PlacementGroup(b"")

    @property
    def is_empty(self) -> bool:
        """Whether this names no group."""
        return not self._id

    @property
    def shapes(self) -> Sequence[Shape]:
        """The bundles in fixed point. One round trip for a handle that came from somewhere else."""
        if self._shapes is None:
            info = None if self.is_empty else _info_of(self)
            self._shapes = [bundle.shape for bundle in info.spec.bundles] if info is not None else []
        return self._shapes

    @property
    def bundle_specs(self) -> list[dict[str, float]]:
        """What each bundle holds."""
        return [to_user(shape) for shape in self.shapes]

    @property
    def bundle_count(self) -> int:
        """How many bundles there are."""
        return len(self.shapes)

    def ready(self) -> ObjectRef:
        """A ref that becomes this group's handle when all of it is reserved. It runs nothing and costs no worker."""
        return current_engine().placement_group_ready(self._id, PlacementGroup(self._id))

    def wait(self, timeout_seconds: float = 30) -> bool:
        """Block until all of it is reserved (True), or it is removed or time is up (False)."""
        if isinstance(timeout_seconds, bool) or not isinstance(timeout_seconds, (int, float)):
            raise TypeError(f"timeout_seconds must be a number, got {timeout_seconds!r}.")
        return current_engine().wait_placement_group(self._id, max(0.0, timeout_seconds))

    def __eq__(self, other: object) -> bool:
        return self._id == other._id if isinstance(other, PlacementGroup) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        return f"PlacementGroup({self._id.hex() or 'empty'})"

    def __reduce__(self) -> tuple[Any, ...]:
        return PlacementGroup, (self._id, self._shapes)


def placement_group(
    bundles: Sequence[Mapping[str, float]],
    strategy: str | None = None,
    name: str = "",
    lifetime: str | None = None,
    _soft_target_node_id: str | None = None,
    bundle_label_selector: Sequence[Mapping[str, str]] | None = None,
    topology_strategy: Mapping[str, str] | None = None,
) -> PlacementGroup:
    """Ask for a group of bundles; returns at once, unless it has a name (one round trip).

    bundles: amounts by resource, such as ``[{"CPU": 1, "GPU": 1}] * 4``. strategy: PACK (the default), SPREAD,
    STRICT_PACK or STRICT_SPREAD; topology_strategy: the same as ``{"ray.io/node-id": strategy}``. lifetime: "detached" for
    a group that outlives who made it. bundle_label_selector: one selector for each bundle. A group for which there is no
    room waits; ``placement_group_table`` says for what. ValueError and TypeError for what makes no sense, ValueError for a
    name that is taken.
    """
    shapes = _checked_bundles(bundles)
    strategy = _checked_strategy(strategy, topology_strategy)
    if lifetime not in (None, "detached"):
        raise ValueError(
            f"Placement group `lifetime` argument must be either `None` or 'detached', got {lifetime!r}. None: it goes "
            "with the job that made it, or the detached actor."
        )
    if not isinstance(name, str):
        raise TypeError(f"The name of a placement group must be a string, got {name!r}.")
    if _soft_target_node_id is not None:
        raise ValueError("_soft_target_node_id comes with a later version of raybook.")
    selectors = _checked_selectors(bundle_label_selector, len(shapes))
    engine = current_engine()
    spec = PlacementGroupSpec(
        group_id=b"",
        job_id=b"",
        bundles=[Bundle(shape, selector) for shape, selector in zip(shapes, selectors, strict=True)],
        strategy=strategy,
        name=name,
        creator_actor=_detached_maker(),
        detached=lifetime == "detached",
    )
    return PlacementGroup(engine.create_placement_group(spec), shapes)


def _detached_maker() -> bytes:
    """The detached actor whose code this is: it may outlive its job, and then the group goes with it. b"" elsewhere."""
    task = CURRENT_TASK.get()
    actor = task.actor if task is not None else None
    return actor.actor_id if actor is not None and actor.state is not None and actor.state.detached else b""


def remove_placement_group(placement_group: PlacementGroup) -> None:
    """Give a group back: its tasks and actors end, its resources are free. Returns at once; idempotent."""
    current_engine().remove_placement_group(_checked_group(placement_group)._id)


def get_placement_group(placement_group_name: str) -> PlacementGroup:
    """The group of this name in this namespace (one round trip). ValueError when there is none."""
    if not placement_group_name:
        raise ValueError("Please supply a non-empty value to get_placement_group, the name of a group.")
    engine = current_engine()
    info = engine.gcs_call(
        "GetPlacementGroup", GetPlacementGroup(name=placement_group_name, namespace=engine.namespace)
    ).group
    if info is None:
        raise ValueError(
            f"Failed to look up placement group with name: {placement_group_name} (namespace {engine.namespace!r}). It "
            "was never created, was removed, or lives in another namespace."
        )
    return PlacementGroup(info.spec.group_id, [bundle.shape for bundle in info.spec.bundles])


def placement_group_table(placement_group: PlacementGroup | None = None) -> dict[str, Any]:
    """What the cluster knows of one group, or of all groups by their ids (one round trip). ``state`` is PENDING,
    CREATED, RESCHEDULING or REMOVED; ``waiting_for`` says why a group is not created yet."""
    if placement_group is not None:
        info = _info_of(_checked_group(placement_group))
        return _row_of(info) if info is not None else {}
    groups = current_engine().gcs_call("GetPlacementGroups", GetPlacementGroups()).groups
    return {info.spec.group_id.hex(): _row_of(info) for info in groups}


def get_current_placement_group() -> PlacementGroup | None:
    """The group that the running task or actor lives in; None outside of groups."""
    task = CURRENT_TASK.get()
    target = group_target(task.assignment.strategy) if task is not None and task.assignment is not None else None
    return None if target is None else PlacementGroup(target.group_id)


def _checked_strategy(strategy: str | None, topology: Mapping[str, str] | None) -> str:
    """How bundles go to nodes. A topology may name nodes alone: raybook knows no racks or slices."""
    if topology is not None:
        if strategy is not None:
            raise ValueError("`strategy` and `topology_strategy` cannot both be specified.")
        other = next((label for label in topology if label != NODE_ID_LABEL), None)
        if other is not None:
            raise ValueError(
                f"topology_strategy: bundles go by {NODE_ID_LABEL!r} alone here, not by {other!r}. Ask for the label "
                "with bundle_label_selector."
            )
        strategy = topology.get(NODE_ID_LABEL)
    if strategy is None:
        return STRATEGIES[0]
    if strategy not in STRATEGIES:
        raise ValueError(
            f"Invalid placement group strategy {strategy}. Supported strategies are: {', '.join(STRATEGIES)}."
        )
    return strategy


def _info_of(group: PlacementGroup) -> PlacementGroupInfo | None:
    return current_engine().gcs_call("GetPlacementGroup", GetPlacementGroup(group._id)).group


def _row_of(info: PlacementGroupInfo) -> dict[str, Any]:
    spec = info.spec
    return {
        "placement_group_id": spec.group_id.hex(),
        "name": spec.name,
        "bundles": {index: to_user(bundle.shape) for index, bundle in enumerate(spec.bundles)},
        "bundles_to_node_id": {index: node.hex() for index, node in enumerate(info.nodes)},
        "strategy": spec.strategy,
        # Ray knows PREPARED, when all nodes have said yes; while they are being asked a group is pending.
        "state": "PENDING" if info.state == GROUP_PREPARING else info.state,
        "creator_job_id": spec.job_id.hex(),
        "is_detached": spec.detached,
        "waiting_for": info.waiting,
        "removed_because": info.death,
        "stats": {
            "scheduling_state": _scheduling_state(info),
            "scheduling_attempt": info.attempt,
            "created_ms": info.created_ms,
        },
    }


def _scheduling_state(info: PlacementGroupInfo) -> str:
    """Ray's words for why a group is not there, or that it is."""
    if info.state == GROUP_REMOVED:
        return "REMOVED"
    if info.state == GROUP_CREATED:
        return "FINISHED"
    if info.state == GROUP_PREPARING:
        return "SCHEDULING_STARTED"
    return "INFEASIBLE" if info.infeasible else "NO_RESOURCES"


def _checked_group(group: Any) -> PlacementGroup:
    if not isinstance(group, PlacementGroup) or group.is_empty:
        raise ValueError(f"A placement group is needed here, as placement_group(...) makes them, got {group!r}.")
    return group


def _checked_bundles(bundles: Any) -> list[Shape]:
    if not isinstance(bundles, list):
        raise ValueError(f"Placement group bundles must be a list, got {type(bundles)}.")
    if not bundles:
        raise ValueError(
            f"Bundles must be a non-empty list of resource dictionaries. {EXAMPLE} Got empty list instead."
        )
    shapes = []
    for index, bundle in enumerate(bundles):
        if not isinstance(bundle, Mapping):
            raise ValueError(
                f"Bundles must be a non-empty list of resource dictionaries. {EXAMPLE} Bundle {index} is {bundle!r}."
            )
        if not all(isinstance(name, str) and isinstance(amount, (int, float)) for name, amount in bundle.items()):
            raise ValueError(
                f"Bundles must be a non-empty list of resource dictionaries. {EXAMPLE} Bundle {index} is {bundle!r}: "
                "names are strings and amounts are numbers."
            )
        shape = shape_of(bundle)
        if not shape:
            raise ValueError(
                f"Bundles cannot be an empty dictionary or resources with only 0 values: bundle {index} is "
                f"{dict(bundle)!r}. Name at least one resource, such as {{'CPU': 1}}."
            )
        gpus = shape.get(GPU, 0)
        if gpus > UNIT and gpus % UNIT:
            raise ValueError(f"Bundle {index} asks for {gpus / UNIT:g} GPUs: more than one must be whole GPUs.")
        shapes.append(shape)
    return shapes


def _checked_selectors(selectors: Any, count: int) -> list[dict[str, str]]:
    if selectors is None:
        return [{}] * count
    if not isinstance(selectors, list):
        raise ValueError(f"Placement group bundle_label_selector must be a list, got {type(selectors)}.")
    if len(selectors) != count:
        raise ValueError(
            f"Invalid bundle label selector {selectors}. The length of `bundle_label_selector` should equal the length "
            f"of `bundles`: give one for each of the {count}, {{}} for none."
        )
    for selector in selectors:
        try:
            check_selector("bundle_label_selector", selector)
        except TypeError as error:
            raise ValueError(f"Invalid label selector provided in bundle_label_selector list. {error}") from None
    return [dict(selector) for selector in selectors]
