"""Runtime environments: what a worker process must be like, as one record, and the key that names it.

The key *is* the record, as canonical JSON: whoever has it (a lease request, an actor's spec, a worker) needs nobody to
look it up with, and equal environments have equal keys on every node. "" is the plain environment. A child inherits its
parent's fields; its own win, ``env_vars`` variable by variable. Pure: whether a folder exists is for others to find out.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec

from raybook.base.config import AS_RAY_VARIABLE
from raybook.base.runtime_env import RuntimeEnv
from raybook.base.runtime_env_fields import SETUP_TIMEOUT_S, RuntimeEnvConfig

PLAIN = ""
PICKLED = "base64:"
"""How a setup hook begins that is a pickled function."""
ABOUT_INTERPRETERS = ("packages", "install_options", "installer", "packages_checked", "conda", "interpreter")


class Environment(msgspec.Struct, frozen=True, omit_defaults=True):
    """A checked environment.

    working_dir, py_modules: addresses of archives (``io/archives``), here or elsewhere. packages: requirements to install,
    as pip writes them, asked for under the name ``installer``; install_options: more arguments for it; packages_checked:
    whether what is installed must fit together. conda: an environment's name or folder, or its description as JSON.
    interpreter: path or name of one, with arguments. setup_hook: "module.function", or "base64:" and a pickled one; each
    worker calls it before its first task. setup_timeout_s: -1 for none.
    """

    env_vars: dict[str, str] = {}
    working_dir: str = ""
    py_modules: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    install_options: tuple[str, ...] = ()
    setup_hook: str = ""
    installer: str = ""
    packages_checked: bool = False
    conda: str = ""
    interpreter: str = ""
    setup_timeout_s: int = SETUP_TIMEOUT_S

    @property
    def key(self) -> str:
        """Its name for the scheduler; "" when it asks for nothing."""
        encoded = msgspec.json.encode(self, order="sorted").decode()
        return PLAIN if encoded == "{}" else encoded

    def on_top_of(self, parent: Environment) -> Environment:
        """A child's environment."""
        given = msgspec.structs.asdict(self)
        plain = msgspec.structs.asdict(Environment())
        given = {name: value for name, value in given.items() if value != plain[name]}
        if self.packages or self.conda or self.interpreter:
            # Who says what a child's interpreter has says all of it.
            parent = msgspec.structs.replace(parent, **{name: plain[name] for name in ABOUT_INTERPRETERS})
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


def as_user_dict(environment: Environment) -> RuntimeEnv:
    """As the user would write it; a pickled hook is shown as such."""
    shown: dict[str, Any] = {
        "env_vars": {name: value for name, value in environment.env_vars.items() if name != AS_RAY_VARIABLE},
        "working_dir": environment.working_dir,
        "py_modules": list(environment.py_modules),
        "py_executable": environment.interpreter,
        "conda": json.loads(environment.conda) if environment.conda.startswith("{") else environment.conda,
        "worker_process_setup_hook": environment.setup_hook[:64],
    }
    if environment.packages:
        installer = environment.installer or "pip"
        packages = {"packages": list(environment.packages), f"{installer}_check": environment.packages_checked}
        if environment.install_options:
            options = "pip_install_options" if installer == "pip" else "uv_pip_install_options"
            packages[options] = list(environment.install_options)
        shown[installer] = packages
    if environment.setup_timeout_s != SETUP_TIMEOUT_S:
        shown["config"] = RuntimeEnvConfig(setup_timeout_seconds=environment.setup_timeout_s)
    return RuntimeEnv(_validate=False, **{name: value or None for name, value in shown.items()})
