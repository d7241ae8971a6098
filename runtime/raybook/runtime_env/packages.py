"""Packages: a virtual environment for each set of requirements, made once and kept in the user's cache folder.

uv makes it where there is one, else venv and pip. The interpreter is this one; what it does not have of its own (raybook
among it) its workers find on our ``sys.path``, behind their own packages. A lock lets one process make it while others
wait; a half-made one is made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from raybook.base.environments import Environment
from raybook.runtime_env.plan import EnvironmentFailed

READY = "raybook-ready"
LINES_QUOTED = 30
SETUP_TIMEOUT_S = 600


def cache_dir(environ: Mapping[str, str]) -> Path:
    """Where virtual environments are kept; RAYBOOK_ENVIRONMENTS_DIR moves it."""
    chosen = environ.get("RAYBOOK_ENVIRONMENTS_DIR")
    if chosen:
        return Path(chosen)
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "raybook" / "environments"


def prepare(environment: Environment, environ: Mapping[str, str], say: Callable[[str], None]) -> str:
    """The interpreter of the environment's packages, made if need be. say: gets each line of the installer's output.
    EnvironmentFailed with the end of that. Blocks: seconds the first time, a lock's millisecond later; run it in a
    thread."""
    spec = "\n".join([sys.version, sys.executable, *sorted(environment.packages), "--", *environment.install_options])
    folder = cache_dir(environ) / hashlib.sha256(spec.encode()).hexdigest()[:20]
    interpreter = folder / "bin" / "python"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / READY).exists():
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder, interpreter, environment, say)
            (folder / READY).touch()
    return str(interpreter)


def _make(folder: Path, interpreter: Path, environment: Environment, say: Callable[[str], None]) -> None:
    requirements = [*environment.install_options, *environment.packages]
    uv = shutil.which("uv")
    say(f"installing {', '.join(environment.packages)}")
    if uv:
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], say)
        _run([uv, "pip", "install", "--python", str(interpreter), *requirements], say)
    else:
        venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
        pip = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", "--disable-pip-version-check"]
        _run([*pip, "--progress-bar", "off", *requirements], say)


def _run(command: list[str], say: Callable[[str], None]) -> None:
    kept: deque[str] = deque(maxlen=LINES_QUOTED)
    with subprocess.Popen(
        ["timeout", str(SETUP_TIMEOUT_S), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            kept.append(line.rstrip())
            say(line.rstrip())
    if process.returncode:
        how = "did not end in time" if process.returncode == 124 else f"ended with exit code {process.returncode}"
        end = "\n".join(f"  {line}" for line in kept)
        raise EnvironmentFailed(f"`{' '.join(command[:4])} …` {how}. The end of its output:\n{end}")
