"""Log files that do not fill the disk: a file keeps its newest bytes, and room of older ones goes back to the disk.

A worker and its children hold the descriptor and may print past Python, so nobody can be asked to open another file.
Instead a hole is punched: offsets stay what they are, no line is lost between two files, and the writer notices nothing.
A file system that cannot do this keeps the bytes.
"""

from __future__ import annotations

import os

from raybook.io.spill_files import PAGE_BYTES, clear


def forget_before(path: str, begin: int, end: int) -> int:
    """Give back the whole pages of ``begin`` to ``end``, both offsets; where the forgotten part ends now. begin: what the
    last call returned. Cost: 1 ms for 100 MB."""
    end -= end % PAGE_BYTES
    if end > begin:
        clear(path, begin, end - begin)
    return max(begin, end)


def read_log(path: str | os.PathLike[str]) -> bytes:
    """All that is left in a file, from its first whole line on. FileNotFoundError when there is none."""
    with open(path, "rb") as file:
        try:
            begin = os.lseek(file.fileno(), 0, os.SEEK_DATA)
        except OSError:
            begin = 0  # Empty, or a file system that knows no holes.
        file.seek(begin)
        data = file.read()
    if begin and (line := data.find(b"\n") + 1):
        return data[line:]
    return data


def log_names(folder: str) -> list[str]:
    """Of the files in a folder of logs, sorted."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))


def log_piece(folder: str, name: str, offset: int, count: int) -> bytes:
    """Bytes of a file in that folder; fewer at its end. OSError; ValueError for a name that leads elsewhere."""
    if os.path.basename(name) != name or name in ("", ".", ".."):
        raise ValueError(f"{name!r} is no name of a log file.")
    with open(os.path.join(folder, name), "rb") as file:
        file.seek(offset)
        return file.read(count)
