"""Surveys the public surface of a package: which modules have which names, with which parameters.

Run with an interpreter that has Ray to write anew what `test_surface.py` compares with:

    python tests/api/survey_surface.py ray > tests/api/surface.json

Names and parameters only. A module's public names are those of `__all__`, or else what it defines itself without a
leading underscore; of classes, what they and their bases inside the package define.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import types
from typing import Any

MODULES = """
. actor exceptions job_config remote_function runtime_context runtime_env types cluster_utils util util.accelerators
util.actor_pool util.annotations util.check_serialize util.collective util.collective.types util.dask
util.dask.callbacks util.debug util.joblib util.metrics util.multiprocessing util.multiprocessing.pool
util.placement_group util.queue util.rpdb util.scheduling_strategies util.serialization util.state util.state.common
util.state.exception util.timer dag job_submission _common.test_utils
""".split()

NOTHING = object()
NOT_NAMES = {"TYPE_CHECKING", "T", "F", "state"}
"""What modules leave lying about: type variables, and a decorated class that kept a loop's name."""
VARARGS = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def parameters_of(thing: Any) -> list[str] | None:
    """Names of parameters, without those for insiders; None where there is no signature to read."""
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return None
    return [VARARGS.get(p.kind, "") + p.name for p in parameters if p.name != "self" and not p.name.startswith("_")]


def lacking_parameters(ours: Any, theirs: list[str]) -> list[str]:
    """Which of these parameters a function of ours does not take by name; variable ones take any."""
    have = parameters_of(ours)
    if have is None or any(name.startswith("**") for name in have):
        return []
    return [name for name in theirs if not name.startswith("*") and name not in have]


def members_of(cls: type, package: str) -> dict[str, Any]:
    """What instances and subclasses may use, by name."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.split(".")[0] != package:
            continue
        for name, value in vars(base).items():
            if name.startswith("_"):
                continue
            plain = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
            found[name] = parameters_of(plain) if callable(plain) else None
            if found[name] and isinstance(value, classmethod):
                found[name] = found[name][1:]
    return dict(sorted(found.items()))


def public_names(module: types.ModuleType) -> list[str]:
    """See the module."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return sorted(listed)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and name not in NOT_NAMES
        and not isinstance(value, types.ModuleType)
        and (getattr(value, "__module__", None) == module.__name__ or (name.isupper() and not callable(value)))
    )


def look_up(module: types.ModuleType, name: str) -> Any:
    """NOTHING where a listed name is not there, or is one of those that only say that they have gone."""
    try:
        return getattr(module, name)
    except (AttributeError, ImportError, RuntimeError):
        return NOTHING


def describe(value: Any, package: str) -> dict[str, Any]:
    """One name: kind, parameters, members."""
    if isinstance(value, types.ModuleType):
        return {"kind": "module"}
    if isinstance(value, type):
        # Only the class's own initializer counts: a builtin's signature says nothing of use.
        own = any("__init__" in vars(base) for base in value.__mro__ if base.__module__.split(".")[0] == package)
        return {
            "kind": "class",
            "parameters": parameters_of(value) if own else None,
            "members": members_of(value, package),
        }
    if callable(value):
        return {"kind": "function", "parameters": parameters_of(value)}
    return {"kind": "value"}


def survey(package: str) -> dict[str, dict[str, Any]]:
    """All of MODULES, as they are found below the package."""
    surface = {}
    for name in MODULES:
        module = importlib.import_module(package if name == "." else f"{package}.{name}")
        found = {item: look_up(module, item) for item in public_names(module)}
        surface[name] = {item: describe(value, package) for item, value in found.items() if value is not NOTHING}
    return surface


def written(surface: dict[str, dict[str, Any]]) -> str:
    """As JSON, one name a line."""
    modules = []
    for module, names in surface.items():
        lines = [f"  {json.dumps(name)}: {json.dumps(about)}" for name, about in sorted(names.items())]
        modules.append(f" {json.dumps(module)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(modules) + "\n}"


if __name__ == "__main__":
    print(written(survey(sys.argv[1])))
