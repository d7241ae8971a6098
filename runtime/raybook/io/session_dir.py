"""Session folders: where one cluster keeps its sockets, token and logs, and how none of them outlives it.

``/tmp/raybook/<short id>/`` (``RAYBOOK_TMPDIR`` moves the base), mode 0700, names short because a Unix socket's path
has 107 characters. A file ``head`` names the processes it belongs to; folders of the dead are swept by the next start.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Mapping
from pathlib import Path

from raybook.io.process import is_alive, start_time

HEAD_FILE = "head"
TOKEN_FILE = "token"
LOGS = "logs"
UNCLAIMED_S = 600
"""A folder that names no process yet belongs to a cluster that is starting, if it is younger than this."""


def base_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of all sessions of this user, made if need be. It is ours alone: in a folder somebody else owns, they
    could put another cluster's socket in the place of ours."""
    chosen = environ.get("RAYBOOK_TMPDIR")
    candidates = [Path(chosen)] if chosen else [Path("/tmp/raybook"), Path(f"/tmp/raybook-{os.getuid()}")]
    for base in candidates:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = base.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
            return base
    raise PermissionError(
        f"raybook needs a folder of its own for sockets, and {candidates[-1]} belongs to somebody else. "
        f"Set RAYBOOK_TMPDIR to a folder of yours with a short path."
    )


def create(cluster_id: str, environ: Mapping[str, str] = os.environ) -> Path:
    """A fresh session folder with ``logs`` in it."""
    path = base_dir(environ) / cluster_id[:12]
    path.mkdir(mode=0o700)
    (path / LOGS).mkdir(mode=0o700)
    return path


def claim(path: Path, pid: int) -> None:
    """Say whose folder this is. Several processes may claim one; it is abandoned when all of them are dead."""
    with open(path / HEAD_FILE, "a") as file:
        file.write(f"{pid} {start_time(pid)}\n")


def write_token(path: Path, token: bytes) -> Path:
    """Keep the cluster's token where only this user reads it."""
    file = path / TOKEN_FILE
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(token)
    return file


def remove(path: Path) -> None:
    """Remove a session folder with all in it. Idempotent."""
    shutil.rmtree(path, ignore_errors=True)


def sweep(base: Path) -> list[Path]:
    """Remove folders whose process is dead (a SIGKILLed head cannot clean up); what was removed. Cost: a /proc read for
    each folder."""
    removed = []
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(base.iterdir()):
            if path.is_dir() and not path.is_symlink() and _is_abandoned(path):
                remove(path)
                removed.append(path)
    return removed


def _is_abandoned(path: Path) -> bool:
    try:
        claims = [line.split() for line in (path / HEAD_FILE).read_text().splitlines()]
        return not any(is_alive(int(pid), int(started)) for pid, started in claims)
    except (FileNotFoundError, ValueError):
        with contextlib.suppress(FileNotFoundError):
            return time.time() - path.stat().st_mtime > UNCLAIMED_S
        return False
