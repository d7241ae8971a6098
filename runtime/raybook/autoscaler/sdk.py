"""What programs ask of the autoscaler, in Ray's spelling: ``from ray.autoscaler.sdk import request_resources``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from raybook.api.kv import kv_put
from raybook.base.label_selector import check_selector
from raybook.base.resources import CPU, shape_of
from raybook.base.specs import Bundle
from raybook.protocol.messages.scaling import REQUESTED_KEY, SCALING_NAMESPACE

__all__ = ["request_resources"]

CPUS_MAX = 100_000


def request_resources(
    num_cpus: int | None = None,
    bundles: Sequence[Mapping[str, float]] | None = None,
    bundle_label_selectors: Sequence[Mapping[str, str]] | None = None,
) -> None:
    """Ask for a cluster that has so much in all, whether it is used or not, and keep it so.

    num_cpus: so many bundles of one CPU. bundles: such as ``[{"CPU": 4}, {"GPU": 1}]``, each on one node.
    bundle_label_selectors: one for each bundle, what its node's labels must meet. Replaces what was asked for before;
    ``request_resources(num_cpus=0)``, or without arguments, asks for nothing more, and nodes go when they are idle. It is
    not held up by ``upscaling_speed``, and stays within the bounds of the node types. A cluster without an autoscaler takes
    note and does nothing. TypeError, ValueError; RuntimeError when nothing was started. Cost: one round trip.
    """
    wanted: list[Bundle] = []
    if num_cpus is not None:
        if isinstance(num_cpus, bool) or not isinstance(num_cpus, int):
            raise TypeError(f"num_cpus should be of type int, got {num_cpus!r}.")
        if not 0 <= num_cpus <= CPUS_MAX:
            raise ValueError(f"num_cpus must be between 0 and {CPUS_MAX:,}, got {num_cpus}.")
        wanted += [Bundle(shape_of({CPU: 1})) for _ in range(num_cpus)]
    if bundles is not None:
        wanted += _bundles(bundles, bundle_label_selectors)
    elif bundle_label_selectors:
        raise ValueError("bundle_label_selectors goes with bundles: one selector for each of them.")
    kv_put(SCALING_NAMESPACE, REQUESTED_KEY, msgspec.msgpack.encode(wanted))


def _bundles(bundles: Sequence[Mapping[str, float]], selectors: Sequence[Mapping[str, str]] | None) -> list[Bundle]:
    if isinstance(bundles, (str, bytes, Mapping)) or not isinstance(bundles, Sequence):
        raise TypeError(f"bundles should be a list of dicts such as [{{'CPU': 1}}], got {bundles!r}.")
    if selectors is not None and len(selectors) != len(bundles):
        raise ValueError(
            f"bundle_label_selectors has {len(selectors)} selectors for {len(bundles)} bundles; one for each is needed."
        )
    found = []
    for index, amounts in enumerate(bundles):
        if not isinstance(amounts, Mapping) or not all(isinstance(name, str) for name in amounts):
            raise TypeError(f"each bundle should be a dict of resource names and amounts, got {amounts!r}.")
        selector = selectors[index] if selectors is not None else {}
        check_selector("bundle_label_selectors", selector)
        shape = shape_of(amounts)
        if shape:
            found.append(Bundle(shape, dict(selector)))
    return found
