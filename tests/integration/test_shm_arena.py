"""The arena with a real memfd, real mappings, a real fork and a real Unix socket."""

from __future__ import annotations

import gc
import os
import socket
import threading
from collections import deque
from functools import partial

import numpy
import pytest

from raybook.io.shm_arena import Arena, create_arena, pinned_buffer, recv_fd, send_fd

MIB = 1 << 20


@pytest.fixture
def arena():
    arena = Arena(create_arena(256 * MIB))
    yield arena
    arena.close()


def maps_of_raybook() -> int:
    with open("/proc/self/maps") as maps:
        return sum("memfd:raybook" in line for line in maps)


@pytest.mark.parametrize("warm", [False, True])
def test_written_parts_are_read_back_in_order(arena, warm):
    parts = [b"head", numpy.arange(100_000, dtype=numpy.uint8).data, bytearray(b"tail"), b""]

    written = arena.write(64, parts, warm=warm)

    assert written == 100_008
    assert bytes(arena.view(64, written)) == b"".join(bytes(part) for part in parts)


def test_rewriting_warm_pages_changes_them_in_every_mapping(arena):
    other = Arena(os.dup(arena.fd))
    first, second = os.urandom(3 * MIB), os.urandom(3 * MIB)

    arena.write(MIB, [first], warm=False)
    other.write(MIB, [second], warm=True)

    assert bytes(arena.view(MIB, 3 * MIB)) == second
    other.close()


def test_more_parts_than_one_system_call_takes(arena):
    parts = [bytes([number % 251]) * 7 for number in range(3000)]

    arena.write(0, parts, warm=False)

    assert bytes(arena.view(0, 21_000)) == b"".join(parts)


@pytest.mark.parametrize("sizes", [(40 * MIB,), (3, 17 * MIB, 20 * MIB + 1), (16 * MIB, 16 * MIB), (1, 16 * MIB - 1)])
def test_a_long_write_by_two_threads_arrives_whole(arena, sizes):
    parts = [numpy.frombuffer(os.urandom(1 << 16), numpy.uint8).repeat(size // (1 << 16) + 1)[:size] for size in sizes]

    arena.write(100, parts, warm=True)

    assert bytes(arena.view(100, sum(sizes))) == b"".join(bytes(part) for part in parts)
    assert arena.view(100 + sum(sizes), 8) == bytes(8)


def test_view_cannot_be_written_through(arena):
    view = arena.view(0, 100)

    assert view.readonly
    with pytest.raises(TypeError):
        view[0] = 1
    assert not numpy.frombuffer(view, numpy.uint8).flags.writeable


@pytest.mark.parametrize(("offset", "size"), [(-1, 10), (256 * MIB, 1), (0, 256 * MIB + 1)])
def test_range_outside_the_arena_is_refused(arena, offset, size):
    with pytest.raises(ValueError, match="outside the arena"):
        arena.view(offset, size)


def test_write_past_the_end_is_refused_before_a_byte_is_written(arena):
    with pytest.raises(ValueError, match="outside the arena"):
        arena.write(256 * MIB - 4, [b"12345"], warm=False)
    assert bytes(arena.view(256 * MIB - 4, 4)) == bytes(4)


def test_sparse_arena_holds_memory_only_where_it_was_written(arena):
    assert arena.memory_bytes() == 0

    arena.write(100 * MIB, [bytes(2 * MIB)], warm=False)

    assert 2 * MIB <= arena.memory_bytes() < 3 * MIB


def test_punching_frees_the_memory_and_the_range_reads_as_zeros(arena):
    arena.write(0, [b"x" * 4 * MIB], warm=False)
    arena.write(0, [b"y" * 4 * MIB], warm=True)

    arena.punch(MIB, 2 * MIB)

    assert arena.memory_bytes() < 3 * MIB
    assert bytes(arena.view(MIB - 1, 3)) == b"y\0\0"
    arena.write(MIB, [b"z" * 2 * MIB], warm=True)
    assert bytes(arena.view(MIB - 1, 3)) == b"yzz"


def test_unaligned_hole_is_refused(arena):
    with pytest.raises(ValueError, match="page"):
        arena.punch(100, 4096)


def test_another_process_reads_through_a_passed_descriptor(arena):
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        # The child uses only the descriptor that came over the socket, and answers by its exit status.
        ours.close()
        received = Arena(recv_fd(theirs))
        received.write(MIB, [b"from the child"], warm=False)
        os._exit(0 if bytes(received.view(0, 5)) == b"hello" else 1)
    theirs.close()
    arena.write(0, [b"hello"], warm=False)
    send_fd(ours, arena.fd)

    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert bytes(arena.view(MIB, 14)) == b"from the child"
    ours.close()


def test_receiving_from_a_closed_peer_is_a_connection_error():
    ours, theirs = socket.socketpair()
    theirs.close()

    with pytest.raises(ConnectionError, match="file descriptor"):
        recv_fd(ours)
    ours.close()


def test_passed_descriptor_is_closed_on_exec(arena):
    ours, theirs = socket.socketpair()
    send_fd(ours, arena.fd)

    received = recv_fd(theirs)

    assert not os.get_inheritable(received)
    for end in (ours, theirs):
        end.close()
    os.close(received)


def test_closing_leaves_live_views_readable_and_unmaps_with_the_last():
    before = maps_of_raybook()
    arena = Arena(create_arena(16 * MIB))
    arena.write(0, [b"kept" * 1000], warm=False)
    arena.write(0, [b"kept" * 1000], warm=True)
    array = numpy.frombuffer(arena.view(0, 4000), numpy.uint8)

    arena.close()
    arena.close()

    assert bytes(array[:4]) == b"kept"
    assert maps_of_raybook() == before + 1
    del array
    gc.collect()
    assert maps_of_raybook() == before


def test_closed_arena_refuses_to_be_used():
    arena = Arena(create_arena(MIB))
    arena.close()

    with pytest.raises(ValueError, match="closed its arena"):
        arena.view(0, 1)


def test_pin_is_released_when_the_last_slice_is_gone(arena):
    released = deque()
    buffer = pinned_buffer(arena.view(0, 80), partial(released.append, b"id"))
    array = numpy.frombuffer(buffer, numpy.float64)
    part = array[2:][::2]
    del buffer, array
    assert not released

    del part

    assert list(released) == [b"id"]


def test_pin_lives_through_arrow_buffers_and_torch_tensors(arena):
    pyarrow = pytest.importorskip("pyarrow")
    torch = pytest.importorskip("torch")
    released = deque()
    buffer = pinned_buffer(arena.view(0, 80), partial(released.append, b"id"))
    slice_of_arrow = pyarrow.py_buffer(buffer).slice(8)
    tensor = torch.frombuffer(bytearray(1), dtype=torch.uint8)
    with pytest.warns(UserWarning, match="not writable"):
        tensor = torch.from_numpy(numpy.frombuffer(buffer, numpy.uint8))[3:]
    del buffer

    del slice_of_arrow
    assert not released
    del tensor

    assert list(released) == [b"id"]


def test_pin_of_many_views_is_released_once(arena):
    released = deque()
    buffer = pinned_buffer(arena.view(0, 80), partial(released.append, b"id"))
    pieces = [buffer[start : start + 8] for start in range(0, 80, 8)]
    del buffer
    pieces.reverse()

    pieces.clear()

    assert list(released) == [b"id"]


def test_first_warm_writes_of_many_threads_at_once_all_arrive(arena):
    barrier = threading.Barrier(8)

    def write(number):
        barrier.wait()
        arena.write(number * MIB, [bytes([number]) * MIB], warm=True)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for number in range(8):
        assert bytes(arena.view(number * MIB, MIB)) == bytes([number]) * MIB


def test_large_warm_write_lets_other_threads_run(arena):
    numpy_source = numpy.ones(128 * MIB, numpy.uint8)
    arena.write(0, [numpy_source.data], warm=False)
    ticks = []
    done = threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(None)

    thread = threading.Thread(target=tick)
    thread.start()
    before = len(ticks)
    arena.write(0, [numpy_source.data], warm=True)
    during = len(ticks) - before
    done.set()
    thread.join()

    # A copy of 128 MiB takes 10 ms and more. With the lock held, no tick at all happens in it.
    assert during > 100
