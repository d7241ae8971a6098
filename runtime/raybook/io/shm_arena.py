"""Shared-memory arena: the bytes of a node's object store, mapped into this process.

It creates the arena, maps it, writes and reads ranges of it, punches holes, and passes its file descriptor on. It
decides nothing: which range is whose, and which pages are warm, the allocators in `core/node/arena_allocator.py` know.

The arena is anonymous memory (`memfd_create`), sparse, found in `/proc/<pid>/maps` as `memfd:raybook`. It ends with the
last process that maps it: no file, no `/dev/shm` quota, nothing left behind.

Invariants: what `view` returns cannot be written through; a range stays mapped as long as any view of it lives, also
after `close`.

How to write, by measurement (Python 3.11, 2 cores, GB/s: cold `pwrite` 2.7 to 3.5, copy into cold mapped pages 0.3 to
1.5, warm pages in a new mapping: plain copy 1.8 to 3.6, populate and copy 4.6, warm `pwrite` 3.9; pages this mapping
has used before: 8.6 to 12.5, which is memcpy). Hence three ways, below in `Arena.write`; long warm writes are made by
two threads (see `halves`).
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import mmap
import os
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from raybook.io.halves import in_two

Buffer = bytes | bytearray | memoryview

# From linux/mman.h and linux/falloc.h; `mmap` and `os` do not name them on every Python that we support.
MAP_NORESERVE = 0x4000
MADV_POPULATE_WRITE = 23
FALLOC_FL_KEEP_SIZE = 0x01
FALLOC_FL_PUNCH_HOLE = 0x02

LIBC = ctypes.CDLL(None, use_errno=True)
PAGE_BYTES = mmap.PAGESIZE
# One byte of book-keeping for so many bytes of arena tells which pages the write mapping has used. An extent of 4 MiB
# has sixteen; a write of 1 MiB looks at five.
POPULATE_UNIT_BYTES = 256 << 10
# Below this a copy holds the interpreter lock for less than a switch between threads costs.
GIL_HELD_COPY_BYTES_MAX = 64 << 10
# From here on two threads copy: starting one costs as much as copying half a MiB.
COPY_IN_TWO_BYTES = 16 << 20
CPUS = len(os.sched_getaffinity(0))
# Linux takes at most 1,024 buffers and 2 GiB in one call (IOV_MAX, MAX_RW_COUNT).
IOV_MAX = 1024
PWRITE_BYTES_MAX = 1 << 30


def create_arena(arena_bytes: int) -> int:
    """A file descriptor of a new, empty, sparse arena, closed on exec. Raises OSError if the kernel refuses."""
    fd = os.memfd_create("raybook", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, arena_bytes)
    except OSError:
        os.close(fd)
        raise
    return fd


def send_fd(connection: socket.socket, fd: int) -> None:
    """Send a file descriptor over a connected, blocking Unix socket. The receiver gets a copy; ours stays open."""
    socket.send_fds(connection, [b"F"], [fd])


def recv_fd(connection: socket.socket) -> int:
    """Receive what `send_fd` sent, closed on exec. Raises ConnectionError if the peer closed or sent no descriptor."""
    # Not `socket.recv_fds`: it drops its flags (CPython 3.11), and a fork with exec at this moment would inherit the
    # arena.
    room = socket.CMSG_SPACE(struct.calcsize("i"))
    message, ancillary, _flags, _address = connection.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            return cast(int, struct.unpack_from("i", data)[0])
    what = "closed the connection before it sent" if not message else "sent something else than"
    raise ConnectionError(f"The peer {what} the arena's file descriptor.")


class WriteMapping:
    """The writable mapping of an arena. populated: one byte for each unit whose pages this mapping has used."""

    __slots__ = ("address", "populated", "view")

    def __init__(self, mapping: mmap.mmap, arena_bytes: int) -> None:
        self.view = memoryview(mapping)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
        self.populated = bytearray(arena_bytes // POPULATE_UNIT_BYTES + 1)


class Arena:
    """An arena mapped into this process.

    fd: of `create_arena`, here or in another process; it becomes this object's and `close` closes it. The reading
    mapping exists from the start, the writing one from the first warm write. Both cost address space, no memory.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.arena_bytes = os.fstat(fd).st_size
        self._read_view = memoryview(self._map(mmap.PROT_READ))
        self._writing: WriteMapping | None = None
        # True as far as we know: Linux 5.14 and later have it.
        self._can_populate = True

    def _map(self, protection: int) -> mmap.mmap:
        return mmap.mmap(self._fd, self.arena_bytes, flags=mmap.MAP_SHARED | MAP_NORESERVE, prot=protection)

    @property
    def fd(self) -> int:
        """The descriptor to send to another process. It stays this object's."""
        return self._fd

    def view(self, offset: int, size: int) -> memoryview:
        """A read-only view of a range; no copy. It keeps the mapping alive, and knows nothing of who may reuse it."""
        self._check_range(offset, size)
        return self._read_view[offset : offset + size]

    def write(self, offset: int, parts: Sequence[Buffer], *, warm: bool) -> int:
        """Write contiguous buffers one after another from `offset` on; return the bytes written.

        warm: the pages hold memory already, from this process or another. A wrong guess costs speed only. Writes of
        more than 64 KiB let other threads run. Raises ValueError for a range outside the arena, OSError (ENOSPC,
        ENOMEM) when the machine is out of memory.
        """
        views = [memoryview(part).cast("B") for part in parts if len(part)]
        total = sum(map(len, views))
        self._check_range(offset, total)
        numpy = sys.modules.get("numpy")
        # Without numpy there is no copy that lets other threads run, but a process that has no numpy has no arrays
        # either.
        if not warm or (numpy is None and total > GIL_HELD_COPY_BYTES_MAX):
            self._pwrite(offset, views)
        else:
            self._copy_warm(offset, views, total, numpy)
        return total

    def _pwrite(self, offset: int, views: list[memoryview]) -> None:
        queue = views[::-1]
        while queue:
            batch: list[memoryview] = []
            room = PWRITE_BYTES_MAX
            while queue and len(batch) < IOV_MAX and room:
                view = queue.pop()
                if len(view) > room:
                    queue.append(view[room:])
                    view = view[:room]
                batch.append(view)
                room -= len(view)
            written = os.pwritev(self._fd, batch, offset)
            offset += written
            for index, view in enumerate(batch):
                if written < len(view):
                    queue.extend(reversed([view[written:], *batch[index + 1 :]]))
                    break
                written -= len(view)

    def _copy_warm(self, offset: int, views: list[memoryview], total: int, numpy: Any) -> None:
        writing = self._writing
        if writing is None:
            # Two threads may come here at once; then one mapping serves one write and is dropped.
            writing = self._writing = WriteMapping(self._map(mmap.PROT_READ | mmap.PROT_WRITE), self.arena_bytes)
        if total < COPY_IN_TWO_BYTES or CPUS < 2:
            self._copy(writing, offset, views, total, numpy)
            return
        # At the border of a unit, so that the halves are not both told to map one page.
        middle = (offset + total // 2) // POPULATE_UNIT_BYTES * POPULATE_UNIT_BYTES
        head, tail = _split(views, middle - offset)
        in_two(
            partial(self._copy, writing, offset, head, middle - offset, numpy),
            partial(self._copy, writing, middle, tail, total - (middle - offset), numpy),
        )

    def _copy(self, writing: WriteMapping, offset: int, views: list[memoryview], total: int, numpy: Any) -> None:
        self._populate(writing, offset, total)
        target = writing.view
        for view in views:
            end = offset + len(view)
            if len(view) <= GIL_HELD_COPY_BYTES_MAX or numpy is None:
                target[offset:end] = view
            else:
                numpy.copyto(numpy.frombuffer(target[offset:end], numpy.uint8), numpy.frombuffer(view, numpy.uint8))
            offset = end

    def _populate(self, writing: WriteMapping, offset: int, size: int) -> None:
        """Have the kernel map the range's pages in one call: a page fault for each of them costs several times more."""
        first, last = offset // POPULATE_UNIT_BYTES, (offset + size - 1) // POPULATE_UNIT_BYTES + 1
        known = writing.populated
        while first < last and known[first]:
            first += 1
        if first >= last or not self._can_populate:
            return
        start = max(first * POPULATE_UNIT_BYTES, offset) & -PAGE_BYTES
        end = min(last * POPULATE_UNIT_BYTES, (offset + size + PAGE_BYTES - 1) & -PAGE_BYTES, self.arena_bytes)
        address = ctypes.c_void_p(writing.address + start)
        if libc_call("madvise", address, ctypes.c_size_t(end - start), MADV_POPULATE_WRITE) != 0:
            # An older kernel, or no memory: the copy itself will fault the pages in, slower, or fail as it must.
            self._can_populate = ctypes.get_errno() != errno.EINVAL
            return
        # A unit that was reached into only at one end is asked for again by the next write there; that is cheap.
        for unit in range((start + POPULATE_UNIT_BYTES - 1) // POPULATE_UNIT_BYTES, end // POPULATE_UNIT_BYTES):
            known[unit] = 1

    def writable(self, offset: int, size: int) -> memoryview:
        """A range to be filled by the kernel (``recv_into``), with its pages in place as far as can be."""
        self._check_range(offset, size)
        writing = self._writing
        if writing is None:
            writing = self._writing = WriteMapping(self._map(mmap.PROT_READ | mmap.PROT_WRITE), self.arena_bytes)
        self._populate(writing, offset, size)
        return writing.view[offset : offset + size]

    def punch(self, offset: int, size: int) -> None:
        """Give a page-aligned range's memory back to the machine; it reads as zeros from then on, in every mapping.

        Raises OSError if the kernel refuses, ValueError for an unaligned range. Cost: 0.06 ms a MiB that holds memory.
        """
        self._check_range(offset, size)
        if offset % PAGE_BYTES or size % PAGE_BYTES:
            raise ValueError(
                f"A hole of {size} bytes at {offset} does not begin and end at a page of {PAGE_BYTES} bytes."
            )
        if size == 0:
            return
        mode = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
        if libc_call("fallocate", self._fd, mode, ctypes.c_long(offset), ctypes.c_long(size)) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"The kernel did not punch a hole of {size} bytes at {offset}: {os.strerror(code)}")
        if self._writing is not None:
            first, last = offset // POPULATE_UNIT_BYTES, (offset + size - 1) // POPULATE_UNIT_BYTES + 1
            self._writing.populated[first:last] = bytes(last - first)

    def memory_bytes(self) -> int:
        """Bytes of memory that the arena holds on this machine, in all processes together."""
        return os.fstat(self._fd).st_blocks * 512

    def close(self) -> None:
        """Let go of the arena. Never waits: ranges still viewed stay mapped until the last view is gone. Idempotent."""
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        # Unmapping is the collector's: `mmap.close` would refuse while views live, and there is nothing to wait for.
        self._read_view = memoryview(b"")
        self._writing = None

    def _check_range(self, offset: int, size: int) -> None:
        if self._fd < 0:
            raise ValueError("This process has closed its arena.")
        if offset < 0 or size < 0 or offset + size > self.arena_bytes:
            raise ValueError(f"Range {offset}+{size} is outside the arena of {self.arena_bytes} bytes.")


def libc_call(name: str, *arguments: Any) -> int:
    """Call a libc function without holding the interpreter lock. `ctypes.get_errno()` has the error afterwards."""
    return int(getattr(LIBC, name)(*arguments))


def _split(views: list[memoryview], size: int) -> tuple[list[memoryview], list[memoryview]]:
    """The first ``size`` bytes, and the rest."""
    head: list[memoryview] = []
    for index, view in enumerate(views):
        if len(view) > size:
            return [*head, view[:size]], [view[size:], *views[index + 1 :]]
        head.append(view)
        size -= len(view)
    return head, []


def pinned_buffer(view: memoryview, release: Callable[[], None]) -> memoryview:
    """The same bytes as `view`, in a buffer that calls `release` once, when the last array or view over it is gone.

    `release` runs inside the garbage collector, in any thread, at any line: it may append to a deque and nothing else.
    Give pickle the result as its out-of-band buffer; numpy, Arrow and torch keep it alive through slices. Imports
    numpy. Cost: about 0.6 µs.
    """
    # A look into `sys.modules` costs a tenth of an import statement.
    module = sys.modules.get("raybook.io.pin") or importlib.import_module("raybook.io.pin")
    return cast(memoryview, module.pinned_buffer(view, release))
