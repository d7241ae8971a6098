"""Logs of the state API: which files there are, and what is in them. Of nodes on this machine."""

from __future__ import annotations

import re
from collections.abc import Generator

from raybook.api import log_files
from raybook.util.state.exception import RayStateApiException

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def list_logs(
    address: str | None = None,
    node_id: str | None = None,
    node_ip: str | None = None,
    glob_filter: str | None = None,
    timeout: int = 30,
) -> dict[str, list[str]]:
    """File names by who wrote them (worker_out, worker_err, raylet ...), of the named node or of all nodes here."""
    try:
        return log_files.log_groups(log_files.log_paths(node_id, node_ip), glob_filter or "*")
    except ValueError as error:
        raise RayStateApiException(str(error)) from None


def get_log(
    address: str | None = None,
    node_id: str | None = None,
    node_ip: str | None = None,
    filename: str | None = None,
    actor_id: str | None = None,
    task_id: str | None = None,
    pid: int | None = None,
    follow: bool = False,
    tail: int = -1,
    timeout: int = 30,
    suffix: str = "out",
    encoding: str | None = "utf-8",
    errors: str | None = "strict",
    submission_id: str | None = None,
    attempt_number: int = 0,
    _interval: float | None = None,
    filter_ansi_code: bool = False,
) -> Generator[str, None, None]:
    """Pieces of one log: of a file, or of the process of an actor, a task, or with a pid. tail: so many last lines, -1
    for all. follow: go on with what is added. suffix: "out" or "err". RayStateApiException when there is no such log."""
    if suffix not in ("out", "err"):
        raise RayStateApiException(f'suffix is "out" or "err", got {suffix!r}.')
    try:
        paths = log_files.log_paths(node_id, node_ip)
        if actor_id is not None:
            pid = log_files.pid_of_actor(actor_id)
        elif task_id is not None:
            pid = log_files.pid_of_task(task_id, attempt_number)
        if pid is not None:
            path = log_files.file_of_process(int(pid), suffix, paths)
        else:
            path = next((path for path in paths if path.name == filename), None)
    except ValueError as error:
        raise RayStateApiException(str(error)) from None
    if path is None:
        wanted = filename or (f"pid {pid}" if pid is not None else "")
        raise RayStateApiException(f"There is no log of {wanted!r} on this machine; list_logs() shows those there are.")
    for piece in log_files.read_log(path, tail, follow, _interval):
        text = piece.decode(encoding or "utf-8", errors or "strict")
        yield _ANSI.sub("", text) if filter_ansi_code else text
