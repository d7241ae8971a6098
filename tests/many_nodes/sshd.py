"""sshd: Debian's own, on "machines" of namespaces, with keys made for the test. Nobody's own keys or known hosts are read.

A machine's home is in its own /tmp, so that what is left there can be looked at, and goes with the machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.many_nodes.hosts import Host

SSHD = "/usr/sbin/sshd"
HOME = "/tmp/home"
SESSIONS = "/tmp/s"
_CONFIG = """
Port 22
ListenAddress {ip}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
PidFile none
SetEnv HOME={home} RAYBOOK_TMPDIR={sessions} RAYBOOK_HEALTH_CHECK_PERIOD_MS=200 RAYBOOK_HEALTH_CHECK_TIMEOUT_MS=1500
"""


def why_no_sshd() -> str:
    """Why sshd cannot be run here; "" when it can."""
    missing = [
        name for name, path in (("openssh-server", SSHD), ("openssh-client", shutil.which("ssh"))) if not _is(path)
    ]
    return f"the packages {' and '.join(missing)} are missing" if missing else ""


def _is(path: str | None) -> bool:
    return path is not None and os.access(path, os.X_OK)


class Keys:
    """A user's key pair, and what is known of hosts; in a folder that every machine sees."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.private = folder / "id"
        self.known_hosts = folder / "known_hosts"
        make_key(self.private)

    def options(self) -> dict[str, str]:
        """For ``ssh_options``: a user's own configuration has no say."""
        return {"UserKnownHostsFile": str(self.known_hosts), "GlobalKnownHostsFile": "/dev/null"}


def make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=20)


def start_sshd(host: Host, keys: Keys, is_known: bool = True) -> None:
    """Serve ssh on a machine, as long as it lives. is_known: its host key is among the known ones."""
    folder = keys.folder / host.namespace
    folder.mkdir()
    make_key(folder / "host_key")
    shutil.copy(keys.private.with_suffix(".pub"), folder / "authorized_keys")
    (folder / "config").write_text(_CONFIG.format(ip=host.ip, folder=folder, home=HOME, sessions=SESSIONS))
    if is_known:
        public = (folder / "host_key.pub").read_text().split()
        with keys.known_hosts.open("a") as file:
            file.write(f"{host.ip} {public[0]} {public[1]}\n")
    # Its folder for privilege separation is made on a /run of the machine's own.
    script = f"mount -t tmpfs none /run && mkdir -p /run/sshd {HOME} && exec {SSHD} -f {folder}/config -E {folder}/log"
    host.run("sh", "-c", script)


def interpreter() -> dict[str, object]:
    """``environment`` of a hosts file: this very interpreter and this very code."""
    roots = os.pathsep.join(path for path in sys.path if path.endswith(("/runtime", "/kernel_ext", "/widgets")))
    return {"interpreter": sys.executable, "variables": {"PYTHONPATH": roots}}
