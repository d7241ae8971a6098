"""Environment options: makes the record (``base/environments``) of what ``runtime_env=`` was given.

Errors come at the call site, before any message (``base/runtime_env`` words them). Folders become archives here and now:
what a task finds in its working_dir is what was there when the option was written, on every node (``api/archives``).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from raybook.base.config import AS_RAY_VARIABLE
from raybook.base.environments import PICKLED, Environment
from raybook.base.runtime_env import RuntimeEnv
from raybook.base.runtime_env_fields import SETUP_TIMEOUT_S, is_address
from raybook.protocol import functions
from raybook.protocol.serialization import SerializationContext


def check_runtime_env(name: str, value: Any) -> None:
    """None, or a runtime environment."""
    if value is not None and not isinstance(value, (Environment, RuntimeEnv)):
        _fields_of(name, value)


def with_environment(options: dict[str, Any]) -> dict[str, Any]:
    """Checked options, with the record in the place of what the user wrote: what a relative path or a requirements file
    meant where it was written, it means wherever the function travels."""
    if options.get("runtime_env") is None:
        return options
    return {**options, "runtime_env": environment_from("runtime_env", options["runtime_env"])}


def environment_key(value: Any, *, as_ray: bool = False) -> str:
    """The key of a checked ``runtime_env``. as_ray: ``import ray`` means raybook in its workers, in a cluster that was
    started without that wish."""
    environment = environment_from("runtime_env", value)
    if as_ray:
        variables = {AS_RAY_VARIABLE: "1", **environment.env_vars}
        environment = msgspec.structs.replace(environment, env_vars=variables)
    return environment.key


def environment_from(name: str, value: Any) -> Environment:
    """The record of what the user wrote. name: of the option, for messages. A record is returned as it is."""
    if value is None:
        return Environment()
    if isinstance(value, Environment):
        return value
    fields = value if isinstance(value, RuntimeEnv) else _fields_of(name, value)
    excludes = tuple(fields.get("excludes", ()))
    given: dict[str, Any] = {"env_vars": fields.env_vars()}
    if fields.has_working_dir():
        given["working_dir"] = _working_dir(fields["working_dir"], excludes)
    given["py_modules"] = tuple(_py_module(item, excludes) for item in fields.py_modules())
    for installer, options in (("pip", "pip_install_options"), ("uv", "uv_pip_install_options")):
        if installer in fields:
            asked = fields[installer]
            given["installer"] = installer
            given["packages"] = tuple(asked["packages"])
            given["install_options"] = tuple(asked.get(options, ()))
            given["packages_checked"] = bool(asked.get(f"{installer}_check"))
    if "conda" in fields:
        given["conda"] = _conda(fields["conda"])
    given["interpreter"] = fields.get("py_executable", "")
    if "worker_process_setup_hook" in fields:
        given["setup_hook"] = _setup_hook(fields["worker_process_setup_hook"])
    given["setup_timeout_s"] = fields.get("config", {}).get("setup_timeout_seconds", SETUP_TIMEOUT_S)
    return Environment(**given)


def _fields_of(name: str, value: Any) -> RuntimeEnv:
    if not isinstance(value, Mapping):
        raise TypeError(f"The type of keyword '{name}' must be dict, but received type {type(value)}: {value!r}.")
    wrong = [field for field in value if not isinstance(field, str)]
    if wrong:
        raise TypeError(f"The fields of '{name}' must be strings, got {wrong[0]!r}.")
    return RuntimeEnv(**value)


def _working_dir(value: str, excludes: tuple[str, ...]) -> str:
    if is_address(value):
        return value
    from raybook.api import archives

    path = Path(os.path.abspath(os.path.expanduser(value)))
    return archives.of_folder(path, excludes) if path.is_dir() else archives.of_file(path)


def _py_module(value: Any, excludes: tuple[str, ...]) -> str:
    """The archive's top is what goes on the import path."""
    if isinstance(value, types.ModuleType):
        value = value.__path__[0] if hasattr(value, "__path__") else value.__file__
    if is_address(value):
        return value
    from raybook.api import archives

    path = Path(os.path.abspath(os.path.expanduser(value)))
    if path.is_dir():
        return archives.of_folder(path, excludes, with_name=True)
    if path.suffix in (".whl", ".zip"):
        return archives.of_file(path)
    return archives.of_module_file(path)


def _conda(value: Any) -> str:
    if isinstance(value, dict):
        value = json.dumps(value, sort_keys=True)
    elif value.endswith((".yaml", ".yml")):
        value = os.path.abspath(value)
    if not os.path.isdir(value) and not shutil.which(os.environ.get("CONDA_EXE") or "conda"):
        raise ValueError(
            "runtime_env['conda'] needs the program conda, and there is none on this machine (neither in PATH nor in "
            "CONDA_EXE). Give the folder of an environment that exists, or use runtime_env['uv'] or runtime_env['pip']."
        )
    return value


def _setup_hook(value: Any) -> str:
    if isinstance(value, str):
        return value
    payload = functions.export(value, SerializationContext({})).payload
    return PICKLED + base64.b64encode(payload).decode()
