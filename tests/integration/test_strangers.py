"""Strangers at a framed port: noise, half-open connections, other tokens. They are sent away; peers are served meanwhile."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import resource
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from raybook.io.loop_transport import Connection, FrameServer
from raybook.io.transport import NoMoreFiles, accept, connect, connect_nowait, listen
from raybook.protocol.auth import ANSWER_BYTES, GREETING_BYTES, MAGIC, REFUSAL, AuthenticationFailed
from raybook.protocol.frames import Codec, ProtocolError
from raybook.protocol.messages.worker import CancelTask, StealTasks, WorkerMessage
from raybook.protocol.waiting_room import WaitingRoom

TOKEN, OTHER = b"t" * 32, b"o" * 32


class Desk:
    """A server that notes what it hears, and answers each message with itself."""

    def __init__(self, address: str, **options: Any) -> None:
        self.heard: list[Any] = []
        self.server = FrameServer(address, TOKEN, WorkerMessage, self._heard, lambda connection: None, **options)
        self.address = self.server.address

    def _heard(self, connection: Connection, message: Any) -> None:
        self.heard.append(message)
        connection.send(message)

    async def serves(self) -> None:
        """An honest peer is answered."""
        loop = asyncio.get_running_loop()
        framed = await loop.run_in_executor(None, connect, self.address, TOKEN, WorkerMessage, 5.0)
        framed.queue(StealTasks(7))
        assert framed.flush()
        await until(lambda: framed.receive() == [StealTasks(7)])
        framed.close()


async def until(holds: Callable[[], Any], within_s: float = 5.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come true"
        await asyncio.sleep(0.002)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def reach(address: str) -> socket.socket:
    """A connection of somebody who knows nothing but the address."""
    if address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(address[5:])
    else:
        host, _, port = address[4:].rpartition(":")
        sock = socket.create_connection((host, int(port)))
    sock.setblocking(False)
    return sock


async def hear_out(sock: socket.socket) -> bytes:
    """All that the other side says until it hangs up."""
    loop = asyncio.get_running_loop()
    said = b""
    try:
        while part := await asyncio.wait_for(loop.sock_recv(sock, 4096), 5):
            said += part
    except ConnectionResetError:
        pass
    return said


@pytest.fixture(params=["unix", "tcp"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"unix:{tmp_path}/s" if request.param == "unix" else "tcp:127.0.0.1:0"


def on_a_loop(scene: Callable[[], Awaitable[None]]) -> None:
    """Run it; no file may be open afterwards that was not before."""
    before = open_files()
    asyncio.run(asyncio.wait_for(scene(), 30))  # type: ignore[arg-type]
    assert open_files() == before


def test_noise_is_answered_by_a_refusal_and_nothing_of_it_is_decoded(address: str):
    async def scene() -> None:
        desk = Desk(address)
        rng = random.Random(5)
        for size in (ANSWER_BYTES, 1_000, 100_000):
            sock = reach(desk.address)
            try:
                sock.sendall(rng.randbytes(size))
            except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                pass
            said = await hear_out(sock)
            assert said.startswith(MAGIC) or not said
            assert said[GREETING_BYTES:] in (REFUSAL, b"")
            sock.close()
        await desk.serves()
        assert desk.heard == [StealTasks(7)]
        desk.server.close()

    on_a_loop(scene)


def test_a_frame_without_a_proof_before_it_is_not_read(address: str):
    async def scene() -> None:
        desk = Desk(address)
        sock = reach(desk.address)
        message = CancelTask(b"x" * 100)
        sock.sendall(bytes(Codec(WorkerMessage).encode(message)))
        await hear_out(sock)
        sock.close()
        assert desk.heard == []
        desk.server.close()

    on_a_loop(scene)


def test_another_token_is_refused_and_both_sides_say_so(address: str, caplog: pytest.LogCaptureFixture):
    async def scene() -> None:
        desk = Desk(address)
        loop = asyncio.get_running_loop()
        with pytest.raises(AuthenticationFailed, match="refused our token"):
            await loop.run_in_executor(None, connect, desk.address, OTHER, WorkerMessage, 5.0)
        desk.server.close()

    with caplog.at_level(logging.WARNING):
        on_a_loop(scene)
    assert "does not know this cluster's token" in caplog.text


def test_a_non_blocking_caller_with_another_token_learns_it_when_it_reads(address: str):
    async def scene() -> None:
        desk = Desk(address)
        framed = connect_nowait(desk.address, OTHER, WorkerMessage)
        framed.queue(StealTasks(1))
        with pytest.raises(AuthenticationFailed, match="refused our token"):
            await until(lambda: framed.receive())
        framed.close()
        assert desk.heard == []
        desk.server.close()

    on_a_loop(scene)


def test_over_tcp_no_message_is_sent_to_who_has_not_proved_the_token():
    async def scene() -> None:
        impostor = socket.create_server(("127.0.0.1", 0))
        framed = connect_nowait(f"tcp:127.0.0.1:{impostor.getsockname()[1]}", TOKEN, WorkerMessage)
        secret = b"secret" * 5
        framed.queue(CancelTask(secret))
        sock, _ = impostor.accept()
        sock.sendall(MAGIC + bytes(32))
        await until(lambda: framed.receive() == [] and framed.flush() and _has_data(sock))
        sock.settimeout(0.2)
        said = sock.recv(4096)
        assert len(said) == ANSWER_BYTES and secret not in said
        sock.sendall(os.urandom(32) + b"\x05\x00\x00\x00junk!")
        with pytest.raises(AuthenticationFailed, match="could not prove"):
            await until(lambda: framed.receive())
        for each in (framed, sock, impostor):
            each.close()

    on_a_loop(scene)


def _has_data(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


@pytest.mark.parametrize("banner", [b"SSH-2.0-OpenSSH_9.2\r\n", b"220 mail.example ESMTP and a long line of words\r\n"])
def test_a_port_of_something_else_is_named_as_such(banner: bytes):
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"tcp:127.0.0.1:{other.getsockname()[1]}"
        framed = connect_nowait(address, TOKEN, WorkerMessage)
        sock, _ = other.accept()
        sock.sendall(banner)
        deadline = time.monotonic() + 5
        with pytest.raises(ProtocolError, match="is not raybook"):
            while time.monotonic() < deadline:
                framed.receive()
        framed.close()
        sock.close()


def test_a_port_that_takes_connections_and_says_nothing_is_given_up_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp:127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=r"said nothing for 0.2 s.*TLS"):
            connect(address, TOKEN, WorkerMessage, 0.2)


def test_half_open_connections_are_let_go_and_peers_are_served_meanwhile(
    address: str, caplog: pytest.LogCaptureFixture
):
    async def scene() -> None:
        desk = Desk(address, waiting=WaitingRoom(places=1_000, patience_ms=200))
        silent = [reach(desk.address) for _ in range(20)]
        halfway = [reach(desk.address) for _ in range(20)]
        for sock in halfway:
            sock.send(b"x" * (ANSWER_BYTES - 1))
        await desk.serves()
        for sock in silent + halfway:
            assert len(await hear_out(sock)) <= GREETING_BYTES
            sock.close()
        await until(lambda: not desk.server.connections)
        await desk.serves()
        desk.server.close()

    with caplog.at_level(logging.WARNING):
        on_a_loop(scene)
    assert "has not proved the token in time" in caplog.text
    assert len(caplog.records) <= 3, "forty refusals are not forty lines"


def test_the_oldest_stranger_makes_room_for_the_next(address: str):
    async def scene() -> None:
        desk = Desk(address, waiting=WaitingRoom(places=5, patience_ms=60_000))
        strangers = [reach(desk.address) for _ in range(12)]
        await until(lambda: len(desk.server.connections) == 5)
        await desk.serves()
        await until(lambda: len(desk.server.connections) == 4)
        for sock in strangers:
            sock.close()
        await until(lambda: not desk.server.connections)
        desk.server.close()

    on_a_loop(scene)


def test_peers_that_proved_the_token_are_not_strangers_however_long_they_stay(address: str):
    async def scene() -> None:
        desk = Desk(address, waiting=WaitingRoom(places=3, patience_ms=50))
        loop = asyncio.get_running_loop()
        framed = await loop.run_in_executor(None, connect, desk.address, TOKEN, WorkerMessage, 5.0)
        for _ in range(8):
            await desk.serves()
        await asyncio.sleep(0.12)
        framed.queue(StealTasks(1))
        framed.flush()
        await until(lambda: framed.receive() == [StealTasks(1)])
        framed.close()
        desk.server.close()

    on_a_loop(scene)


def test_a_peer_that_stops_in_the_middle_of_a_frame_and_one_that_never_reads_hold_up_nobody(address: str):
    async def scene() -> None:
        desk = Desk(address)
        loop = asyncio.get_running_loop()
        halfway = await loop.run_in_executor(None, connect, desk.address, TOKEN, WorkerMessage, 5.0)
        halfway.sock.send(b"\xff\xff\x00\x00half")
        deaf = await loop.run_in_executor(None, connect, desk.address, TOKEN, WorkerMessage, 5.0)
        for _ in range(200):
            deaf.queue(CancelTask(b"x" * 10_000))
        while not deaf.flush():
            await asyncio.sleep(0)
        await until(lambda: len(desk.heard) == 200)
        await desk.serves()
        halfway.close()
        deaf.close()
        await until(lambda: not desk.server.connections)
        desk.server.close()

    on_a_loop(scene)


def test_nonsense_from_a_peer_ends_its_connection_and_no_other(address: str):
    async def scene() -> None:
        desk = Desk(address)
        loop = asyncio.get_running_loop()
        framed = await loop.run_in_executor(None, connect, desk.address, TOKEN, WorkerMessage, 5.0)
        framed.sock.send(b"\x03\x00\x00\x00\xff\xff\xff")
        with pytest.raises(ConnectionError):
            await until(lambda: framed.receive())
        framed.close()
        await desk.serves()
        desk.server.close()

    on_a_loop(scene)


def test_a_server_that_may_open_no_more_files_waits_and_serves_on(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    async def scene() -> None:
        desk = Desk(f"unix:{tmp_path}/s")
        loop = asyncio.get_running_loop()
        await desk.serves()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        waiting = reach(desk.address)
        turns: list[float] = []
        try:
            # The connection is in the kernel's queue; this process cannot take it.
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            began = time.process_time()
            await asyncio.sleep(0.3)
            turns.append(time.process_time() - began)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert turns[0] < 0.15, "it span"
        assert len(await asyncio.wait_for(loop.sock_recv(waiting, 100), 5)) == GREETING_BYTES
        waiting.close()
        await desk.serves()
        desk.server.close()

    with caplog.at_level(logging.WARNING):
        on_a_loop(scene)
    assert "No more connections" in caplog.text


def test_accepting_without_files_left_is_told_from_nobody_there(tmp_path: Path):
    listener = listen(f"unix:{tmp_path}/s")
    assert accept(listener, TOKEN, WorkerMessage) is None
    caller = reach(f"unix:{tmp_path}/s")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        with pytest.raises(NoMoreFiles):
            accept(listener, TOKEN, WorkerMessage)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    framed = accept(listener, TOKEN, WorkerMessage)
    assert framed is not None
    for each in (framed, caller, listener):
        each.close()


def test_a_socket_of_ours_can_be_opened_by_this_user_only(tmp_path: Path):
    listener = listen(f"unix:{tmp_path}/s")
    assert os.stat(tmp_path / "s").st_mode & 0o777 == 0o600
    listener.close()


def test_a_port_in_use_and_an_address_of_another_machine_are_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"tcp:127.0.0.1:{port}: another process does"):
            listen(f"tcp:127.0.0.1:{port}")
    with pytest.raises(OSError, match="no address of this machine"):
        listen("tcp:192.0.2.1:0")
