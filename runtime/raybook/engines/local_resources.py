"""Local resources: what the one process of local mode has, and what a task of it is told it was given."""

from __future__ import annotations

import os
from collections.abc import Mapping

from raybook.base.resources import INSTANCE_RESOURCES, UNIT
from raybook.base.specs import Assignment


def assign(shape: Mapping[str, int], strategy: str) -> Assignment:
    """The first instances of each kind: in one process nothing else wants them at the same time."""
    instances = {}
    for name in INSTANCE_RESOURCES & shape.keys():
        whole, part = divmod(shape[name], UNIT)
        instances[name] = [[index, UNIT] for index in range(whole)] + ([[whole, part]] if part else [])
    return Assignment(dict(shape), instances, strategy)


def physical_memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
