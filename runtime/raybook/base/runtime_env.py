"""RuntimeEnv: the dict that ``runtime_env=`` takes, checked when it is made and whenever a field is set.

It says what is wanted. What of it makes a worker is a record of its own (``base/environments``).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

from raybook.base.runtime_env_fields import CHECKS, RuntimeEnvConfig

NOT_HERE = frozenset({"container", "image_uri", "java_jars", "nsight", "_nsight", "rocprof_sys", "_rocprof_sys", "mpi"})
"""Fields of Ray's for containers, Java and profilers, which raybook does not start."""
NOTES = frozenset({"_ray_release", "_ray_commit", "_inject_current_ray"})
"""What Ray writes into environments for itself."""
INSTALLERS = ("pip", "uv", "conda")


class RuntimeEnv(dict[str, Any]):
    """``RuntimeEnv(env_vars={"A": "1"})``; fields that are None are not there.

    TypeError and ValueError name the field that is wrong; a field that nobody knows is refused, because a misspelt one
    would be silently without effect. Paths are looked at: a folder that is not there is a ValueError.
    """

    known_fields = frozenset(CHECKS) | NOT_HERE | NOTES
    extensions_fields = NOTES

    def __init__(
        self,
        *,
        py_modules: list[str] | None = None,
        py_executable: str | None = None,
        working_dir: str | None = None,
        pip: Any = None,
        conda: Any = None,
        container: dict[str, str] | None = None,
        env_vars: dict[str, str] | None = None,
        worker_process_setup_hook: Any = None,
        nsight: Any = None,
        rocprof_sys: Any = None,
        config: Any = None,
        _validate: bool = True,
        image_uri: str | None = None,
        uv: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        given = {
            "py_modules": py_modules,
            "py_executable": py_executable,
            "working_dir": working_dir,
            "pip": pip,
            "uv": uv,
            "conda": conda,
            "container": container,
            "env_vars": env_vars,
            "worker_process_setup_hook": worker_process_setup_hook,
            "nsight": nsight,
            "rocprof_sys": rocprof_sys,
            "config": config,
            "image_uri": image_uri,
            **kwargs,
        }
        given = {name: value for name, value in given.items() if value is not None}
        if not _validate:
            self.update(given)
            return
        installers = [name for name in INSTALLERS if given.get(name) is not None]
        if len(installers) > 1:
            raise ValueError(
                "The 'pip' field, 'uv' field, and 'conda' field of runtime_env cannot be specified at the same time, but "
                f"{' and '.join(map(repr, installers))} were. Put all packages into one of them."
            )
        for name, value in given.items():
            self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        if name in CHECKS:
            value = CHECKS[name](value)
            if value is not None:
                super().__setitem__(name, value)
        elif name in NOT_HERE:
            raise ValueError(
                f"runtime_env[{name!r}] is not supported: raybook starts its workers as processes of this machine. Leave "
                "it out."
            )
        elif name in NOTES:
            super().__setitem__(name, value)
        else:
            close = next((known for known in CHECKS if _bare(known) == _bare(name)), None)
            meant = f" Did you mean {close!r}?" if close else ""
            raise ValueError(f"runtime_env has no field {name!r}.{meant} Valid ones are {sorted(CHECKS)}.")

    def __reduce__(self) -> tuple[Any, ...]:
        # It was checked where it was written: another machine need not have the folder.
        return _unchecked, (dict(self),)

    def set(self, name: str, value: Any) -> None:
        """Set a field, checked."""
        self[name] = value

    def get(self, name: str, default: Any = None, data_class: Any = None) -> Any:  # type: ignore[override]
        """A field; ``data_class``: made into one."""
        value = super().get(name, default)
        return data_class(**value) if data_class is not None and name in self else value

    def to_dict(self) -> dict[str, Any]:
        """A plain dict of it, that shares nothing with it."""
        plain = copy.deepcopy(dict(self))
        if "config" in plain:
            plain["config"] = dict(plain["config"])
        return plain

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> RuntimeEnv:
        """From such a dict."""
        return cls(**fields)

    def serialize(self) -> str:
        """As JSON, fields in the order of their names. TypeError for a hook or a module, which has no JSON."""
        return json.dumps(self, sort_keys=True)

    @classmethod
    def deserialize(cls, serialized_runtime_env: str) -> RuntimeEnv:
        """What ``serialize`` wrote; it was checked then."""
        return cls(_validate=False, **json.loads(serialized_runtime_env))

    # Fields by the names of Ray's accessors.

    def has_working_dir(self) -> bool:
        return "working_dir" in self

    def working_dir(self) -> str:
        return self.get("working_dir", "")

    def working_dir_uri(self) -> str | None:
        return self.get("working_dir")

    def py_modules(self) -> list[Any]:
        return list(self.get("py_modules", ()))

    def py_modules_uris(self) -> list[Any]:
        return self.py_modules()

    def py_executable(self) -> str | None:
        return self.get("py_executable")

    def env_vars(self) -> dict[str, str]:
        return self.get("env_vars", {})

    def has_pip(self) -> bool:
        return "pip" in self

    def pip_config(self) -> dict[str, Any]:
        return self.get("pip", {})

    def has_uv(self) -> bool:
        return "uv" in self

    def uv_config(self) -> dict[str, Any]:
        return self.get("uv", {})

    def has_conda(self) -> bool:
        return bool(self.get("conda"))

    def conda_env_name(self) -> str | None:
        named = self.get("conda")
        return named if isinstance(named, str) else None

    def conda_config(self) -> str | None:
        described = self.get("conda")
        return json.dumps(described, sort_keys=True) if isinstance(described, dict) else None

    def get_extension(self, key: str) -> Any:
        """One of Ray's notes. ValueError for another name."""
        if key not in self.extensions_fields:
            raise ValueError(f"Extension key must be one of {set(self.extensions_fields)}, got: {key}")
        return self.get(key)

    def plugins(self) -> list[tuple[str, Any]]:
        """Fields of plug-ins: raybook has none."""
        return []


def _bare(name: str) -> str:
    """A field's name without what people forget. (``difflib`` would cost every start a millisecond.)"""
    return str(name).lower().replace("_", "").replace("-", "").rstrip("s")


def _unchecked(fields: dict[str, Any]) -> RuntimeEnv:
    return RuntimeEnv(_validate=False, **fields)


def merge(
    parent: Mapping[str, Any] | None, child: Mapping[str, Any] | None, override: bool = False
) -> dict[str, Any] | None:
    """Two environments as one: the child's fields on top of the parent's, ``env_vars`` variable by variable. None when
    both set the same field or variable and the child may not override."""
    first, second = dict(parent or {}), dict(child or {})
    first_vars, second_vars = dict(first.pop("env_vars", None) or {}), dict(second.pop("env_vars", None) or {})
    if not override and (first.keys() & second.keys() or first_vars.keys() & second_vars.keys()):
        return None
    merged = {**first, **second}
    if first_vars or second_vars:
        merged["env_vars"] = {**first_vars, **second_vars}
    return merged


__all__ = ["RuntimeEnv", "RuntimeEnvConfig", "merge"]
