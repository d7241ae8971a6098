"""Logs by the state API: the files of nodes on this machine, and the lines of one of them."""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raybook.api import nodes
from raybook.api.context import started_engine
from raybook.api.inventory import worker_rows
from raybook.api.logs import DistantLog, logs_here
from raybook.util.state import sources
from raybook.util.state.exception import RayStateApiException

LOGS = "logs"
FOLLOW_S = 0.25
_ANSI = re.compile(rb"\x1b\[[0-9;]*[A-Za-z]")
_MARK = b"\x00"
"""How a line begins that says who prints what follows."""


def log_files(node_id: str | None, node_ip: str | None) -> list[Path | DistantLog]:
    """The log files of a node (None: of this one, or the first at that address). RayStateApiException when it is on
    another machine, or there is none."""
    if node_id is None and node_ip is None:
        return logs_here()
    for node in nodes():
        if node_id in (None, node["NodeID"]) and node_ip in (None, node["NodeManagerAddress"]) and node["Alive"]:
            socket: str = node["ObjectStoreSocketName"]
            folder = Path(socket.removeprefix("unix:")).parent / LOGS
            if node["NodeID"] == started_engine().node_id.hex():
                return logs_here()
            if not folder.is_dir():
                raise RayStateApiException(
                    f"The logs of node {node['NodeID']} are on its machine ({node['NodeManagerAddress']}). Run `raybook "
                    "logs` there."
                )
            return _files(folder)
    raise RayStateApiException(f"There is no living node {node_id or node_ip}. raybook.nodes() lists those there are.")


def grouped(files: list[Path | DistantLog], pattern: str) -> dict[str, list[str]]:
    """Names that match, by who writes them."""
    found: dict[str, list[str]] = {}
    for path in files:
        if fnmatch.fnmatch(path.name, pattern):
            kind = path.name.partition("-")[0].partition(".")[0]
            if kind == "worker":
                kind = "worker_err" if path.suffix == ".err" else "worker_out"
            found.setdefault(kind, []).append(path.name)
    return found


def find_file(
    files: list[Path | DistantLog],
    filename: str | None,
    actor_id: str | None,
    task_id: str | None,
    pid: int | None,
    suffix: str,
) -> Path | DistantLog:
    """The one file that is meant. RayStateApiException when there is none."""
    if suffix not in ("out", "err"):
        raise RayStateApiException(f"The suffix of a log is 'out' or 'err', got {suffix!r}.")
    if filename is None:
        if actor_id is not None:
            pid = next((row.pid for row in sources.actors() if row.actor_id == actor_id), None)
        elif task_id is not None:
            pid = next((row.worker_pid for row in sources.tasks()[0] if row.task_id == task_id), None)
        worker = next((row["worker_id"] for row in worker_rows() if row["pid"] == pid), None) if pid else None
        if worker is None:
            raise RayStateApiException(
                f"No living worker is known for actor_id={actor_id}, task_id={task_id}, pid={pid}. list_logs() names the "
                "files there are, those of workers that have ended among them."
            )
        filename = f"worker-{worker}.{suffix}"
    for path in files:
        if path.name == filename:
            return path
    raise RayStateApiException(f"There is no log {filename!r}. list_logs() names the files there are.")


def lines_of(path: Path | DistantLog, tail: int, follow: bool, without_colours: bool) -> Iterator[bytes]:
    """The last ``tail`` lines (-1: all), and those that come later with ``follow``, until the file is gone."""
    with path.open("rb") as file:
        kept = [line for line in file if not line.startswith(_MARK)]
        for line in kept[-tail:] if tail > 0 else kept:
            yield _ANSI.sub(b"", line) if without_colours else line
        while follow and path.exists():
            line = file.readline()
            if not line:
                time.sleep(FOLLOW_S)
            elif not line.startswith(_MARK):
                yield _ANSI.sub(b"", line) if without_colours else line


def _files(folder: Path) -> list[Path | DistantLog]:
    return [path for path in sorted(folder.glob("*")) if path.is_file()]


def decoded(lines: Iterator[bytes], encoding: str | None, errors: str) -> Iterator[Any]:
    """As text, or as they are without an encoding."""
    for line in lines:
        yield line if encoding is None else line.decode(encoding, errors)
