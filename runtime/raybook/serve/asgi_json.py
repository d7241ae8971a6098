"""JSON of what deployments return: plain values, and what users return beside: numpy, pydantic, dataclasses, dates."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import msgspec


def to_json(value: Any) -> bytes:
    """Compact JSON. TypeError for what has no form in it. Cost: 1 µs for plain values."""
    try:
        return msgspec.json.encode(value, enc_hook=_plain)
    except (TypeError, ValueError):
        return json.dumps(value, separators=(",", ":"), default=_plain).encode()


def _plain(value: Any) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if isinstance(value, numpy.ndarray):
            return value.tolist()
        if isinstance(value, numpy.generic):
            return value.item()
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if hasattr(value, "to_dict"):
        return value.to_dict()
    raise TypeError(f"{type(value).__name__} has no form in JSON; return text, bytes, numbers, lists or dictionaries.")
