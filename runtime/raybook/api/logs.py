"""Logs: the files of this process's node, while its cluster lives. A thin client, which has no node, reads those of the head
through its session."""

from __future__ import annotations

import io
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from raybook.api.context import started_engine
from raybook.api.inventory import worker_rows
from raybook.io.log_file import read_log
from raybook.io.session_dir import LOGS
from raybook.protocol.output_marks import without_marks

READ_BYTES = 1 << 18


class DistantLog:
    """A file on the head. As much of a Path as readers of logs use."""

    def __init__(self, session: Any, name: str) -> None:
        self._session = session
        self.name = name

    @property
    def suffix(self) -> str:
        return PurePath(self.name).suffix

    def exists(self) -> bool:
        """Blocks for a round trip."""
        return self.name in self._session.log_names()

    def open(self, mode: str = "rb") -> BinaryIO:
        """For reading bytes, from the begin. At the end it returns nothing, and later what was written since."""
        return io.BufferedReader(_Raw(self._session, self.name), READ_BYTES)


class _Raw(io.RawIOBase):
    def __init__(self, session: Any, name: str) -> None:
        self._session = session
        self._name = name
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._session.read_log(self._name, self._position, min(len(buffer), READ_BYTES))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def log_folder() -> Path:
    """Where workers and daemons of this node write. RuntimeError when nothing was started."""
    return Path(started_engine().session_dir) / LOGS


def worker_lines(source: str, wanted: str, count: int) -> list[str]:
    """The last ``count`` lines of one worker of this node (or the head's), or of each, which are told with its pid then.

    source: "out" or "err". wanted: a worker's pid, its id or the beginning of its id; "" for all. ValueError when there
    is no such worker; RuntimeError when nothing was started. Cost: reads the files whole.
    """
    pids = {row["worker_id"]: str(row["pid"]) for row in worker_rows()}
    named = {path.name: path for path in logs_here() if path.name.startswith("worker-") and path.suffix == f".{source}"}
    files = {PurePath(name).stem.removeprefix("worker-"): path for name, path in named.items()}
    chosen = {key: path for key, path in files.items() if key.startswith(wanted) or pids.get(key) == wanted}
    if wanted and not chosen:
        known = ", ".join(sorted(pids[key] for key in files if key in pids))
        raise ValueError(f"No worker of this node has pid or id {wanted!r}. Workers: {known or 'none'}.")
    lines = []
    for key, path in chosen.items():
        prefix = "" if wanted else f"(pid={pids.get(key, 'gone')}) "
        content = read_log(path) if isinstance(path, Path) else path.open().read()
        lines += [prefix + line.decode("utf-8", "replace") for line in without_marks(content.splitlines())[-count:]]
    return lines


def logs_here() -> list[Path | DistantLog]:
    """The log files of this node, or of the head for a process without one, by name. RuntimeError when nothing was
    started."""
    engine, folder = started_engine(), log_folder()
    if engine.session is not None and not folder.is_dir():
        return [DistantLog(engine.session, name) for name in engine.session.log_names()]
    return [path for path in sorted(folder.glob("*")) if path.is_file()]
