"""Handle options: which method, for which model, as a stream; and the mark for "not given"."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any


class DEFAULT(Enum):
    """``DEFAULT.VALUE``: an option that was not given; None is a value of some."""

    VALUE = 1


@dataclass(frozen=True)
class HandleOptions:
    """What ``handle.options`` changes."""

    method_name: str = "__call__"
    multiplexed_model_id: str = ""
    session_id: str = ""
    stream: bool = False
    _prefer_local_routing: bool = True
    _by_reference: bool = True
    request_serialization: str = "cloudpickle"
    response_serialization: str = "cloudpickle"

    def changed(self, options: dict[str, Any]) -> HandleOptions:
        """A copy with those that were given."""
        given = {name: value for name, value in options.items() if value is not DEFAULT.VALUE}
        unknown = given.keys() - {field.name for field in fields(self)}
        if unknown:
            raise TypeError(f"DeploymentHandle.options() got unexpected options: {', '.join(sorted(unknown))}.")
        if not isinstance(given.get("method_name", ""), str):
            raise TypeError(f"method_name must be a string, got {given['method_name']!r}.")
        return replace(self, **given)
