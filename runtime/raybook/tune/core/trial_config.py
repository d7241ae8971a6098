"""Trial configuration: how single values are put into nested ones.

Invariant: the input is never changed, and shares no dict with the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raybook.tune.core.orders import plain_config


def with_flat_values(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of config with values set; the name 'a/b' reaches into nested dicts, unless it is one itself."""
    changed = plain_config(config)
    for name, value in values.items():
        *parents, last = [name] if name in changed else name.split("/")
        place = changed
        for part in parents:
            place = place.setdefault(part, {})
        place[last] = value
    return changed


def merged(constants: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return constants overlaid by config, nested dicts merged."""
    result = plain_config(constants)
    for name, value in config.items():
        inner = result.get(name)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        result[name] = merged(inner, value) if both else value  # type: ignore[arg-type]
    return result
