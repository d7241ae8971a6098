"""Supervisor: the actor that runs one job's command, and ends everything the command began.

The command is a shell's, in a session of its own, with its output in the job's log, RAYBOOK_ADDRESS and RAY_ADDRESS naming
this cluster, and a mark in its environment by which its processes are known however far they went. Stopping is SIGTERM to
all of them, and SIGKILL to those that are still there after a while. The supervisor's resources are the command's, its
runtime environment the job's.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from raybook.api import get_runtime_context
from raybook.api.context import started_engine
from raybook.api.submitted_job import VARIABLE
from raybook.base.environments import environment_of
from raybook.io.daemon import source_root
from raybook.io.process import become_subreaper, descendants, is_alive, start_time

MARK = "RAYBOOK_JOB_SUBMISSION_ID"
PATH_FILE = "raybook-base.pth"
"""Python's own way to say where else to look."""
LOG_TAIL_BYTES = 20_000
GONE_S_MAX = 10.0
"""A killed process that is in the kernel (a slow disk) takes its time; so much is waited for it."""
LOOK_S = 0.05
"""How often a stop looks whether the processes are gone."""


class JobSupervisor:
    """One job's. Its methods are coroutines, so that a stop is heard while the command runs."""

    def __init__(self, submission_id: str) -> None:
        self._id = submission_id
        self._log_path = os.path.join(started_engine().session_dir, "logs", f"job-driver-{submission_id}.log")
        self._process: asyncio.subprocess.Process | None = None
        self._is_stopped = False
        become_subreaper()

    async def where(self) -> dict[str, Any]:
        """Node and log: ready when the actor lives, so when its resources and environment are there."""
        return {"node_id": get_runtime_context().get_node_id(), "log_path": self._log_path}

    async def start(self, entrypoint: str, config: dict[str, Any]) -> int:
        """Run the command in this process's folder; its process id. OSError when the shell cannot be started.
        Idempotent: whoever looks after the job may have died and not know."""
        if self._process is not None:
            return self._process.pid
        if self._is_stopped:
            raise RuntimeError("The job was stopped before its command began.")
        environ = self._environment(config)
        descriptor = os.open(self._log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._process = await asyncio.create_subprocess_shell(
                entrypoint,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
                env=environ,
            )
        finally:
            os.close(descriptor)
        return self._process.pid

    def _environment(self, config: dict[str, Any]) -> dict[str, str]:
        environ = dict(os.environ)
        address = started_engine().address
        environ |= {"RAYBOOK_ADDRESS": address, "RAY_ADDRESS": address, MARK: self._id, VARIABLE: json.dumps(config)}
        environ["PYTHONUNBUFFERED"] = "1"
        # `python` means the interpreter of the job's environment.
        environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), environ.get("PATH", os.defpath)])
        environment = environment_of(started_engine().environment)
        # A worker's path begins with the folders of its environment.
        folders = {*filter(None, (environment.working_dir, *environment.py_modules))}
        paths = [*sys.path[: len(folders)], *environ.get("PYTHONPATH", "").split(os.pathsep)]
        if environment.packages or environment.conda:
            _show_ours(sysconfig.get_paths()["purelib"])
        elif os.path.basename(source_root()) not in ("site-packages", "dist-packages"):
            # A source tree that is not installed: the command shall be a driver of this very version.
            paths.append(source_root())
        if joined := os.pathsep.join(dict.fromkeys(path for path in paths if path)):
            environ["PYTHONPATH"] = joined
        if environ.get("CUDA_VISIBLE_DEVICES") == "":
            # The supervisor holds no GPU, but the command may look at what there is.
            del environ["CUDA_VISIBLE_DEVICES"]
        return environ

    async def wait(self) -> dict[str, Any]:
        """The command's end: ``{"exit_code", "is_stopped", "log_tail"}``. What it left running is ended then."""
        assert self._process is not None
        code = await self._process.wait()
        await self._end_all(0)
        return {"exit_code": code, "is_stopped": self._is_stopped, "log_tail": self._tail()}

    async def stop(self, grace_s: float) -> None:
        """End the command. Idempotent."""
        self._is_stopped = True
        await self._end_all(grace_s)

    async def read_log(self, offset: int, size: int) -> bytes:
        """A part of the log."""
        try:
            with open(self._log_path, "rb") as file:
                file.seek(offset)
                return file.read(size)
        except FileNotFoundError:
            return b""

    def _tail(self) -> str:
        try:
            with open(self._log_path, "rb") as file:
                file.seek(max(os.path.getsize(self._log_path) - LOG_TAIL_BYTES, 0))
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    async def _end_all(self, grace_s: float) -> None:
        if grace_s > 0:
            for pid, _started in self._processes():
                _send(pid, signal.SIGTERM)
            end = asyncio.get_running_loop().time() + grace_s
            while any(True for _ in self._processes()) and asyncio.get_running_loop().time() < end:
                await asyncio.sleep(LOOK_S)
        while left := list(self._processes()):
            for pid, _started in left:
                _send(pid, signal.SIGKILL)
            await asyncio.sleep(LOOK_S)
            self._reap(left)

    def _reap(self, pids: list[tuple[int, int]]) -> None:
        """Orphans that became ours. The command itself is asyncio's to reap."""
        own = self._process.pid if self._process is not None else 0
        for pid, _started in pids:
            if pid != own:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    def _processes(self) -> Iterator[tuple[int, int]]:
        """(pid, start time) of what belongs to the job and lives: everything below us, and everything marked."""
        found = set(descendants(os.getpid())) | marked_processes(self._id)
        for pid in found:
            started = start_time(pid)
            if started is not None and is_alive(pid, started):
                yield pid, started


def _show_ours(site_packages: str) -> None:
    """Have the interpreter of an environment with packages of its own find ours, raybook among them, behind its own: as the
    workers of that environment do."""
    own = os.path.join(sys.prefix, "")
    lines = [path for path in sys.path if os.path.isdir(path) and not path.startswith(own)]
    aside = os.path.join(site_packages, f".raybook-{os.getpid()}.tmp")
    with open(aside, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    os.replace(aside, os.path.join(site_packages, PATH_FILE))


def marked_processes(submission_id: str) -> set[int]:
    """Processes of this user on this machine whose environment says that they belong to the job."""
    wanted = f"{MARK}={submission_id}".encode()
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
                if wanted in file.read().split(b"\0"):
                    found.add(int(name))
    return found


def kill_marked(submission_id: str) -> None:
    """End what a supervisor that was killed itself has left behind on this machine. Blocks until it is gone."""
    deadline = time.monotonic() + GONE_S_MAX
    while (left := marked_processes(submission_id)) and time.monotonic() < deadline:
        for pid in left:
            _send(pid, signal.SIGKILL)
        time.sleep(LOOK_S)


def _send(pid: int, signum: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signum)
