"""Names that Ray has under ``ray.experimental``: found when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "get_local_object_locations": "locations",
    "get_object_locations": "locations",
    "set_resource": "dynamic_resources",
}
"""Which module of this package a name is from."""

__all__ = ["get_local_object_locations", "get_object_locations", "set_resource"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'raybook.experimental' has no attribute {name!r}")
    return getattr(import_module(f"raybook.experimental.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
