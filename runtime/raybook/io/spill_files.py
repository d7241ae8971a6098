"""Spill files: values on disk, written once, read by mapping, each with its CRC-32.

One file holds the objects that one owner gave up at a time, each at the start of a page. Its name begins with the
owner's id, so that what a dead owner leaves is found without a register. It decides nothing: when, what and for how
long, `core/node/spill_policy` and the owners know.

A reader maps the file: no copy, shared by all readers through the page cache, which the kernel takes back when memory
is short. A view stays good after the file was deleted, not after its range was cleared. A process that looks at an
object for the first time checks its sum (2 GB/s).

Invariants: a file is whole when its path is told; what is read is what was written, or an error.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import weakref
import zlib
from collections.abc import Iterable, Sequence
from functools import partial

from raybook.base.specs import Location
from raybook.io.shm_arena import FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, libc_call

PAGE_BYTES = mmap.PAGESIZE
CHUNK_BYTES = 1 << 20
"""Summed and written at a time: stays in the cache between the two."""

Buffer = bytes | bytearray | memoryview


class SpilledValueLost(Exception):
    """A spilled value cannot be read; the text says what is wrong with its file."""


def file_path(folder: str, owner_id: bytes, name: str) -> str:
    """Where a file of this owner lies. name: unique among the owner's."""
    return f"{folder}/{owner_id.hex()}-{name}"


def write_objects(path: str, objects: Sequence[Sequence[Buffer]], disk_share_max: float) -> list[tuple[int, int]]:
    """Write objects, each given in parts, into a new file; (offset, CRC-32) of each.

    disk_share_max: leave the disk alone if it were fuller than this after it. OSError (ENOSPC and others) when it
    cannot be written; nothing is left then. Cost: 1 GB/s, or what the disk takes.
    """
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    total = sum(sum(map(len, parts)) + PAGE_BYTES for parts in objects)
    _check_room(folder, total, disk_share_max)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            placed = []
            position = 0
            for parts in objects:
                end, checksum = _write_parts(fd, position, parts)
                placed.append((position, checksum))
                position = (end + PAGE_BYTES - 1) & -PAGE_BYTES
            return placed
        finally:
            os.close(fd)
    except BaseException:
        os.unlink(path)
        raise


def _write_parts(fd: int, position: int, parts: Sequence[Buffer]) -> tuple[int, int]:
    checksum = 0
    for part in parts:
        view = memoryview(part).cast("B")
        for start in range(0, len(view), CHUNK_BYTES):
            chunk = view[start : start + CHUNK_BYTES]
            checksum = zlib.crc32(chunk, checksum)
            while len(chunk):
                written = os.pwrite(fd, chunk, position)
                position += written
                chunk = chunk[written:]
    return position, checksum


def _check_room(folder: str, size: int, disk_share_max: float) -> None:
    disk = os.statvfs(folder)
    total, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
    if total - free + size > disk_share_max * total:
        raise OSError(
            errno.ENOSPC,
            f"the disk of {folder} has {free >> 20} MiB of {total >> 20} MiB left, and raybook fills no disk above "
            f"{disk_share_max:.0%}",
        )


def clear(path: str, offset: int, size: int) -> None:
    """Give the disk space of one object back, whose file stays for others. Views of it read zeros from then on. A file
    system that cannot do this keeps the space until the file is deleted."""
    with contextlib.suppress(FileNotFoundError):
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            libc_call(
                "fallocate",
                fd,
                FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
                ctypes.c_long(offset),
                ctypes.c_long((size + PAGE_BYTES - 1) & -PAGE_BYTES),
            )
        finally:
            os.close(fd)


def delete(paths: Iterable[str]) -> None:
    """Delete files; what is gone already is no matter. Views of them stay good."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def files_of(folder: str, owner_id: bytes) -> list[str]:
    """All files of this owner, in order."""
    prefix = owner_id.hex() + "-"
    try:
        return sorted(f"{folder}/{name}" for name in os.listdir(folder) if name.startswith(prefix))
    except FileNotFoundError:
        return []


class SpillReader:
    """Reads spilled values in this process. From any thread: two that meet do the work twice, nothing worse."""

    def __init__(self) -> None:
        # A file stays mapped as long as some value looks into it; beside it, which offsets were found to be right.
        self._mapped: dict[str, tuple[weakref.ref[mmap.mmap], set[int]]] = {}

    def read(self, location: Location) -> memoryview:
        """A read-only view of the value's bytes. SpilledValueLost when the file is gone, cut or altered."""
        mapping, checked = self._map(location)
        end = location.offset + location.size
        # The size of the file, not of the mapping: a look beyond a file's end is fatal.
        if end > mapping.size():
            raise SpilledValueLost(f"its file {location.spill_path} was cut to {mapping.size()} bytes")
        view = memoryview(mapping)[location.offset : end]
        if location.offset not in checked:
            if zlib.crc32(view) != location.checksum:
                raise SpilledValueLost(f"its file {location.spill_path} was altered: the checksum is wrong")
            checked.add(location.offset)
        return view

    def _map(self, location: Location) -> tuple[mmap.mmap, set[int]]:
        path = location.spill_path
        known = self._mapped.get(path)
        if known is not None:
            mapping = known[0]()
            if mapping is not None:
                return mapping, known[1]
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SpilledValueLost(f"its file {path} cannot be opened: {error.strerror}") from error
        try:
            mapping = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        except (OSError, ValueError) as error:
            raise SpilledValueLost(f"its file {path} cannot be mapped: {error}") from error
        finally:
            os.close(fd)
        checked: set[int] = set()
        self._mapped[path] = (weakref.ref(mapping, partial(self._unmapped, path)), checked)
        return mapping, checked

    def _unmapped(self, path: str, _gone: weakref.ref[mmap.mmap]) -> None:
        self._mapped.pop(path, None)
