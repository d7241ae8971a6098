"""Fields of a runtime environment, as users write them: each is checked, and brought into the one form that is kept.

TypeError for wrong types, ValueError for what cannot be meant and for paths that are not there, in the words that code
written for Ray matches. What a value makes of a worker, other modules say. Source: Ray 2.60's ``RuntimeEnv``.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

logger = logging.getLogger("raybook.runtime_env")

SETUP_TIMEOUT_S = 600
"""Ray's ``DEFAULT_RUNTIME_ENV_TIMEOUT_SECONDS``."""
ARCHIVE_ENDINGS = (".zip", ".whl", ".tar.gz", ".tgz", ".tar.xz", ".jar")
INSTALLER_OPTIONS = {
    "pip": {"packages": list, "pip_check": bool, "pip_install_options": list, "pip_version": str},
    "uv": {"packages": list, "uv_check": bool, "uv_version": str, "uv_pip_install_options": list},
}


class RuntimeEnvConfig(dict[str, Any]):
    """How an environment is set up: within how many seconds (-1: no limit), and whether before it is needed.

    eager_install and log_files are kept for those who read them; raybook sets up an environment when its first worker is
    wanted, and its log goes to the driver.
    """

    known_fields = frozenset({"setup_timeout_seconds", "eager_install", "log_files"})

    def __init__(
        self,
        setup_timeout_seconds: int = SETUP_TIMEOUT_S,
        eager_install: bool = True,
        log_files: list[str] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(setup_timeout_seconds, int):
            raise TypeError(f"setup_timeout_seconds must be of type int, got: {type(setup_timeout_seconds)}")
        if setup_timeout_seconds <= 0 and setup_timeout_seconds != -1:
            raise ValueError(
                f"setup_timeout_seconds must be greater than zero or equals to -1, got: {setup_timeout_seconds}"
            )
        if not isinstance(eager_install, bool):
            raise TypeError(f"eager_install must be a boolean. got {type(eager_install)}")
        if log_files is not None and not isinstance(log_files, list):
            raise TypeError(
                f"log_files must be a list of strings or None, got {log_files} with type {type(log_files)}."
            )
        if not all(isinstance(name, str) for name in log_files or ()):
            raise TypeError("Each item in log_files must be a string.")
        self["setup_timeout_seconds"] = setup_timeout_seconds
        self["eager_install"] = eager_install
        self["log_files"] = log_files or []

    @staticmethod
    def parse_and_validate_runtime_env_config(config: Any) -> RuntimeEnvConfig:
        """From a dict or such an object; entries that nobody knows are named in a warning."""
        if isinstance(config, RuntimeEnvConfig):
            return config
        if not isinstance(config, Mapping):
            raise TypeError(f"runtime_env['config'] must be of type dict or RuntimeEnvConfig, got: {type(config)}")
        unknown = set(config) - RuntimeEnvConfig.known_fields
        if unknown:
            logger.warning(
                "The following unknown entries in the runtime_env_config dictionary will be ignored: %s.", unknown
            )
        return RuntimeEnvConfig(**{name: config[name] for name in config if name not in unknown})

    @classmethod
    def default_config(cls) -> RuntimeEnvConfig:
        """What holds where nothing is given."""
        return cls()

    def to_dict(self) -> dict[str, Any]:
        """A plain dict of it."""
        return json.loads(json.dumps(self))


def env_vars(value: Any) -> dict[str, str] | None:
    """Variables by name; None for no variables."""
    if not isinstance(value, Mapping):
        raise TypeError(f"runtime_env['env_vars'] must be of type Dict[str, str], got {type(value)}")
    for name, content in value.items():
        for what, part in (("key", name), ("value", content)):
            if not isinstance(part, str):
                raise TypeError(
                    f"runtime_env['env_vars'] must be of type Dict[str, str], but the {what} {part} is of type {type(part)}"
                )
        if not name or "=" in name or "\0" in name + content:
            raise ValueError(
                f"runtime_env['env_vars']: {name!r} cannot be the name of an environment variable with that value."
            )
    return dict(value) or None


def working_dir(value: Any) -> str:
    """The path of a folder or a .zip file, or the address of an archive."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise TypeError(f"`working_dir` must be a string, got {type(value)}.")
    _check_path_or_address(value, "working_dir", (".zip", ".tar.gz", ".tgz", ".tar.xz"))
    return value


def py_modules(value: Any) -> list[Any]:
    """Paths of packages, .py and .whl files, addresses of archives, or modules that have been imported."""
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"`py_modules` must be a list of strings, got {type(value)}.")
    checked = []
    for item in value:
        if isinstance(item, os.PathLike):
            item = os.fspath(item)
        if not isinstance(item, str) and not hasattr(item, "__spec__"):
            raise TypeError(f"`py_module` must be a string, got {type(item)}.")
        if isinstance(item, str):
            _check_path_or_address(item, "py_modules", ARCHIVE_ENDINGS)
        checked.append(item)
    return checked


def is_address(value: str) -> bool:
    """Whether it names an archive elsewhere, not a path."""
    return "://" in value


def _check_path_or_address(value: str, field: str, endings: tuple[str, ...]) -> None:
    if is_address(value):
        if not value.split("?", 1)[0].endswith(endings):
            raise ValueError(
                f"runtime_env[{field!r}]: only {', '.join(endings)} files can be given by address, got {value!r}."
            )
        return
    path = os.path.expanduser(value)
    if not os.path.exists(path):
        raise ValueError(f"runtime_env[{field!r}]: {value} is not a valid path.")
    if field == "working_dir" and not os.path.isdir(path) and not path.endswith(".zip"):
        raise ValueError(f"runtime_env['working_dir']: {value} is not a valid path: give a directory or a .zip file.")


def pip(value: Any) -> dict[str, Any] | None:
    """Packages in a dict, as all ways to write them mean; None for no packages."""
    return _packages("pip", value)


def uv(value: Any) -> dict[str, Any] | None:
    """As ``pip``."""
    return _packages("uv", value)


def _packages(field: str, value: Any) -> dict[str, Any] | None:
    known = INSTALLER_OPTIONS[field]
    given: dict[str, Any]
    if isinstance(value, (str, os.PathLike)):
        given = {"packages": _requirements_of(os.fspath(value))}
    elif isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        given = {"packages": list(value)}
    elif isinstance(value, Mapping):
        given = dict(value)
        if set(given) - set(known):
            raise ValueError(
                f"runtime_env[{field!r}] can only have these fields: {', '.join(known)}, but got: {list(given)}"
            )
        if "packages" not in given:
            raise ValueError(f"runtime_env[{field!r}] must include field 'packages', but got {value}")
        if isinstance(given["packages"], str):
            given["packages"] = _requirements_of(given["packages"])
        elif not isinstance(given["packages"], list):
            raise ValueError(f"runtime_env[{field!r}]['packages'] must be of type list, got: {type(given['packages'])}")
        for name, content in given.items():
            _check_installer_option(field, name, content, known[name])
    else:
        raise TypeError(f"runtime_env[{field!r}] must be of type List[str], a path or a dict, got {type(value)}")
    given["packages"] = list(dict.fromkeys(given["packages"]))
    given.setdefault(f"{field}_check", False)
    return given if given["packages"] else None


def _check_installer_option(field: str, name: str, content: Any, kind: type) -> None:
    path = f"runtime_env[{field!r}][{name!r}]"
    if not isinstance(content, kind):
        wanted = "list[str]" if kind is list else kind.__name__
        raise TypeError(f"{path} must be of type {wanted}, got {type(content)}")
    for index, item in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(item, str):
            raise TypeError(f"{path} must be of type list[str] got {type(item)} for {index}-th item.")


def _requirements_of(path: str) -> list[str]:
    expanded = os.path.expanduser(path)
    if not os.path.isfile(expanded):
        raise ValueError(f"{path} is not a valid file")
    with open(expanded, encoding="utf-8") as file:
        lines = [line.strip() for line in file]
    return [line for line in lines if line and not line.startswith("#")]


def conda(value: Any) -> Any:
    """The name or folder of an environment, or its description: a dict, or the path of a file that holds one."""
    if isinstance(value, str):
        if value.endswith((".yaml", ".yml")) and not os.path.isfile(value):
            raise ValueError(f"Can't find conda YAML file {value}.")
        if os.path.isabs(value) and not os.path.exists(value):
            raise ValueError(f"Can't find conda env directory {value}.")
        return value
    if not isinstance(value, Mapping):
        raise TypeError(f"runtime_env['conda'] must be of type str or dict, got {type(value)}.")
    return dict(value)


def excludes(value: Any) -> list[str] | None:
    """Patterns, as in .gitignore files; None for none."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"runtime_env['excludes'] must be of type List[str], got {type(value)}")
    return list(value) or None


def py_executable(value: Any) -> str:
    """A Python interpreter: its path or name, and arguments for it."""
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"runtime_env['py_executable'] must be a string, got {value!r}.")
    return value


def setup_hook(value: Any) -> Any:
    """A function, or the name of one: "module.function"."""
    if isinstance(value, str):
        if "." not in value:
            raise ValueError(f"runtime_env['worker_process_setup_hook']: {value!r} must be 'module.function'.")
    elif not callable(value):
        raise TypeError(
            f"runtime_env['worker_process_setup_hook'] must be a function or 'module.function', got {type(value)}."
        )
    return value


CHECKS: dict[str, Callable[[Any], Any]] = {
    "env_vars": env_vars,
    "working_dir": working_dir,
    "py_modules": py_modules,
    "py_executable": py_executable,
    "pip": pip,
    "uv": uv,
    "conda": conda,
    "excludes": excludes,
    "worker_process_setup_hook": setup_hook,
    "config": RuntimeEnvConfig.parse_and_validate_runtime_env_config,
}
"""What raybook acts upon, and how it is read."""
