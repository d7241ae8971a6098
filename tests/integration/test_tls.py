"""TLS below framed sockets, gRPC and the command that makes certificates: who has none of the authority is no peer."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from raybook.base.tls_files import TlsFiles
from raybook.cli import main as cli
from raybook.io import certificates, session_dir
from raybook.io.certificates import make_authority, make_member
from raybook.io.channel import RemoteError
from raybook.io.loop_transport import FrameServer
from raybook.io.rpc import GrpcChannel, serve_grpc
from raybook.io.tls import Tls, load_tls, usable_tls
from raybook.io.transport import FramedSocket, accept, connect, connect_nowait, listen
from raybook.protocol.messages.gcs import ListNodes, NodeInfo, NodeList
from raybook.protocol.messages.worker import CancelTask, StealTasks, WorkerMessage

TOKEN = b"t" * 32


class Folders:
    """Certificates for tests: ours, of another authority, out of date, and for a named host only."""

    def __init__(self, base: Path, patch: pytest.MonkeyPatch) -> None:
        ours, theirs = base / "ours", base / "theirs"
        make_authority(ours)
        make_authority(theirs)
        self.base = base
        self.member = make_member(ours, "member")
        self.expired = make_member(ours, "expired", days=-1)
        self.stranger = make_member(theirs, "stranger")
        # It trusts our authority, and cannot be of it.
        self.foreign = TlsFiles(self.stranger.cert, self.stranger.key, self.member.ca)
        patch.setattr(certificates, "MEMBER_NAME", "localhost")
        self.by_host = make_member(ours, "by-host", hosts=["127.0.0.1"])
        self.by_other_host = make_member(ours, "by-other-host", hosts=["192.0.2.7"])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folders]:
    with pytest.MonkeyPatch.context() as patch:
        made = Folders(tmp_path_factory.mktemp("certificates"), patch)
    yield made


class Pair:
    """Two ends on one thread, stepped in turns."""

    def __init__(self, listening: Tls | None, calling: Tls | None) -> None:
        self.listener = listen("tcp:127.0.0.1:0")
        address = f"tcp:127.0.0.1:{self.listener.getsockname()[1]}"
        self.near = connect_nowait(address, TOKEN, WorkerMessage, calling)
        self.far = self._accept(listening)
        self.near_got: list[Any] = []
        self.far_got: list[Any] = []

    def _accept(self, tls: Tls | None) -> FramedSocket:
        deadline = time.monotonic() + 5
        while (framed := accept(self.listener, TOKEN, WorkerMessage, tls)) is None:
            assert time.monotonic() < deadline
        return framed

    def step(self) -> None:
        self.near.flush()
        self.far_got += self.far.receive()
        self.far.flush()
        self.near_got += self.near.receive()

    def run(self, holds: Callable[[], bool], within_s: float = 10) -> None:
        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, "it did not come true"
            self.step()

    def close(self) -> None:
        for each in (self.near, self.far, self.listener):
            each.close()


@pytest.fixture
def pair() -> Iterator[Callable[..., Pair]]:
    pairs: list[Pair] = []

    def make(listening: Tls | None, calling: Tls | None) -> Pair:
        pairs.append(Pair(listening, calling))
        return pairs[-1]

    yield make
    for each in pairs:
        each.close()


def test_messages_go_both_ways_in_order_between_members(files: Folders, pair: Callable[..., Pair]):
    tls = Tls(files.member)
    ends = pair(tls, tls)
    sent = [StealTasks(number) for number in range(100)]
    for message in sent:
        ends.near.queue(message)
    ends.run(lambda: ends.far_got == sent)
    for message in sent:
        ends.far.queue(message)
    ends.run(lambda: ends.near_got == sent)


def test_what_is_larger_than_all_buffers_arrives_whole(files: Folders, pair: Callable[..., Pair]):
    tls = Tls(files.member)
    ends = pair(tls, tls)
    large = CancelTask(os.urandom(3_000_000))
    ends.near.queue(large)
    ends.near.queue(StealTasks(1))
    ends.run(lambda: len(ends.far_got) == 2)
    assert ends.far_got == [large, StealTasks(1)]


def test_what_is_queued_while_a_write_is_stuck_goes_behind_it(files: Folders, pair: Callable[..., Pair]):
    tls = Tls(files.member)
    ends = pair(tls, tls)
    ends.near.queue(StealTasks(0))
    ends.run(lambda: ends.far_got == [StealTasks(0)])
    count = 0
    while True:
        count += 1
        ends.near.queue(CancelTask(bytes([count % 256]) * 100_000))
        if not ends.near.flush():
            break
    ends.near.queue(StealTasks(count))
    ends.run(lambda: len(ends.far_got) == count + 2, 20)
    assert [message.task_id[0] for message in ends.far_got[1:-1]] == [n % 256 for n in range(1, count + 1)]
    assert ends.far_got[-1] == StealTasks(count)


def test_nothing_of_the_messages_is_on_the_wire(files: Folders):
    tls = Tls(files.member)
    seen: list[bytes] = []
    here, there = socket.socketpair()
    middle_a, middle_b = socket.socketpair()
    for each in (here, there, middle_a, middle_b):
        each.setblocking(False)
    near = tls.connecting(here, WorkerMessage, TOKEN, "127.0.0.1")
    far = tls.accepted(middle_b, WorkerMessage, TOKEN)
    secret = CancelTask(b"a very secret text")
    near.queue(secret)
    got: list[Any] = []
    deadline = time.monotonic() + 5
    while not got:
        assert time.monotonic() < deadline
        near.flush()
        for source, target in ((there, middle_a), (middle_a, there)):
            try:
                seen.append(source.recv(65536))
                target.sendall(seen[-1])
            except BlockingIOError:
                pass
        got = far.receive()
        far.flush()
        near.receive()
    assert got == [secret]
    wire = b"".join(seen)
    assert b"very secret" not in wire and TOKEN not in wire and b"raybook\x01" not in wire
    for each in (near, far, there, middle_a):
        each.close()


def refused(ends: Pair) -> tuple[str, str]:
    """What the caller and the listener say when they find out."""
    said = {"near": "", "far": ""}
    deadline = time.monotonic() + 5
    ends.near.queue(StealTasks(1))
    while not all(said.values()):
        assert time.monotonic() < deadline, f"nobody minded: {said}"
        for name in said:
            if said[name]:
                continue
            end = getattr(ends, name)
            try:
                end.flush()
                assert end.receive() == []
            except ConnectionError as error:
                said[name] = str(error)
                end.close()
    return said["near"], said["far"]


@pytest.mark.parametrize(
    ("who", "caller_says", "listener_says"),
    [
        (
            "foreign",
            "refused this node's certificate",
            "certificate was refused: .*has to be one of this cluster's authority",
        ),
        ("expired", "certificate expired.*out of date", "certificate has expired.*out of date"),
    ],
)
def test_a_caller_with_a_wrong_certificate_is_refused_and_both_say_why(
    files: Folders, pair: Callable[..., Pair], who: str, caller_says: str, listener_says: str
):
    near, far = refused(pair(Tls(files.member), Tls(getattr(files, who))))
    assert re.search(caller_says, near), near
    assert re.search(listener_says, far), far


def test_a_listener_with_a_wrong_certificate_is_refused(files: Folders, pair: Callable[..., Pair]):
    near, far = refused(pair(Tls(files.foreign), Tls(files.member)))
    assert "certificate was refused" in near
    assert "refused this node's certificate" in far


def test_a_caller_without_any_certificate_is_refused(files: Folders):
    tls = Tls(files.member)
    listener = listen("tcp:127.0.0.1:0")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(files.member.ca)
    raw = socket.create_connection(listener.getsockname())
    far = accept(listener, TOKEN, WorkerMessage, tls)
    assert far is not None
    bare = context.wrap_socket(raw, do_handshake_on_connect=False)
    bare.setblocking(False)
    deadline = time.monotonic() + 5
    with pytest.raises(ConnectionError, match="showed no certificate"):
        while time.monotonic() < deadline:
            try:
                bare.do_handshake()
            except ssl.SSLWantReadError:
                pass
            far.receive()
    for each in (bare, far, listener):
        each.close()


def test_a_caller_without_tls_gets_nothing_and_is_not_read(files: Folders):
    tls = Tls(files.member)
    listener = listen("tcp:127.0.0.1:0")
    raw = socket.create_connection(listener.getsockname())
    far = accept(listener, TOKEN, WorkerMessage, tls)
    assert far is not None
    raw.sendall(b"x" * 64)
    deadline = time.monotonic() + 5
    with pytest.raises(ConnectionError, match="does not speak TLS"):
        while time.monotonic() < deadline:
            far.receive()
    far.close()
    raw.close()
    listener.close()


def test_a_listener_without_tls_is_named_as_such(files: Folders):
    listener = listen("tcp:127.0.0.1:0")
    near = connect_nowait(f"tcp:127.0.0.1:{listener.getsockname()[1]}", TOKEN, WorkerMessage, Tls(files.member))
    deadline = time.monotonic() + 5
    far = None
    with pytest.raises(ConnectionError, match="does not speak TLS"):
        while time.monotonic() < deadline:
            far = far or accept(listener, TOKEN, WorkerMessage)
            near.flush()
            near.receive()
    for each in (near, far, listener):
        assert each is not None
        each.close()


def test_certificates_without_the_members_name_must_have_the_address(files: Folders, pair: Callable[..., Pair]):
    good = Tls(files.by_host)
    assert not good.is_member and good.name_of("10.0.0.1") == "10.0.0.1"
    ends = pair(good, good)
    ends.near.queue(StealTasks(3))
    ends.run(lambda: ends.far_got == [StealTasks(3)])
    near, _ = refused(pair(Tls(files.by_other_host), good))
    assert "made for another name" in near


def test_nobody_reachable_is_no_matter_of_certificates(files: Folders):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"tcp:127.0.0.1:{gone.getsockname()[1]}"
    near = connect_nowait(address, TOKEN, WorkerMessage, Tls(files.member))
    deadline = time.monotonic() + 5
    with pytest.raises(ConnectionError, match="refused"):
        while time.monotonic() < deadline:
            near.flush()
    near.close()


def on_a_loop(scene: Callable[[], Awaitable[None]]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    asyncio.run(asyncio.wait_for(scene(), 30))  # type: ignore[arg-type]
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_blocking_caller_speaks_with_a_server_on_a_loop_and_a_stranger_is_logged(
    files: Folders, caplog: pytest.LogCaptureFixture
):
    async def scene() -> None:
        tls, heard = Tls(files.member), []
        server = FrameServer(
            "tcp:127.0.0.1:0", TOKEN, WorkerMessage, lambda c, m: (heard.append(m), c.send(m)), lambda c: None, tls
        )
        loop = asyncio.get_running_loop()
        framed = await loop.run_in_executor(None, connect, server.address, TOKEN, WorkerMessage, 5.0, tls)
        message = CancelTask(b"y" * 500_000)
        framed.queue(message)
        got: list[Any] = []
        while not got:
            framed.flush()
            got = framed.receive()
            await asyncio.sleep(0)
        assert got == heard == [message]
        framed.close()
        with pytest.raises(ConnectionError, match="refused this node's certificate"):
            await loop.run_in_executor(None, connect, server.address, TOKEN, WorkerMessage, 5.0, Tls(files.foreign))
        server.close()

    with caplog.at_level(logging.WARNING):
        on_a_loop(scene)
    assert "certificate was refused" in caplog.text


class Nodes:
    """A service with one method."""

    async def call(self, method: str, request: Any) -> Any:
        if method != "ListNodes":
            raise RemoteError("ValueError", "only ListNodes")
        return NodeList([NodeInfo(b"n" * 16)])


def test_control_calls_go_over_tls_and_strangers_are_refused(files: Folders):
    async def scene() -> None:
        tls = Tls(files.member)
        server = await serve_grpc(Nodes(), "Gcs", "127.0.0.1:0", TOKEN, tls)

        async def ask(tls: Tls | None, token: bytes = TOKEN) -> Any:
            channel = GrpcChannel("Gcs", server.address, token, 3.0, tls)
            try:
                return await channel.call("ListNodes", ListNodes())
            finally:
                await channel.close()

        assert (await ask(tls)).nodes[0].node_id == b"n" * 16
        with pytest.raises(RemoteError, match="refused the token"):
            await ask(tls, b"o" * 32)
        for wrong in (files.foreign, files.expired):
            with pytest.raises(ConnectionError, match="did not answer ListNodes.*certificate of the same authority"):
                await ask(Tls(wrong))
        with pytest.raises(ConnectionError, match=r"TLS"):
            await ask(None)
        await server.stop()

    asyncio.run(asyncio.wait_for(scene(), 40))


def test_files_that_do_not_fit_together_are_refused_before_anything_starts(files: Folders, tmp_path: Path):
    member, stranger = files.member, files.stranger
    with pytest.raises(ValueError, match="do not fit together|fit together"):
        Tls(TlsFiles(member.cert, stranger.key, member.ca))
    with pytest.raises(ValueError, match="cannot be read.*no-such"):
        Tls(TlsFiles(str(tmp_path / "no-such"), member.key, member.ca))
    with pytest.raises(ValueError, match="is of no use with the authority"):
        usable_tls(files.foreign)
    with pytest.raises(ValueError, match="expired"):
        usable_tls(files.expired)
    (tmp_path / "text.pem").write_text("no certificate")
    with pytest.raises(ValueError, match="fit together"):
        Tls(TlsFiles(str(tmp_path / "text.pem"), member.key, member.ca))


def test_a_session_folder_says_which_files_its_processes_use(files: Folders, tmp_path: Path):
    assert load_tls(tmp_path) is None
    session_dir.write_tls(tmp_path, files.member)
    tls = load_tls(tmp_path)
    assert tls is not None and tls.files == files.member and tls.is_member
    assert os.stat(tmp_path / session_dir.TLS_FILE).st_mode & 0o777 == 0o600
    (tmp_path / session_dir.TLS_FILE).write_text("{}")
    with pytest.raises(ValueError, match="does not say which certificate"):
        load_tls(tmp_path)


def test_tls_init_makes_an_authority_once_and_certificates_that_work(tmp_path: Path):
    folder = tmp_path / "tls"
    first = CliRunner().invoke(cli, ["tls", "init", str(folder)])
    assert first.exit_code == 0, first.output
    assert "Made an authority" in first.output and "raybook start --head --tls-cert" in first.output
    second = CliRunner().invoke(cli, ["tls", "init", str(folder), "--name", "other", "--host", "10.0.0.7"])
    assert second.exit_code == 0 and "Of the authority that is there" in second.output
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    again = CliRunner().invoke(cli, ["tls", "init", str(folder)])
    assert again.exit_code == 1 and "is there already, and was left as it is" in again.output
    for bad in ("ca", "../x", ""):
        wrong = CliRunner().invoke(cli, ["tls", "init", str(folder), "--name", bad])
        assert wrong.exit_code == 2 and "no name for files" in wrong.output
    (folder / "ca-key.pem").unlink()
    half = CliRunner().invoke(cli, ["tls", "init", str(folder), "--name", "third"])
    assert half.exit_code == 1 and "half of an authority" in half.output
