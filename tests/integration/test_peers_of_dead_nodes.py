"""The connections of a process to processes of a node that is dead: read to the end, closed, and not made again."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raybook.base.specs import Endpoint
from raybook.core.owner.records import FromPeer, FromRaylet, PeerGone, ToPeer
from raybook.io.keepalive import expect_answers
from raybook.io.peer_address import home_of, node_home
from raybook.io.transport import FramedSocket, connect, listen
from raybook.protocol.messages.raylet import NodeGone
from raybook.protocol.messages.worker import GetObject, Hello, WorkerMessage
from raybook.worker.mail import Mail

TOKEN = b"t" * 32
KEY = b"object-id..........."
THEIRS = Endpoint(b"theirs..", b"node-b..", "unix:/tmp/session-b/theirs.s|tcp:10.0.0.2:4000")
HOME = "/tmp/session-b|10.0.0.2"
DEAD = NodeGone(b"node-b..", "it burnt.", HOME)
WHY = f"its node {DEAD.node_id.hex()} died: it burnt."


class Process:
    """The I/O side of a driver, without its loop."""

    def __init__(self, folder: Path) -> None:
        self.address = f"unix:{folder}/mine.s"
        self.listener = listen(self.address)
        self.epoll = select.epoll()
        self.epoll.register(self.listener, select.EPOLLIN)
        self.lost: list[PeerGone] = []
        mine = Endpoint(b"mine....", b"node-a..", self.address)
        self.mail = Mail(mine, TOKEN, [self.listener], self.epoll, {GetObject}, self.lost.append, 10_000)

    def turn(self) -> list:
        inbox: list = []
        for fd, mask in self.epoll.poll(2):
            peer = self.mail.by_fd.get(fd)
            if peer is not None:
                self.mail.read(peer, mask, inbox)
            else:
                self.mail.welcome(fd)
        return inbox

    def meet(self) -> FramedSocket:
        """A process of the other node connects and says who it is."""
        framed = connect_in_background(self)
        framed.queue(Hello(THEIRS))
        framed.flush()
        self.turn()
        return framed


def connect_in_background(process: Process) -> FramedSocket:
    """Connect from this very thread: the listener's backlog and the socket's buffer do the waiting."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(connect, process.address, TOKEN, WorkerMessage)
        while not future.done():
            process.turn()
        return future.result()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    one = Process(tmp_path)
    yield one
    one.mail.close()
    one.listener.close()
    one.epoll.close()


def test_a_node_is_known_by_what_the_addresses_of_its_processes_have_in_common():
    assert home_of(THEIRS.address) == HOME == node_home("unix:/tmp/session-b/raylet.sock", "10.0.0.2")
    assert home_of("unix:/tmp/session-a/x.s") == node_home("unix:/tmp/session-a/raylet.sock", "")


def test_what_a_process_said_before_its_node_died_is_heard_and_then_it_is_gone(process: Process):
    framed = process.meet()
    framed.queue(GetObject(KEY))
    framed.flush()
    inbox: list = []

    process.mail.node_gone(DEAD, inbox)

    assert inbox == [
        FromPeer(THEIRS.client_id, GetObject(KEY)),
        FromRaylet(DEAD),
        PeerGone(THEIRS.client_id, WHY, home=HOME),
    ]
    assert not process.mail.by_fd
    framed.close()


def test_nothing_is_sent_to_a_dead_node_and_the_sender_hears_why(process: Process):
    process.mail.node_gone(DEAD, [])

    process.mail.send(ToPeer(THEIRS.client_id, THEIRS.address, GetObject(KEY)))

    assert process.lost == [PeerGone(THEIRS.client_id, WHY)]


def test_a_process_of_a_dead_node_that_lives_on_is_not_listened_to(process: Process):
    process.mail.node_gone(DEAD, [])
    framed = connect_in_background(process)
    framed.queue(Hello(THEIRS))
    framed.queue(GetObject(KEY))
    framed.flush()

    assert process.turn() == []
    assert not process.mail.by_fd and THEIRS.client_id not in process.mail.peers.by_client
    framed.close()


def test_the_kernel_is_told_how_long_to_wait_for_a_silent_host():
    with socket.socket() as sock:
        expect_answers(sock, 10_000)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15_000
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 5
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT) == 3
