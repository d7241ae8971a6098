"""Packages: an interpreter for each set of requirements, made once and kept in the user's cache folder.

uv makes it where there is one (``pip install 'raybook[uv]'`` brings it), else venv and pip; conda's are conda's. The
interpreter is this one; what its environment does not have (raybook among it) workers find on our ``sys.path``, behind
their own packages. A lock lets one process make it while others wait; a half-made one is made again.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import venv
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from raybook.base.environments import Environment
from raybook.runtime_env.plan import EnvironmentFailed

READY = "raybook-ready"
LINES_QUOTED = 30
UV_SOURCES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_CONFIG_FILE")
PIP_SOURCES = {
    "index-url": "--index-url",
    "extra-index-url": "--extra-index-url",
    "find-links": "--find-links",
    "trusted-host": "--allow-insecure-host",
    "constraint": "--constraint",
}
"""Settings of pip and the options of uv that mean the same."""
PIP_STRATEGY = ("--index-strategy", "unsafe-best-match")
PIP_SECTIONS = ("global.", "install.", ":env:.")
"""Of its configuration, those that it heeds more last."""
PIP_CONFIG_S = 30
LOCK_LOOK_S = 0.1
"""How often somebody who waits for another's installation looks whether his time is up."""


def cache_dir(environ: Mapping[str, str]) -> Path:
    """Where environments are kept; RAYBOOK_ENVIRONMENTS_DIR moves it."""
    chosen = environ.get("RAYBOOK_ENVIRONMENTS_DIR")
    if chosen:
        return Path(chosen)
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "raybook" / "environments"


def find_uv(environ: Mapping[str, str]) -> str | None:
    """The program uv: in PATH, or in the package ``uv`` of this interpreter. RAYBOOK_UV=0: none, use pip."""
    if environ.get("RAYBOOK_UV") == "0":
        return None
    found = shutil.which("uv", path=environ.get("PATH"))
    if found is None and importlib.util.find_spec("uv") is not None:
        from uv import find_uv_bin

        try:
            return os.fspath(find_uv_bin())
        except FileNotFoundError:
            return None
    return found


def prepare(environment: Environment, environ: Mapping[str, str], say: Callable[[str], None]) -> str:
    """The interpreter of the environment's packages, made if need be. say: gets each line of the installer's output.
    EnvironmentFailed with the end of that. Blocks: seconds the first time, a lock's millisecond later; run it in a
    thread."""
    if environment.conda and not environment.conda.startswith("{"):
        return _existing_conda(environment.conda, environ)
    setup = _Setup(environment, environ, say)
    folder = cache_dir(environ) / setup.name()
    interpreter = folder / "bin" / "python"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(Path(f"{folder}.lock"), setup):
        if not (folder / READY).exists():
            shutil.rmtree(folder, ignore_errors=True)
            try:
                setup.make(folder, interpreter)
            except EnvironmentFailed:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            (folder / READY).touch()
    return str(interpreter)


class _Setup:
    """One attempt to make an environment, and how much time it has left."""

    def __init__(self, environment: Environment, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
        self._environment = environment
        self._uv = find_uv(environ)
        self._conda = environ.get("CONDA_EXE") or shutil.which("conda", path=environ.get("PATH"))
        self._say = say
        limit_s = environment.setup_timeout_s
        self.limit_s = limit_s
        self._end_s = time.monotonic() + limit_s if limit_s > 0 else float("inf")

    def name(self) -> str:
        """The same for the same packages and the same interpreter."""
        asked = self._environment
        about = [sys.version, sys.executable, *sorted(asked.packages), "--", *asked.install_options]
        about += ["checked"] * asked.packages_checked + [asked.conda] * bool(asked.conda)
        # A file that is given by its path may be another one tomorrow.
        about += [_stamp(path) for path in asked.packages if os.path.isfile(path)]
        return hashlib.sha256("\n".join(about).encode()).hexdigest()[:20]

    def make(self, folder: Path, interpreter: Path) -> None:
        """Install everything."""
        asked = self._environment
        if asked.conda:
            self._make_conda(folder)
            return
        requirements = [*asked.install_options, *asked.packages]
        self._say(f"installing {', '.join(asked.packages)}")
        if self._uv:
            self.run([self._uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
            to = ["--python", str(interpreter)]
            self.run([self._uv, "pip", "install", *to, *self._pips_sources(), *requirements])
            if asked.packages_checked:
                self.run([self._uv, "pip", "check", *to])
            return
        venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
        pip = [sys.executable, "-m", "pip", "--python", str(interpreter), "--disable-pip-version-check"]
        self.run([*pip, "install", "--progress-bar", "off", *requirements])
        if asked.packages_checked:
            self.run([*pip, "check"])

    def _pips_sources(self) -> list[str]:
        """Where pip is configured to look for packages, as options of uv, which reads no configuration of pip's. Nothing
        when uv has been told itself, or there is no pip."""
        if any(os.environ.get(name) for name in UV_SOURCES) or importlib.util.find_spec("pip") is None:
            return []
        asked = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, timeout=PIP_CONFIG_S
        )
        options: dict[str, list[str]] = {}
        lines = [line.partition("=") for line in asked.stdout.splitlines()]
        for section in PIP_SECTIONS:
            for name, _, value in lines:
                option = PIP_SOURCES.get(name.removeprefix(section)) if name.startswith(section) else None
                if option:
                    options[option] = str(ast.literal_eval(value)).split()
        found = [part for option, values in options.items() for value in values for part in (option, value)]
        # pip takes the best version of all indexes, uv that of the first index which has any.
        return [*PIP_STRATEGY, *found] if "--extra-index-url" in options else found

    def _make_conda(self, folder: Path) -> None:
        if not self._conda:
            raise EnvironmentFailed("There is no program conda on this node (neither in PATH nor in CONDA_EXE).")
        description = Path(f"{folder}.yml")
        # JSON is YAML.
        description.write_text(self._environment.conda)
        self.run([self._conda, "env", "create", "--prefix", str(folder), "--file", str(description)])

    def left_s(self) -> float:
        """Seconds that are left. EnvironmentFailed when none are."""
        left = self._end_s - time.monotonic()
        if left <= 0:
            raise EnvironmentFailed(f"It was not set up within {self.limit_s} s (setup_timeout_seconds).")
        return left

    def run(self, command: list[str]) -> None:
        """Run an installer to its end. EnvironmentFailed when it fails or the time is up."""
        left_s = self.left_s()
        kept: deque[str] = deque(maxlen=LINES_QUOTED)
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")},
        ) as process:
            assert process.stdout is not None
            late = threading.Event()
            timer = threading.Timer(left_s, _end, (process, late)) if left_s < float("inf") else None
            if timer is not None:
                timer.daemon = True
                timer.start()
            try:
                for line in process.stdout:
                    kept.append(line.rstrip())
                    self._say(line.rstrip())
                process.wait()
            finally:
                if timer is not None:
                    timer.cancel()
        if process.returncode:
            how = f"ended with exit code {process.returncode}"
            if late.is_set():
                how = f"did not end within {self.limit_s} s (setup_timeout_seconds)"
            end = "\n".join(f"  {line}" for line in kept)
            shown = " ".join([os.path.basename(command[0]), *command[1:4]])
            raise EnvironmentFailed(f"`{shown} …` {how}. The end of its output:\n{end}")


def _end(process: subprocess.Popen[str], late: threading.Event) -> None:
    late.set()
    os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def _lock(path: Path, setup: _Setup) -> Iterator[None]:
    with open(path, "w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(min(LOCK_LOOK_S, setup.left_s()))
        yield


def _existing_conda(named: str, environ: Mapping[str, str]) -> str:
    """The interpreter of an environment that conda has made already."""
    candidates = [Path(named)]
    program = environ.get("CONDA_EXE") or shutil.which("conda", path=environ.get("PATH"))
    if program:
        root = Path(program).resolve().parents[1]
        candidates.append(root if named == "base" else root / "envs" / named)
    for folder in candidates:
        if (folder / "bin" / "python").exists():
            return str(folder / "bin" / "python")
    looked = ", ".join(str(folder) for folder in candidates)
    raise EnvironmentFailed(f"There is no conda environment {named} on this node (looked for {looked}).")


def _stamp(path: str) -> str:
    found = os.stat(path)
    return f"{path} {found.st_size} {found.st_mtime_ns}"
