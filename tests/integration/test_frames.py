"""Frames on a pair of sockets: whatever pieces the bytes come in, the messages come out whole and in order."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from raybook.io.transport import ConnectionClosed, FramedSocket
from raybook.protocol.frames import FRAME_BYTES_MAX, Codec, ProtocolError
from raybook.protocol.messages.worker import CancelTask, StealTasks, WorkerMessage

MESSAGES = [StealTasks(1), CancelTask(b"t" * 16), StealTasks(2)]


def framed(messages: list) -> bytes:
    codec = Codec(WorkerMessage)
    for message in messages:
        codec.queue(message)
    return bytes(codec.out)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, FramedSocket]]:
    near, far = socket.socketpair()
    connection = FramedSocket(far, WorkerMessage)
    yield near, connection
    near.close()
    connection.close()


def test_one_frame_at_a_time_is_the_same_as_all_in_one_buffer():
    codec = Codec(WorkerMessage)
    assert b"".join(bytes(codec.encode(message)) for message in MESSAGES) == framed(MESSAGES)


def test_a_whole_message_is_received_as_it_was_queued(pair):
    near, connection = pair
    for message in MESSAGES:
        near.send(framed([message]))
        assert connection.receive() == [message]
    assert connection.receive() == []


@pytest.mark.parametrize("cut", range(1, len(framed(MESSAGES))))
def test_messages_cut_anywhere_come_out_whole_and_in_order(pair, cut: int):
    near, connection = pair
    data = framed(MESSAGES)
    near.send(data[:cut])
    first = connection.receive()
    near.send(data[cut:])
    assert first + connection.receive() == MESSAGES


def test_a_whole_message_behind_half_of_another_is_no_message_of_its_own(pair):
    near, connection = pair
    # The second piece begins with what would be the length of a frame that ends where the piece ends.
    inner = framed([StealTasks(7)])
    outer = framed([CancelTask(inner)])
    begin = outer.index(inner)
    near.send(outer[:begin])
    assert connection.receive() == []
    near.send(outer[begin:])
    assert connection.receive() == [CancelTask(inner)]


def test_what_is_larger_than_the_buffer_arrives_in_one_piece(pair):
    near, connection = pair
    message = CancelTask(b"x" * 50_000)
    near.sendall(framed([message]))
    received: list = []
    while not received:
        received = connection.receive()
    assert received == [message]


@pytest.mark.parametrize("together", [False, True])
def test_bytes_that_are_no_message_break_the_connection(pair, together: bool):
    near, connection = pair
    bad = struct.pack("<I", 3) + b"\x93\x01\x02"
    near.send(bad + (framed([StealTasks(1)]) if together else b""))
    with pytest.raises(ProtocolError, match="no message of this protocol"):
        connection.receive()


def test_a_frame_that_announces_too_much_breaks_the_connection(pair):
    near, connection = pair
    near.send(struct.pack("<I", FRAME_BYTES_MAX + 1) + b"xx")
    with pytest.raises(ProtocolError, match="the limit is"):
        connection.receive()


def test_a_closed_peer_is_told_from_one_that_is_silent(pair):
    near, connection = pair
    assert connection.receive() == []
    near.close()
    with pytest.raises(ConnectionClosed):
        connection.receive()
