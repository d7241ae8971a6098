"""ssh: runs OpenSSH's own client, so that a user's keys, agent, ``~/.ssh/config`` and jump hosts work as they are used to.

One master connection a machine carries all its commands (``ControlMaster``): the second costs a round trip, not a key
exchange. Never asks for anything (``BatchMode``): a question that nobody sees would hang.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import msgspec

from raybook.ssh_hosts.hosts_file import HostSpec
from raybook.ssh_hosts.ssh_errors import SSH_FAILED, explain

CONNECT_TIMEOUT_S = 10
ALIVE_INTERVAL_S = 15
"""Between questions whether the other side is there; after three without an answer the connection is over."""
COMMAND_TIMEOUT_S = 60.0


class SshError(Exception):
    """A machine cannot be reached, or a command there failed; the text says what to do."""


class Ran(msgspec.Struct, frozen=True):
    """A command that was run on a machine."""

    code: int
    out: str
    err: str


class SshConnections:
    """Master connections of one launch. A context manager: closes them all."""

    def __init__(self) -> None:
        if shutil.which("ssh") is None:
            raise SshError("The program ssh is not installed here (Debian: package openssh-client).")
        # Short, because the path of a socket has 107 characters.
        self._folder = Path(tempfile.mkdtemp(prefix="rbssh-", dir="/tmp"))
        self._open: dict[str, HostSpec] = {}

    def __enter__(self) -> SshConnections:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, host: HostSpec, script: str, stdin: bytes = b"", timeout_s: float = COMMAND_TIMEOUT_S) -> Ran:
        """Run a script there. SshError when ssh could not, or it did not end in time; a script's failure is an answer."""
        self._open[host.label] = host
        command = self.command(host, script)
        try:
            done = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            raise SshError(f"A step did not end within {timeout_s:g} s on {host.label}, and was given up.") from None
        ran = Ran(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
        if ran.code == SSH_FAILED:
            raise SshError(explain(host.target, host.host, ran.err))
        return ran

    def command(self, host: HostSpec, script: str, shares: bool = True) -> list[str]:
        """The command line. shares: over the master connection; else over one of its own, whose end is its end."""
        words = ["ssh", "-T"]
        for option, value in self._options(host, shares).items():
            words += ["-o", f"{option}={value}"]
        if host.port:
            words += ["-p", str(host.port)]
        if host.identity_file:
            words += ["-i", str(Path(host.identity_file).expanduser()), "-o", "IdentitiesOnly=yes"]
        # Whatever their shell is, it starts ours.
        return [*words, "--", host.target, f"sh -c {shlex.quote(script)}"]

    def _options(self, host: HostSpec, shares: bool) -> dict[str, str]:
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": str(CONNECT_TIMEOUT_S),
            "ServerAliveInterval": str(ALIVE_INTERVAL_S),
            "ServerAliveCountMax": "3",
            "LogLevel": "ERROR",
            "ControlMaster": "auto" if shares else "no",
            "ControlPath": f"{self._folder}/%C" if shares else "none",
            "ControlPersist": "60" if shares else "no",
        }
        # Ours first: ssh takes the first value it reads, but a user's word on the same option shall count.
        return {**options, **host.ssh_options}

    def close(self) -> None:
        """End the master connections. Idempotent."""
        hosts, self._open = list(self._open.values()), {}
        for host in hosts:
            words = ["ssh", "-o", f"ControlPath={self._folder}/%C", "-O", "exit"]
            if host.port:
                words += ["-p", str(host.port)]
            for option in ("HostName", "User", "ProxyJump"):
                if option in host.ssh_options:
                    words += ["-o", f"{option}={host.ssh_options[option]}"]
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run([*words, "--", host.target], capture_output=True, timeout=5, check=False)
        shutil.rmtree(self._folder, ignore_errors=True)
