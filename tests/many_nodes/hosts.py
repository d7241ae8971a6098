"""Hosts: "machines" made of namespaces. Each has a network, processes and a /tmp of its own; a switch connects them.

Nothing of the machine's own network is touched: bridge, addresses and routes exist inside namespaces made here. Needs root
and iproute2. What a host runs ends with it, because its first process is the init of its process namespace.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from raybook.io.process import set_death_signal

SUBNET = "10.213.7"
NOBODY = "02:00:00:00:00:01"


def why_not() -> str:
    """Why hosts cannot be made here; "" when they can."""
    if os.geteuid() != 0:
        return "namespaces with networks of their own need root"
    missing = [tool for tool in ("ip", "nsenter", "unshare") if shutil.which(tool) is None]
    return f"{', '.join(missing)} is not installed (packages iproute2, util-linux)" if missing else ""


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=20)


class Host:
    """One machine. Made by ``Network.add_host``."""

    def __init__(self, namespace: str, ip: str) -> None:
        self.namespace = namespace
        self.ip = ip
        setup = "mount -t tmpfs none /tmp && mount -t tmpfs none /dev/shm && exec sleep 1000000"
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", setup]
        # It dies with the thread that made it, at the latest.
        self._keeper = subprocess.Popen(["ip", "netns", "exec", namespace, *unshare], preexec_fn=set_death_signal)
        self._init = self._find_init()
        self.environment = {
            **os.environ,
            "RAYBOOK_TMPDIR": "/tmp/s",
            "RAYBOOK_REGISTRY_DIR": "/tmp/registry",
            "RAYBOOK_HEALTH_CHECK_PERIOD_MS": "200",
            "RAYBOOK_HEALTH_CHECK_TIMEOUT_MS": "1500",
        }

    def _find_init(self) -> int:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            children = Path(f"/proc/{self._keeper.pid}/task/{self._keeper.pid}/children").read_text().split()
            if children and Path(f"/proc/{children[0]}/cmdline").read_bytes().startswith(b"sleep"):
                return int(children[0])
            time.sleep(0.01)
        raise TimeoutError(f"The host {self.namespace} did not come up.")

    def command(self, *words: str) -> list[str]:
        return ["nsenter", "-t", str(self._init), "-m", "-p", "-n", *words]

    def run(self, *words: str, timeout_s: float = 60, stdin: str | None = None) -> str:
        """Run a command on this host; what it printed. AssertionError with that when it fails."""
        done = subprocess.run(
            self.command(*words), env=self.environment, capture_output=True, text=True, timeout=timeout_s, input=stdin
        )
        assert done.returncode == 0, f"{' '.join(words[:3])}… failed on {self.ip}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def raybook(self, *words: str) -> str:
        return self.run(sys.executable, "-m", "raybook.cli", *words)

    def python(self, program: str, timeout_s: float = 60) -> str:
        """Run a program; what it printed."""
        return self.run(sys.executable, "-", stdin=program, timeout_s=timeout_s)

    def start_python(self, program: str) -> subprocess.Popen[str]:
        """The same in the background."""
        started = subprocess.Popen(
            self.command(sys.executable, "-"), env=self.environment, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert started.stdin is not None
        started.stdin.write(program)
        started.stdin.close()
        return started

    def pull_the_plug(self) -> None:
        """Every process of it is killed at once, and nobody says goodbye."""
        if self._keeper.poll() is None:
            os.kill(self._init, signal.SIGKILL)
            self._keeper.wait(10)

    def unplug_the_cable(self) -> None:
        """Its processes live on, and are heard by nobody."""
        _run("ip", "-n", self.namespace, "link", "set", "eth0", "down")

    def plug_it_in_again(self) -> None:
        _run("ip", "-n", self.namespace, "link", "set", "eth0", "up")

    def part_from(self, other: Host) -> None:
        """Nothing reaches the other host from this one or back: what they send each other goes to a card that nobody has.
        Everybody else still hears both."""
        for here, there in ((self, other), (other, self)):
            _run(
                "ip",
                "-n",
                here.namespace,
                "neigh",
                "replace",
                there.ip,
                "lladdr",
                NOBODY,
                "dev",
                "eth0",
                "nud",
                "permanent",
            )

    def meet(self, other: Host) -> None:
        """As before ``part_from``."""
        for here, there in ((self, other), (other, self)):
            _run("ip", "-n", here.namespace, "neigh", "del", there.ip, "dev", "eth0")

    def processes(self, what: str) -> list[int]:
        """Processes of it whose command line has these words, by the host's own numbers."""
        listed = self.run(
            "sh", "-c", "for f in /proc/[0-9]*/cmdline; do echo $f $(tr '\\0' ' ' < $f); done 2>/dev/null"
        )
        return [int(line.split("/")[2]) for line in listed.splitlines() if what in line and "/cmdline" in line]


class Network:
    """Hosts on one switch. A context manager; nothing of it is left at its end."""

    def __init__(self) -> None:
        self._prefix = f"rb{os.getpid() % 100_000}"
        self._switch = f"{self._prefix}sw"
        self.hosts: list[Host] = []

    def __enter__(self) -> Network:
        _run("ip", "netns", "add", self._switch)
        _run("ip", "-n", self._switch, "link", "add", "br0", "type", "bridge")
        _run("ip", "-n", self._switch, "link", "set", "br0", "up")
        return self

    def add_host(self) -> Host:
        number = len(self.hosts) + 1
        namespace, ip = f"{self._prefix}h{number}", f"{SUBNET}.{number}"
        port = f"p{number}"
        _run("ip", "netns", "add", namespace)
        _run("ip", "-n", namespace, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", self._switch)
        _run("ip", "-n", self._switch, "link", "set", port, "master", "br0", "up")
        _run("ip", "-n", namespace, "addr", "add", f"{ip}/24", "dev", "eth0")
        _run("ip", "-n", namespace, "link", "set", "eth0", "up")
        _run("ip", "-n", namespace, "link", "set", "lo", "up")
        host = Host(namespace, ip)
        self.hosts.append(host)
        return host

    def __exit__(self, *_: object) -> None:
        for host in self.hosts:
            host.pull_the_plug()
            _run("ip", "netns", "delete", host.namespace)
        _run("ip", "netns", "delete", self._switch)
