"""Runtime environments: what a worker process must be like, as one record, and the key that names it.

The key *is* the record, as canonical JSON: whoever has it (a lease request, an actor's spec, a worker) needs nobody to
look it up with, and equal environments have equal keys on every node. "" is the plain environment. A child inherits its
parent's fields; its own win, ``env_vars`` variable by variable. Pure: whether a folder exists is for others to find out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

PLAIN = ""
PICKLED = "base64:"
"""How a setup hook begins that is a pickled function."""


class Environment(msgspec.Struct, frozen=True, omit_defaults=True):
    """A checked environment. Paths are absolute.

    packages: requirements to install, as pip writes them; install_options: more arguments for the installer.
    setup_hook: "module.function", or "base64:" and a pickled one; each worker calls it before its first task.
    """

    env_vars: dict[str, str] = {}
    working_dir: str = ""
    py_modules: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    install_options: tuple[str, ...] = ()
    setup_hook: str = ""

    @property
    def key(self) -> str:
        """Its name for the scheduler; "" when it asks for nothing."""
        encoded = msgspec.json.encode(self, order="sorted").decode()
        return PLAIN if encoded == "{}" else encoded

    def on_top_of(self, parent: Environment) -> Environment:
        """A child's environment."""
        given = {name: value for name in self.__struct_fields__ if (value := getattr(self, name))}
        if parent.env_vars and self.env_vars:
            given["env_vars"] = {**parent.env_vars, **self.env_vars}
        return msgspec.structs.replace(parent, **given)


def environment_of(key: str) -> Environment:
    """The record of a key."""
    return msgspec.json.decode(key, type=Environment) if key else Environment()


def merged_key(parent: str, child: str) -> str:
    """The key of a child's environment. Cost: 2 µs, nothing when one of them is plain."""
    if not parent or not child:
        return child or parent
    return environment_of(child).on_top_of(environment_of(parent)).key


def short_name(key: str) -> str:
    """A name for logs and folders: values of variables may be secret, and are not in it."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


class RuntimeEnv(dict[str, Any]):
    """The dict that ``runtime_env=`` takes, with its fields as keywords: ``RuntimeEnv(env_vars={"A": "1"})``."""

    def __init__(self, **fields: Any) -> None:
        super().__init__({name: value for name, value in fields.items() if value is not None})


def as_user_dict(environment: Environment) -> RuntimeEnv:
    """As the user would write it; a pickled hook is shown as such."""
    shown: Mapping[str, Any] = {
        "env_vars": dict(environment.env_vars),
        "working_dir": environment.working_dir,
        "py_modules": list(environment.py_modules),
        "pip": list(environment.packages),
        "worker_process_setup_hook": environment.setup_hook[:64],
    }
    return RuntimeEnv(**{name: value or None for name, value in shown.items()})
