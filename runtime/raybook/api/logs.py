"""Logs: the files of this node's session, while its cluster lives."""

from __future__ import annotations

from pathlib import Path

from raybook.api.context import started_engine
from raybook.api.inventory import worker_rows
from raybook.io.log_file import read_log
from raybook.io.session_dir import LOGS
from raybook.protocol.output_marks import without_marks


def log_folder() -> Path:
    """Where workers and daemons of this node write. RuntimeError when nothing was started."""
    return Path(started_engine().session_dir) / LOGS


def worker_lines(source: str, wanted: str, count: int) -> list[str]:
    """The last ``count`` lines of one worker of this node, or of each of them, which are told with its pid then.

    source: "out" or "err". wanted: a worker's pid, its id or the beginning of its id; "" for all. ValueError when there
    is no such worker; RuntimeError when nothing was started. Cost: reads the files whole.
    """
    pids = {row["worker_id"]: str(row["pid"]) for row in worker_rows()}
    files = {path.stem.removeprefix("worker-"): path for path in sorted(log_folder().glob(f"worker-*.{source}"))}
    chosen = {key: path for key, path in files.items() if key.startswith(wanted) or pids.get(key) == wanted}
    if wanted and not chosen:
        known = ", ".join(sorted(pids[key] for key in files if key in pids))
        raise ValueError(f"No worker of this node has pid or id {wanted!r}. Workers: {known or 'none'}.")
    lines = []
    for key, path in chosen.items():
        prefix = "" if wanted else f"(pid={pids.get(key, 'gone')}) "
        lines += [
            prefix + line.decode("utf-8", "replace") for line in without_marks(read_log(path).splitlines())[-count:]
        ]
    return lines
