"""Launcher: takes every machine of a hosts file through its steps, side by side, and says how each of them fares.

    up    reach → environment → setup → start the head → start the workers        down   reach → stop → remove
What is there already is kept: a second ``up`` starts what is missing. A machine that fails loses nobody else's work; without
a head there is nothing to join. All state is on the machines, so ``down`` needs the file and no memory.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from raybook.api import local_cluster, split_cluster
from raybook.base.errors import RayError
from raybook.base.version import VERSION
from raybook.protocol.auth import new_token
from raybook.protocol.messages.daemons import NodeAmounts
from raybook.runtime_env.packages import find_uv
from raybook.ssh_hosts import scripts
from raybook.ssh_hosts.hosts_file import HostsFile, HostSpec
from raybook.ssh_hosts.scripts import Corner, Survey
from raybook.ssh_hosts.ssh import Ran, SshConnections, SshError
from raybook.ssh_hosts.wheel import build_wheel

PARALLEL_MAX = 32
"""Machines worked on at once: each is a process of ssh's here."""
ENVIRONMENT_TIMEOUT_S = 1_800.0
"""torch over a slow line takes this long, and nobody waits longer."""
SETUP_TIMEOUT_S = 1_800.0
START_TIMEOUT_S = 60.0
UPLOAD_TIMEOUT_S = 600.0


class Progress(msgspec.Struct, frozen=True):
    """One machine took a step. step: reach, environment, setup, start, stop or remove."""

    host: str
    step: str
    text: str
    failed: bool = False


class Outcome(msgspec.Struct, frozen=True):
    """How it went. address: of the cluster's GCS, "" when there is none. failures: machine → why."""

    address: str
    started: list[str]
    kept: list[str]
    failures: dict[str, str]


class Launcher:
    """tell: called for each step, from several threads, one call at a time."""

    def __init__(self, hosts: HostsFile, tell: Callable[[Progress], None]) -> None:
        self._hosts = hosts
        self._spec = hosts.environment
        self._tell_all = tell
        self._telling = threading.Lock()
        self._python = self._spec.python or ".".join(platform.python_version_tuple()[:2])
        self._failures: dict[str, str] = {}
        self._started: list[str] = []
        self._kept: list[str] = []
        self._packing = threading.Lock()
        self._wheel: tuple[str, bytes] | None = None
        self._connections = SshConnections()

    def __enter__(self) -> Launcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._connections.close()

    def up(self) -> Outcome:
        """Start what is not running. SshError when the head cannot be had; workers' failures are in the outcome."""
        head = self._hosts.head
        with ThreadPoolExecutor(PARALLEL_MAX, thread_name_prefix="ssh") as threads:
            # Environments take longest, so the workers' are made while the head starts.
            ready = {host.label: threads.submit(self._guard, self._prepare, host) for host in self._hosts.workers}
            if head is None:
                address, token = self._start_local_head()
            else:
                survey = self._guard(self._prepare, head)
                found = self._guard(self._start_head, head, survey) if survey is not None else None
                if found is None:
                    raise SshError(f"The head {head.label} could not be started: {self._failures[head.label]}")
                address, token = found
            joining = []
            for host in self._hosts.workers:
                joining.append(threads.submit(self._join_when_ready, host, ready[host.label].result, address, token))
            for each in joining:
                each.result()
        return Outcome(address, self._started, self._kept, self._failures)

    def down(self) -> Outcome:
        """Stop everything that ``up`` has started, and remove what it has left. Idempotent."""
        with ThreadPoolExecutor(PARALLEL_MAX, thread_name_prefix="ssh") as threads:
            for each in [threads.submit(self._guard, self._stop, host) for host in self._hosts.workers]:
                each.result()
        if self._hosts.head is not None:
            self._guard(self._stop, self._hosts.head)
        else:
            for record in local_cluster.list_clusters():
                if record.name == self._hosts.name:
                    local_cluster.stop_cluster(record)
                    self._tell("this machine", "stop", "its cluster is gone")
        return Outcome("", [], [], self._failures)

    def prepare(self, host: HostSpec) -> Survey:
        """Reach a machine and see that it has the environment. SshError."""
        return self._prepare(host)

    def lasting_command(self, host: HostSpec, survey: Survey, address: str, token: bytes) -> list[str]:
        """The command of a connection of its own that starts a node there. The node lives as long as the command's
        standard input is open, and then nothing of it is left. SshError."""
        corner = Corner(self._hosts.name, host)
        self._send(host, corner.receive("token"), token, "its token")
        words = ["--address", address, *scripts.start_words(host, host.ip or survey.ip), "--while-stdin-open"]
        return self._connections.command(host, corner.start_and_remove(self._spec, words), shares=False)

    def own_address(self) -> str:
        """This machine's address as a worker sees it. SshError when no worker can be asked."""
        for host in self._hosts.workers:
            survey = self._guard(self._look_at, host)
            if isinstance(survey, Survey) and survey.our_ip:
                return survey.our_ip
        raise SshError("No worker could be reached, so there is nothing to start:\n" + failures_text(self._failures))

    # --- steps --------------------------------------------------------------------------------------------------------

    def _guard(self, step: Callable[..., Any], host: HostSpec, *arguments: object) -> Any:
        """A step of one machine; its failure is noted, and nobody else's business."""
        try:
            return step(host, *arguments)
        except (SshError, OSError) as error:
            self._failures[host.label] = str(error)
            self._tell(host.label, "failed", str(error), failed=True)
            return None

    def _look_at(self, host: HostSpec) -> Survey:
        return scripts.survey_of(self._run(host, Corner(self._hosts.name, host).survey(), "looking at it").out)

    def _prepare(self, host: HostSpec) -> Survey:
        corner = Corner(self._hosts.name, host)
        began = time.monotonic()
        survey = self._look_at(host)
        if not survey.system.startswith("Linux"):
            raise SshError(f"raybook's nodes run on Linux; {host.label} runs {survey.system or 'something else'}.")
        self._tell(host.label, "reach", f"{survey.system}, in {time.monotonic() - began:.1f} s")
        if not self._spec.interpreter:
            self._make_environment(host, corner, survey)
        checked = self._connections.run(host, corner.check_interpreter(self._spec))
        found = scripts.answers(checked.out)
        ours = ".".join(platform.python_version_tuple()[:2])
        why = scripts.why_unfit(found, ours, VERSION, self._spec.interpreter)
        if why:
            raise SshError(why + ("" if found else f" It said:\n{scripts.last_lines(checked.err)}"))
        for command in self._hosts.setup_commands:
            ran = self._connections.run(host, scripts.setup(command, self._spec), timeout_s=SETUP_TIMEOUT_S)
            if ran.code:
                raise SshError(f"`{command}` failed with code {ran.code}:\n{scripts.last_lines(ran.out + ran.err)}")
            self._tell(host.label, "setup", command)
        return survey

    def _make_environment(self, host: HostSpec, corner: Corner, survey: Survey) -> None:
        name, wheel = self._packed()
        requirements = Path(self._spec.requirements).read_text() if self._spec.requirements else ""
        stamp = scripts.stamp_of(self._spec, self._python, hashlib.sha256(wheel).hexdigest(), requirements)
        if survey.stamp == stamp:
            self._tell(host.label, "environment", "is there already")
            return
        began = time.monotonic()
        uv = survey.uv
        if not uv:
            self._send(host, corner.receive("uv", "700"), self._our_uv(survey), "uv")
        self._send(host, corner.receive(name), wheel, "raybook")
        if requirements:
            self._send(host, corner.receive("requirements.txt"), requirements.encode(), "its requirements")
        self._tell(host.label, "environment", f"making it with uv, Python {self._python}")
        script = corner.make_environment(uv, self._spec, self._python, name, stamp)
        self._run(host, script, "making its environment", ENVIRONMENT_TIMEOUT_S)
        self._tell(host.label, "environment", f"made in {time.monotonic() - began:.1f} s")

    def _our_uv(self, survey: Survey) -> bytes:
        """The program uv of this machine, for one of the same kind that has none."""
        ours = f"{platform.system()} {platform.machine()}"
        path = find_uv(os.environ)
        if path is None or survey.system != ours:
            raise SshError(
                "The machine has no uv, which makes its environment, and there is none here to copy. Install it there "
                "(https://docs.astral.sh/uv), or name an `interpreter` that has raybook."
            )
        return Path(path).read_bytes()

    def _packed(self) -> tuple[str, bytes]:
        with self._packing:
            if self._wheel is None:
                with tempfile.TemporaryDirectory(prefix="raybook-wheel-") as folder:
                    path = build_wheel(Path(folder))
                    self._wheel = (path.name, path.read_bytes())
            return self._wheel

    # --- head ---------------------------------------------------------------------------------------------------------

    def _start_local_head(self) -> tuple[str, bytes]:
        hosts = self._hosts
        for record in local_cluster.list_clusters():
            if record.name == hosts.name:
                self._kept.append("this machine")
                self._tell("this machine", "start", f"the cluster runs already, at {record.address}")
                return record.address, Path(record.token_file).read_bytes()
        host = self.own_address()
        try:
            record = split_cluster.start_head(NodeAmounts(), name=hosts.name, host=host, port=hosts.port)
        except (RayError, ValueError, OSError) as error:
            raise SshError(
                f"The head could not be started on this machine, at {host}, which is how the workers see it: {error}\n"
                "If that is an address of a router's, take a machine as head that all of them reach."
            ) from None
        self._started.append("this machine")
        self._tell("this machine", "start", f"head at {record.address}")
        return record.address, Path(record.token_file).read_bytes()

    def _start_head(self, host: HostSpec, survey: Survey) -> tuple[str, bytes]:
        corner = Corner(self._hosts.name, host)
        for _, name, address in self._clusters(host, corner):
            if name == self._hosts.name:
                self._kept.append(host.label)
                self._tell(host.label, "start", f"runs already, at {address}")
                said = self._run(host, corner.token(), "reading its token").out
                return address, base64.b64decode(scripts.answers(said)["token"])
        token = new_token()
        self._send(host, corner.receive("token"), token, "its token")
        ip = host.ip or survey.ip
        if not ip:
            raise SshError("The machine does not say by which address it was reached; write it as `ip`.")
        words = ["--head", "--name", self._hosts.name, "--port", str(self._hosts.port)]
        words += [*scripts.start_words(host, ip), *self._hosts.start_options]
        self._run(host, corner.start(self._spec, words), "starting the head", START_TIMEOUT_S)
        self._started.append(host.label)
        self._tell(host.label, "start", f"head at {ip}:{self._hosts.port}")
        return f"{ip}:{self._hosts.port}", token

    # --- workers ------------------------------------------------------------------------------------------------------

    def _join_when_ready(self, host: HostSpec, prepared: Callable[[], object], address: str, token: bytes) -> None:
        survey = prepared()
        if isinstance(survey, Survey):
            self._guard(self._join, host, survey, address, token)

    def _join(self, host: HostSpec, survey: Survey, address: str, token: bytes) -> None:
        corner = Corner(self._hosts.name, host)
        known = [found for _, _, found in self._clusters(host, corner)]
        if address in known:
            self._kept.append(host.label)
            self._tell(host.label, "start", "runs already")
            return
        if known:
            self._run(host, corner.stop(self._spec), "stopping a node of an earlier cluster")
        self._send(host, corner.receive("token"), token, "its token")
        ip = host.ip or survey.ip
        if not ip:
            raise SshError("The machine does not say by which address it was reached; write it as `ip`.")
        words = ["--address", address, *scripts.start_words(host, ip)]
        self._run(host, corner.start(self._spec, words), "joining the cluster", START_TIMEOUT_S)
        self._started.append(host.label)
        self._tell(host.label, "start", f"has joined, as {ip}")

    def _clusters(self, host: HostSpec, corner: Corner) -> list[list[str]]:
        """(id, name, address) of what this entry has running."""
        said = self._run(host, corner.clusters(self._spec), "looking for its nodes").out
        return list(json.loads(scripts.answers(said).get("clusters", "[]")))

    def _stop(self, host: HostSpec) -> None:
        corner = Corner(self._hosts.name, host)
        self._run(host, corner.stop(self._spec), "stopping it")
        self._tell(host.label, "stop", "nothing of it runs")
        self._run(host, corner.remove(), "removing its folder")
        self._tell(host.label, "remove", "nothing of it is left")

    # --- words --------------------------------------------------------------------------------------------------------

    def _run(self, host: HostSpec, script: str, what: str, timeout_s: float = START_TIMEOUT_S) -> Ran:
        ran = self._connections.run(host, script, timeout_s=timeout_s)
        if ran.code:
            raise SshError(f"{what[:1].upper()}{what[1:]} failed with code {ran.code}:\n{_said(ran)}")
        return ran

    def _send(self, host: HostSpec, script: str, data: bytes, what: str) -> None:
        ran = self._connections.run(host, script, data, UPLOAD_TIMEOUT_S)
        if ran.code:
            raise SshError(f"Copying {what} there failed with code {ran.code}:\n{_said(ran)}")

    def _tell(self, host: str, step: str, text: str, failed: bool = False) -> None:
        with self._telling:
            self._tell_all(Progress(host, step, text, failed))


def _said(ran: Ran) -> str:
    return scripts.last_lines(f"{ran.out}\n{ran.err}")


def failures_text(failures: Mapping[str, str]) -> str:
    """One line or more for each machine."""
    return "\n".join(f"  {host}: {why}" for host, why in failures.items())
