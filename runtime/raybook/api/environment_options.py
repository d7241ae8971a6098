"""Environment options: checks what ``runtime_env=`` was given and makes the record of it (``base/environments``).

Errors come at the call site, before any message: TypeError for wrong types, ValueError for folders that are not there
and for fields of later versions. Fields that nobody knows are refused, too: a misspelt one would be silently without
effect.
"""

from __future__ import annotations

import base64
import os
import types
from collections.abc import Callable, Mapping
from typing import Any

from raybook.base.environments import PICKLED, Environment
from raybook.protocol import functions
from raybook.protocol.serialization import SerializationContext

LATER = ("conda", "container", "image_uri", "java_jars", "nsight", "rocprof_sys", "mpi")
WITHOUT_EFFECT = ("config", "excludes", "_ray_commit", "_inject_current_ray")


def check_runtime_env(name: str, value: Any) -> None:
    """None, or a runtime environment."""
    environment_from(name, value)


def with_environment(options: dict[str, Any]) -> dict[str, Any]:
    """Checked options, with the record in the place of what the user wrote: what a relative path or a requirements file
    meant where it was written, it means wherever the function travels."""
    if options.get("runtime_env") is None:
        return options
    return {**options, "runtime_env": environment_from("runtime_env", options["runtime_env"])}


def environment_key(value: Any) -> str:
    """The key of a checked ``runtime_env``."""
    return environment_from("runtime_env", value).key


def environment_from(name: str, value: Any) -> Environment:
    """The record of what the user wrote. name: of the option, for messages. A record is returned as it is."""
    if value is None:
        return Environment()
    if isinstance(value, Environment):
        return value
    if not isinstance(value, Mapping):
        raise TypeError(f"The type of keyword '{name}' must be dict, but received type {type(value)}: {value!r}.")
    given: dict[str, Any] = {}
    for field, content in value.items():
        if content is None or field in WITHOUT_EFFECT:
            continue
        if field in LATER:
            raise ValueError(f"{name}[{field!r}] comes with a later version of raybook. Leave it out.")
        reader = _READERS.get(field)
        if reader is None:
            raise ValueError(f"{name} has no field {field!r}. Valid ones are {sorted(_READERS)}.")
        given.update(reader(f"{name}[{field!r}]", content))
    if value.get("pip") and value.get("uv"):
        raise ValueError(f"{name}: 'pip' and 'uv' cannot both be given; put all packages into one of them.")
    return Environment(**given)


def _env_vars(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(part, str) for pair in value.items() for part in pair):
        raise TypeError(f"{name} must be of type Dict[str, str], got {value!r}.")
    for variable, content in value.items():
        if not variable or "=" in variable or "\0" in variable + content:
            raise ValueError(f"{name}: {variable!r} cannot be the name of an environment variable with that value.")
    return {"env_vars": dict(value)}


def _working_dir(name: str, value: Any) -> dict[str, Any]:
    path = _local_path(name, value)
    if not os.path.isdir(path):
        raise ValueError(f"{name}: there is no directory {path}. Give the path of one that exists on every node.")
    return {"working_dir": path}


def _py_modules(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, (str, bytes)) or not isinstance(value, (list, tuple)):
        raise TypeError(f"{name} must be a list of paths or modules, got {value!r}.")
    paths = []
    for item in value:
        if isinstance(item, types.ModuleType):
            item = item.__path__[0] if hasattr(item, "__path__") else item.__file__
        path = _local_path(name, item)
        if not os.path.exists(path):
            raise ValueError(
                f"{name}: there is no {path}. Give the path of a package's directory, a .py or a .whl file."
            )
        paths.append(path)
    return {"py_modules": tuple(paths)}


def _local_path(name: str, value: Any) -> str:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a path, got {value!r}.")
    if "://" in value:
        if not value.endswith((".zip", ".whl")):
            raise ValueError(f"{name}: only .zip and .whl files can be given by address, got {value!r}.")
        raise ValueError(f"{name}: {value!r}: remote archives come with a later version of raybook. Give a local path.")
    return os.path.abspath(os.path.expanduser(value))


def _packages(name: str, value: Any) -> dict[str, Any]:
    options: tuple[str, ...] = ()
    if isinstance(value, Mapping):
        for key in ("pip_install_options", "uv_pip_install_options"):
            options += tuple(_strings(f"{name}[{key!r}]", value.get(key) or ()))
        value = value.get("packages")
    if isinstance(value, (str, os.PathLike)):
        path = _local_path(name, value)
        if not os.path.isfile(path):
            raise ValueError(f"{name}: there is no requirements file {path}. Give a list of packages, or its path.")
        with open(path, encoding="utf-8") as file:
            value = [line.strip() for line in file if line.strip() and not line.lstrip().startswith("#")]
    return {"packages": tuple(_strings(name, value)), "install_options": options}


def _strings(name: str, value: Any) -> list[str]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"{name} must be a list of strings, got {value!r}.")
    return list(value)


def _setup_hook(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        if "." not in value:
            raise ValueError(f"{name}: {value!r} must be 'module.function'.")
        return {"setup_hook": value}
    if not callable(value):
        raise TypeError(f"{name} must be a function or 'module.function', got {value!r}.")
    payload = functions.export(value, SerializationContext({})).payload
    return {"setup_hook": PICKLED + base64.b64encode(payload).decode()}


_READERS: dict[str, Callable[[str, Any], dict[str, Any]]] = {
    "env_vars": _env_vars,
    "working_dir": _working_dir,
    "py_modules": _py_modules,
    "pip": _packages,
    "uv": _packages,
    "worker_process_setup_hook": _setup_hook,
}
