"""Bytes of objects between two arenas, through a real socket, in threads as the raylet has them."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from raybook.io.range_stream import (
    WINDOW_BYTES,
    Inflow,
    receive,
    send,
    send_inflow,
    set_timeouts,
    shut,
    wait_for_close,
)
from raybook.io.shm_arena import Arena, create_arena

PATIENCE_S = 10
ARENA_BYTES = 16 << 20
SIZE = 5 * WINDOW_BYTES + 12_345


@pytest.fixture
def arenas() -> Iterator[tuple[Arena, Arena, Arena]]:
    made = tuple(Arena(create_arena(ARENA_BYTES)) for _ in range(3))
    yield made  # type: ignore[misc]
    for arena in made:
        arena.close()


@pytest.fixture
def pipes() -> Iterator[Callable[[], tuple[socket.socket, socket.socket]]]:
    """Connected TCP sockets: (sender's, reader's)."""
    made: list[socket.socket] = []

    def pipe() -> tuple[socket.socket, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            reader = socket.create_connection(server.getsockname())
            sender, _ = server.accept()
        for each in (sender, reader):
            set_timeouts(each, PATIENCE_S)
        made.extend((sender, reader))
        return sender, reader

    yield pipe
    for each in made:
        each.close()


class Thread(threading.Thread):
    """Runs a function, and hands on what it raises."""

    def __init__(self, function: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self.result: object = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self._function()
        except BaseException as error:  # noqa: BLE001 - the test looks at it.
            self.error = error

    def end(self) -> object:
        self.join(PATIENCE_S)
        assert not self.is_alive(), "a thread hangs"
        if self.error is not None:
            raise self.error
        return self.result


def filled(arena: Arena, offset: int) -> bytes:
    data = os.urandom(SIZE)
    arena.write(offset, [data], warm=False)
    return data


def test_an_object_crosses_from_one_arena_into_the_other(arenas, pipes):
    left, right, _ = arenas
    data = filled(left, 4096)
    sender, reader = pipes()

    def give() -> bool:
        send(sender, left.fd, 4096, SIZE)
        return wait_for_close(sender)

    giving = Thread(give)
    inflow = Inflow(SIZE)
    receive(reader, right, 8192, inflow)
    reader.close()
    assert giving.end() is True, "It knows that the reader has taken everything."
    assert inflow.position == SIZE
    assert right.view(8192, SIZE) == data


def test_a_copy_is_passed_on_while_it_comes(arenas, pipes):
    left, middle, right = arenas
    data = filled(left, 0)
    first, second = pipes(), pipes()
    inflow = Inflow(SIZE)
    half = 2 * WINDOW_BYTES
    passing = Thread(lambda: send_inflow(second[0], middle.fd, 0, 0, inflow))
    end = Inflow(SIZE)
    reading = Thread(lambda: receive(second[1], right, 0, end))
    receiving = Thread(lambda: receive(first[1], middle, 0, inflow))
    send(first[0], left.fd, 0, half)
    assert end.wait_beyond(half - 1) == half, "What has come so far went on already."
    send(first[0], left.fd, half, SIZE - half)
    for thread in (receiving, passing, reading):
        thread.end()
    assert right.view(0, SIZE) == data


def test_those_who_wait_for_bytes_that_will_not_come_hear_so(arenas, pipes):
    _, middle, _ = arenas
    sender, _ = pipes()
    inflow = Inflow(SIZE)
    passing = Thread(lambda: send_inflow(sender, middle.fd, 0, 0, inflow))
    inflow.fail()
    with pytest.raises(ConnectionError, match="did not come"):
        passing.end()


def test_what_came_before_a_break_is_kept_and_the_rest_comes_from_elsewhere(arenas, pipes):
    left, right, _ = arenas
    data = filled(left, 0)
    sender, reader = pipes()
    inflow = Inflow(SIZE)
    receiving = Thread(lambda: receive(reader, right, 0, inflow))
    send(sender, left.fd, 0, 2 * WINDOW_BYTES + 7)
    sender.close()
    with pytest.raises(ConnectionError):
        receiving.end()
    assert inflow.position == 2 * WINDOW_BYTES, "Whole windows count."
    sender, reader = pipes()
    giving = Thread(lambda: send(sender, left.fd, inflow.position, SIZE - inflow.position))
    receive(reader, right, 0, inflow)
    giving.end()
    assert right.view(0, SIZE) == data


def test_a_file_shorter_than_its_object_breaks_the_transfer(pipes, tmp_path):
    path = tmp_path / "short"
    path.write_bytes(b"x" * 100)
    sender, _ = pipes()
    with path.open("rb") as file, pytest.raises(ConnectionError, match="shorter"):
        send(sender, file.fileno(), 0, 101)


def test_a_reader_that_goes_with_bytes_unread_has_not_everything(arenas, pipes):
    left, _, _ = arenas
    filled(left, 0)
    sender, reader = pipes()
    send(sender, left.fd, 0, 1_000)
    waiting = Thread(lambda: wait_for_close(sender))
    reader.close()
    assert waiting.end() is False


def test_a_thread_that_waits_for_its_reader_ends_when_its_socket_is_shut(arenas, pipes):
    sender, _ = pipes()
    waiting = Thread(lambda: wait_for_close(sender))
    shut(sender)
    waiting.end()


def test_a_socket_that_brings_nothing_is_given_up_in_time(arenas, pipes):
    _, right, _ = arenas
    _, reader = pipes()
    set_timeouts(reader, 0.05)
    with pytest.raises(BlockingIOError):
        receive(reader, right, 0, Inflow(SIZE))
