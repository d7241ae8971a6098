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
from raybook.base.facts import GROUP_PREPARING
from raybook.base.label_selector import check_selector
from raybook.base.resources import GPU, UNIT, Shape, shape_of, to_user
from raybook.base.specs import Bundle, PlacementGroupSpec
from raybook.base.strategies import group_target
from raybook.base.task_context import CURRENT_TASK
from raybook.protocol.messages.gcs import GetPlacementGroup, GetPlacementGroups, PlacementGroupInfo

STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


class PlacementGroup:
    """A handle of a placement group. Made by ``placement_group``; may be passed to tasks and actors."""

    __slots__ = ("_shapes", "id")

    def __init__(self, id: bytes, shapes: Sequence[Shape] | None = None) -> None:
        self.id = id
        self._shapes = shapes

    @staticmethod
    def empty() -> PlacementGroup:
        """The handle of no group."""
        return PlacementGroup(b"")

    @property
    def is_empty(self) -> bool:
        """Whether this names no group."""
        return not self.id

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
        return current_engine().placement_group_ready(self.id, PlacementGroup(self.id))

    def wait(self, timeout_seconds: float = 30) -> bool:
        """Block until all of it is reserved (True), or it is removed or time is up (False)."""
        if isinstance(timeout_seconds, bool) or not isinstance(timeout_seconds, (int, float)):
            raise TypeError(f"timeout_seconds must be a number, got {timeout_seconds!r}.")
        return current_engine().wait_placement_group(self.id, max(0.0, timeout_seconds))

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, PlacementGroup) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"PlacementGroup({self.id.hex() or 'empty'})"

    def __reduce__(self) -> tuple[Any, ...]:
        return PlacementGroup, (self.id, self._shapes)


def placement_group(
    bundles: Sequence[Mapping[str, float]],
    strategy: str = "PACK",
    name: str = "",
    lifetime: str | None = None,
    _soft_target_node_id: str | None = None,
    bundle_label_selector: Sequence[Mapping[str, str]] | None = None,
    topology_strategy: Any = None,
) -> PlacementGroup:
    """Ask for a group of bundles; returns at once, unless it has a name (one round trip).

    bundles: amounts by resource, such as ``[{"CPU": 1, "GPU": 1}] * 4``. strategy: PACK, SPREAD, STRICT_PACK or
    STRICT_SPREAD. lifetime: "detached" for a group that outlives who made it. bundle_label_selector: one selector for
    each bundle. A group for which there is no room waits; ``placement_group_table`` says for what. ValueError and
    TypeError for what makes no sense, ValueError for a name that is taken.
    """
    shapes = _checked_bundles(bundles)
    if strategy not in STRATEGIES:
        raise ValueError(f"The strategy of a placement group must be one of {', '.join(STRATEGIES)}, got {strategy!r}.")
    if lifetime not in (None, "detached"):
        raise ValueError(
            f"The lifetime of a placement group must be either None or 'detached', got {lifetime!r}. None: it goes with "
            "the job or actor that made it."
        )
    if not isinstance(name, str):
        raise TypeError(f"The name of a placement group must be a string, got {name!r}.")
    if _soft_target_node_id is not None or topology_strategy is not None:
        raise ValueError("_soft_target_node_id and topology_strategy come with a later version of raybook.")
    selectors = _checked_selectors(bundle_label_selector, len(shapes))
    engine = current_engine()
    task = CURRENT_TASK.get()
    spec = PlacementGroupSpec(
        group_id=b"",
        job_id=b"",
        bundles=[Bundle(shape, selector) for shape, selector in zip(shapes, selectors, strict=True)],
        strategy=strategy,
        name=name,
        creator_actor=task.actor.actor_id if task is not None and task.actor is not None else b"",
        detached=lifetime == "detached",
    )
    return PlacementGroup(engine.create_placement_group(spec), shapes)


def remove_placement_group(placement_group: PlacementGroup) -> None:
    """Give a group back: its tasks and actors end, its resources are free. Returns at once; idempotent."""
    current_engine().remove_placement_group(_checked_group(placement_group).id)


def get_placement_group(placement_group_name: str) -> PlacementGroup:
    """The group of this name in this namespace (one round trip). ValueError when there is none."""
    if not placement_group_name:
        raise ValueError("Give the name of a placement group; an empty name names none.")
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


def _info_of(group: PlacementGroup) -> PlacementGroupInfo | None:
    return current_engine().gcs_call("GetPlacementGroup", GetPlacementGroup(group.id)).group


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
        "stats": {"scheduling_attempt": info.attempt, "created_ms": info.created_ms},
    }


def _checked_group(group: Any) -> PlacementGroup:
    if not isinstance(group, PlacementGroup) or group.is_empty:
        raise ValueError(f"A placement group is needed here, as placement_group(...) makes them, got {group!r}.")
    return group


def _checked_bundles(bundles: Any) -> list[Shape]:
    if isinstance(bundles, (str, bytes, Mapping)) or not isinstance(bundles, Sequence):
        raise ValueError(f"The bundles of a placement group must be a list of dicts, got {bundles!r}.")
    if not bundles:
        raise ValueError("The bundles of a placement group must not be an empty list.")
    shapes = []
    for index, bundle in enumerate(bundles):
        if not isinstance(bundle, Mapping):
            raise ValueError(f"Bundle {index} must be a dict of resource names and amounts, got {bundle!r}.")
        shape = shape_of(bundle)
        if not shape:
            raise ValueError(
                f"Bundle {index} asks for nothing ({dict(bundle)!r}): Bundles cannot be an empty dictionary or hold "
                "only zeros. Name at least one resource, such as {'CPU': 1}."
            )
        gpus = shape.get(GPU, 0)
        if gpus > UNIT and gpus % UNIT:
            raise ValueError(f"Bundle {index} asks for {gpus / UNIT:g} GPUs: more than one must be whole GPUs.")
        shapes.append(shape)
    return shapes


def _checked_selectors(selectors: Any, count: int) -> list[dict[str, str]]:
    if not selectors:
        return [{}] * count
    if len(selectors) != count:
        raise ValueError(
            f"bundle_label_selector has {len(selectors)} selectors for {count} bundles: give one for each, {{}} for none."
        )
    for selector in selectors:
        check_selector("bundle_label_selector", selector)
    return [dict(selector) for selector in selectors]
