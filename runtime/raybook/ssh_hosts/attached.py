"""Attached hosts: nodes on other machines that live as long as this process does, of a cluster that this process owns.

Each is held by a connection of its own: when this process ends, in whatever way, its end of the pipe closes, sshd tells the
other side, and the node there leaves and removes what it had. Nothing has to run here for that.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from raybook.ssh_hosts.hosts_file import HostsFile, HostSpec
from raybook.ssh_hosts.launcher import PARALLEL_MAX, Launcher, Progress
from raybook.ssh_hosts.scripts import last_lines
from raybook.ssh_hosts.ssh import SshError
from raybook.ssh_hosts.ssh_errors import SSH_FAILED, explain

JOINED = "has joined the cluster"
JOIN_TIMEOUT_S = 60.0
LEAVE_TIMEOUT_S = 15.0


class AttachedHosts:
    """Machines of a hosts file without its head. tell: called for each step, from several threads, one at a time."""

    def __init__(self, hosts: HostsFile, tell: Callable[[Progress], None]) -> None:
        self._hosts = hosts
        self._tell = tell
        self._launcher = Launcher(hosts, tell)
        self._held: dict[str, subprocess.Popen[bytes]] = {}
        self.failures: dict[str, str] = {}

    def own_address(self) -> str:
        """This machine as the others see it: where the head must listen. SshError."""
        return self._launcher.own_address()

    def join(self, address: str, token: bytes) -> int:
        """Start a node on each machine, side by side; how many have joined. ``failures`` has the others. Blocks until
        all have, or have failed."""
        with ThreadPoolExecutor(PARALLEL_MAX, thread_name_prefix="ssh") as threads:
            for each in [threads.submit(self._join, host, address, token) for host in self._hosts.workers]:
                each.result()
        return len(self._held)

    def close(self) -> None:
        """Have every node leave; returns when nothing of them is left. Idempotent."""
        held, self._held = self._held, {}
        for process in held.values():
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        for process in held.values():
            try:
                process.wait(LEAVE_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._launcher.__exit__()

    def _join(self, host: HostSpec, address: str, token: bytes) -> None:
        try:
            survey = self._launcher.prepare(host)
            command = self._launcher.lasting_command(host, survey, address, token)
            self._held[host.label] = self._hold(host, command)
            self._tell(Progress(host.label, "start", "has joined"))
        except (SshError, OSError) as error:
            self.failures[host.label] = str(error)
            self._tell(Progress(host.label, "failed", str(error), failed=True))

    def _hold(self, host: HostSpec, command: list[str]) -> subprocess.Popen[bytes]:
        # A session of its own: an interrupt of a cell goes to the kernel's whole process group.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        said: list[str] = []
        late = threading.Timer(JOIN_TIMEOUT_S, process.kill)
        late.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line.decode(errors="replace"))
                if JOINED in said[-1]:
                    # What it says later is its log's affair.
                    threading.Thread(target=_drain, args=(process,), name="ssh-drain", daemon=True).start()
                    return process
        finally:
            late.cancel()
        code = process.wait()
        text = "".join(said)
        if code == SSH_FAILED:
            raise SshError(explain(host.target, host.host, text))
        raise SshError(f"Joining the cluster failed with code {code}:\n{last_lines(text)}")


def _drain(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    with contextlib.suppress(ValueError, OSError):
        while process.stdout.read(65_536):
            pass
