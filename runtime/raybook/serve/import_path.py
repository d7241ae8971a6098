"""Import paths: ``module:name`` or ``module.name`` in options and configs, where ``ray`` means raybook; and what they name
as bytes that a process without the module can use."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import cloudpickle


def import_attr(path: str) -> Any:
    """What ``module:name`` or ``module.name`` names; ``ray`` there means raybook. ImportError, AttributeError."""
    module, colon, name = path.partition(":")
    if not colon:
        module, _, name = path.rpartition(".")
    if module.partition(".")[0] == "ray":
        module = "raybook" + module[3:]
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def pickle_by_value(value: Any) -> bytes:
    """A function or class of the user's as bytes that need not be imported where they are used; raybook's own by name."""
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    if module is None or module.__name__ == "__main__" or module.__name__.partition(".")[0] == "raybook":
        return cloudpickle.dumps(value)
    cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps(value)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def load_pickled(code: bytes, what: str) -> Any:
    """The other end. ImportError naming what could not be loaded, and what to do."""
    try:
        return cloudpickle.loads(code)
    except ImportError as error:
        raise ImportError(
            f"Failed to deserialize {what}: {error}. It depends on a module that this environment does not have: install it "
            "there, send it along in runtime_env, or put its folder into PYTHONPATH."
        ) from error
