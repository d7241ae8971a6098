"""Folder watch: which files of one folder have been written to, told by the kernel. An idle folder costs nothing.

Source: inotify(7). Python has no binding, so its three calls are made through libc.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

IN_MODIFY = 0x2
IN_NONBLOCK = os.O_NONBLOCK
IN_CLOEXEC = os.O_CLOEXEC
_EVENT = struct.Struct("iIII")
READ_BYTES = 64 * 1024


class FolderWatch:
    """One watched folder; ``fd`` is readable when something was written there. Close it."""

    def __init__(self, folder: Path) -> None:
        """OSError when the kernel gives no watch: too many of this user's (128 by default), or no inotify at all."""
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(IN_NONBLOCK | IN_CLOEXEC)
        if self.fd < 0:
            raise _os_error(folder)
        if libc.inotify_add_watch(self.fd, os.fsencode(folder), IN_MODIFY) < 0:
            error = _os_error(folder)
            self.close()
            raise error

    def changed(self) -> dict[str, None]:
        """Names of the files written to since the last call, oldest change first; {} when there are none. Events that the
        kernel had to drop are of no account: the next write tells of the file again."""
        names: dict[str, None] = {}
        while True:
            try:
                data = os.read(self.fd, READ_BYTES)
            except BlockingIOError:
                return names
            offset = 0
            while offset < len(data):
                _, _, _, length = _EVENT.unpack_from(data, offset)
                offset += _EVENT.size
                names[os.fsdecode(data[offset : offset + length].rstrip(b"\0"))] = None
                offset += length

    def close(self) -> None:
        """Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _os_error(folder: Path) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), str(folder))
