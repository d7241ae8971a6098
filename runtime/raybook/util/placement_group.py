"""Placement groups, where Ray's users find them. Defined in ``api/placement_group``.

``raybook.util.placement_group`` is the function *and* this module, as in Ray: the module can be called.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from raybook.api.placement_group import (
    PlacementGroup,
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from raybook.base.label_selector import NODE_ID_LABEL

VALID_PLACEMENT_GROUP_STRATEGIES = frozenset({"PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"})
NODE_ID_LABEL_KEY = NODE_ID_LABEL

__all__ = [
    "NODE_ID_LABEL_KEY",
    "PlacementGroup",
    "VALID_PLACEMENT_GROUP_STRATEGIES",
    "get_current_placement_group",
    "get_placement_group",
    "placement_group",
    "placement_group_table",
    "remove_placement_group",
]


class _CallableModule(ModuleType):
    """Importing this module makes it an attribute of ``raybook.util``, in the place of the function of the same name."""

    def __call__(self, *args: Any, **kwargs: Any) -> PlacementGroup:
        return placement_group(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        # Remote functions that mention it find it again where they run.
        return import_module, (__name__,)


sys.modules[__name__].__class__ = _CallableModule
