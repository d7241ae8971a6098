"""Plan: how a worker of an environment is started on this node: which variables, paths, folder and interpreter.

Most workers are forked, in a millisecond. What an interpreter or a loader reads only once, at its start, cannot be given
to a fork: such an environment's workers are started afresh, as are those with packages of their own.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping

import msgspec

from raybook.base.environments import Environment

READ_AT_START = ("PYTHON", "LD_", "OMP_", "MALLOC_", "MKL_", "OPENBLAS_", "KMP_", "NUMEXPR_", "GLIBC_")
"""Beginnings of variables that count only when a process begins (ARCHITECTURE §13)."""
_REFERENCE = re.compile(r"\$\{(\w+)\}")


class EnvironmentFailed(Exception):
    """The environment cannot be had on this node; the text says why, with the end of the log where there is one."""


class WorkerPlan(msgspec.Struct, frozen=True):
    """interpreter: "" for a fork. import_paths: come before all others."""

    variables: dict[str, str] = {}
    import_paths: tuple[str, ...] = ()
    working_dir: str = ""
    interpreter: str = ""


def make_plan(
    environment: Environment, environ: Mapping[str, str], folders: Mapping[str, str], interpreter: str = ""
) -> WorkerPlan:
    """The plan. environ: of this node, for ``${NAME}`` in values. folders: where the environment's archives lie here, by
    address. interpreter: of the environment's packages. EnvironmentFailed when there is no such interpreter."""
    variables = _expanded(environment.env_vars, environ)
    working_dir = folders[environment.working_dir] if environment.working_dir else ""
    paths = [working_dir] if working_dir else []
    paths += [folders[address] for address in environment.py_modules]
    interpreter = interpreter or _executable(environment.interpreter)
    if not interpreter and any(name.startswith(READ_AT_START) for name in variables):
        interpreter = sys.executable
    return WorkerPlan(variables, tuple(dict.fromkeys(paths)), working_dir, interpreter)


def _expanded(variables: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Values with ``${NAME}`` replaced: by another of these variables, or the node's; a name that nobody has by nothing.
    A variable that mentions itself means the node's."""

    def expand(name: str, value: str, others: Mapping[str, str]) -> str:
        return _REFERENCE.sub(
            lambda match: others[match[1]] if match[1] in others and match[1] != name else environ.get(match[1], ""),
            value,
        )

    by_node = {name: expand(name, value, {}) for name, value in variables.items()}
    return {name: expand(name, value, by_node) for name, value in variables.items()}


def _executable(command: str) -> str:
    """The command with the full path of its program."""
    if not command:
        return ""
    name, *arguments = shlex.split(command)
    found = shutil.which(os.path.expanduser(name))
    if found is None:
        raise EnvironmentFailed(f"There is no program {name} (py_executable) on this node.")
    return shlex.join([found, *arguments])
