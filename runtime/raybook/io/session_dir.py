"""Session folders: where one cluster keeps its sockets, token and logs, and how none of them outlives it.

``/tmp/raybook/<short id>/`` (``RAYBOOK_TMPDIR`` moves the base), mode 0700, names short because a Unix socket's path
has 107 characters. A file ``head`` names the processes it belongs to; folders of the dead are swept by the next start.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from raybook.base.tls_files import TlsFiles
from raybook.io.process import is_alive, start_time

HEAD_FILE = "head"
TOKEN_FILE = "token"
TLS_FILE = "tls.json"
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
    """Say whose folder this is. The GCS, its keeper and the raylet of a split head share one."""
    with _locked(path) as claims:
        for other in [other for other, started in claims.items() if not is_alive(other, started)]:
            del claims[other]
        claims[pid] = start_time(pid) or 0


def release(path: Path, pid: int) -> bool:
    """This process needs the folder no more; the last one that lives removes it. True when it did. Idempotent."""
    try:
        with _locked(path) as claims:
            claims.pop(pid, None)
            if any(is_alive(other, started) for other, started in claims.items()):
                return False
            remove(path)
    except FileNotFoundError:
        return False
    return True


def claimants(path: Path) -> list[tuple[int, int]]:
    """Living processes of a session: (pid, start time), the oldest claim first."""
    with contextlib.suppress(FileNotFoundError), _locked(path) as claims:
        return [(pid, started) for pid, started in claims.items() if is_alive(pid, started)]
    return []


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[dict[int, int]]:
    """The claims, to read and change, while nobody else does. FileNotFoundError when the folder is gone."""
    if not path.is_dir():
        raise FileNotFoundError(f"There is no session folder {path}.")
    descriptor = os.open(path / HEAD_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        claims = dict(_claims(file.read()))
        known = dict(claims)
        yield claims
        if claims != known:
            # The new text lies over the old one before that is cut off: whoever is killed here leaves claims, not an
            # empty file, which would pass for a folder that is being made.
            file.seek(0)
            file.write("".join(f"{pid} {started}\n" for pid, started in claims.items()))
            file.truncate()


def _claims(text: str) -> Iterator[tuple[int, int]]:
    """(pid, start time) of each whole line."""
    for line in text.splitlines():
        pid, _, started = line.partition(" ")
        if pid.isdigit() and started.isdigit():
            yield int(pid), int(started)


def write_token(path: Path, token: bytes) -> Path:
    """Keep the cluster's token where only this user reads it."""
    return write_secret(path, TOKEN_FILE, token)


def write_secret(path: Path, name: str, secret: bytes) -> Path:
    """A new file that only this user reads. FileExistsError."""
    file = path / name
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(secret)
    return file


def write_tls(path: Path, files: TlsFiles) -> None:
    """Say which certificate the node's processes use towards other nodes. Idempotent."""
    descriptor = os.open(path / TLS_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(msgspec.json.encode(files))


def read_tls(path: Path) -> TlsFiles | None:
    """What was written; None when the node uses none. ValueError for a file that is none of ours."""
    try:
        written = (path / TLS_FILE).read_bytes()
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(written, type=TlsFiles)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path / TLS_FILE} does not say which certificate to use: {error}.") from None


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
        if (path / HEAD_FILE).stat().st_size:
            return not claimants(path)
    except FileNotFoundError:
        pass
    with contextlib.suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime > UNCLAIMED_S
    return False
