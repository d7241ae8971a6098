"""Log files: what workers and daemons of this machine have written, by file, process, actor or task.

Knows where a node of this machine keeps its logs, and which process wrote which. Logs of other machines are not here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from raybook.api.inventory import worker_rows
from raybook.api.state import list_actors, nodes
from raybook.api.survey import surveyed_tasks
from raybook.io.session_dir import LOGS
from raybook.protocol.output_marks import without_marks

POLL_S = 0.2


def log_paths(node_id: str | None = None, node_ip: str | None = None) -> list[Path]:
    """Log files of living nodes on this machine; of one of them when it is named. ValueError for a node that is not
    there. One round trip."""
    alive = [node for node in nodes() if node["Alive"]]
    chosen = [
        node for node in alive if node_id in (None, node["NodeID"]) and node_ip in (None, node["NodeManagerAddress"])
    ]
    if not chosen:
        raise ValueError(f"No living node is {node_id or node_ip!r}; raybook.nodes() shows those there are.")
    folders = {Path(node["RayletSocketName"].removeprefix("unix:")).parent / LOGS for node in chosen}
    return [path for folder in sorted(folders) for path in sorted(folder.glob("*"))]


def log_groups(paths: list[Path], pattern: str) -> dict[str, list[str]]:
    """Names of files by who wrote them: worker_out, worker_err, or the daemon's name."""
    groups: dict[str, list[str]] = {}
    for path in paths:
        if not fnmatch(path.name, pattern):
            continue
        is_worker = path.name.startswith("worker-")
        kind = f"worker_{path.suffix[1:]}" if is_worker else path.name.partition(".")[0]
        groups.setdefault(kind, []).append(path.name)
    return groups


def file_of_process(pid: int, suffix: str, paths: list[Path]) -> Path | None:
    """The log of a living worker process."""
    for worker in worker_rows():
        if worker["pid"] == pid:
            wanted = f"worker-{worker['worker_id']}.{suffix}"
            return next((path for path in paths if path.name == wanted), None)
    return None


def pid_of_actor(actor_id: str) -> int:
    """The process of an actor. ValueError when it has none."""
    return _pid(next((actor for actor in list_actors() if actor["actor_id"] == actor_id), None), f"actor {actor_id}")


def pid_of_task(task_id: str, attempt: int) -> int:
    """The process that ran a task. ValueError when none is known."""
    found = (task for task in surveyed_tasks().rows if task["task_id"] == task_id and task["attempt"] == attempt)
    return _pid(next(found, None), f"task {task_id}", "worker_pid")


def read_log(path: Path, tail: int, follow: bool, interval_s: float | None) -> Iterator[bytes]:
    """The last ``tail`` lines (-1: all) at once, then, with ``follow``, what is added, until the caller stops."""
    with open(path, "rb") as file:
        whole = file.read()
        lines = without_marks(whole.splitlines())
        if tail >= 0:
            lines = lines[len(lines) - min(tail, len(lines)) :]
        if lines:
            yield b"\n".join(lines) + b"\n"
        while follow:
            more = file.read()
            if more:
                yield b"\n".join(without_marks(more.splitlines())) + b"\n"
            elif not os.path.exists(path):
                return
            else:
                time.sleep(interval_s or POLL_S)


def _pid(row: dict[str, Any] | None, what: str, key: str = "pid") -> int:
    if row is None or not row.get(key):
        raise ValueError(f"There is no process of {what} to read the log of: it is not known, or has not begun.")
    return int(row[key])
