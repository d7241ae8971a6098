"""The HTTP listener in this process: clients that are too slow, and TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from raybook.io.certificates import make_authority, make_member
from raybook.serve.http_listener import HttpListener, PatientProtocol

TOO_SLOW = b"HTTP/1.1 408 Request Timeout"


async def application(scope, receive, send):
    """Answers with the length of the body."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    text = str(size).encode()
    head = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": text})


@asynccontextmanager
async def listening(**options) -> AsyncIterator[int]:
    """A port where the application answers."""
    listener = HttpListener(application, {"host": "127.0.0.1", "port": 0, **options})
    yield listener.listen(is_first=True)
    await listener.close()


@pytest.fixture
def impatient(monkeypatch):
    """Heads, and silences in bodies, may last for a twentieth of a second."""
    monkeypatch.setattr(PatientProtocol, "head_timeout_s", 0.05)


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nhost: x\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345",
    ],
    ids=["nothing", "half a line", "half a head", "half a body"],
)
def test_a_client_that_stops_in_the_middle_is_told_that_it_took_too_long(impatient, beginning):
    async def story():
        async with listening() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(beginning)
            answer = await reader.read()
            assert answer.startswith(TOO_SLOW)
            assert b"connection: close" in answer
            writer.close()

    asyncio.run(story())


def test_a_head_that_comes_a_byte_at_a_time_has_the_same_limit_as_one_that_stops(impatient):
    async def story():
        async with listening() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            # Not up to the end: a byte that arrives after the server has closed makes that a reset.
            answer = asyncio.ensure_future(reader.read(len(TOO_SLOW)))
            writer.write(b"GET / HTTP/1.1\r\nx: ")
            while not answer.done():
                # As slow as can be: the loop turns between two bytes, and the server answers when it has had enough.
                writer.write(b"a")
                await asyncio.wait([answer], timeout=0.005)
            assert answer.result().startswith(TOO_SLOW)
            writer.close()

    asyncio.run(story())


def test_slow_clients_are_in_nobodys_way():
    async def story():
        async with listening() as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
            for _, writer in slow:
                writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n1")
            answers = await asyncio.gather(*(client.post("/", content=b"x" * n) for n in range(20)))
            assert [answer.text for answer in answers] == [str(n) for n in range(20)]
            for _, writer in slow:
                writer.close()

    asyncio.run(story())


def test_tls_is_spoken_where_there_is_a_certificate_and_plain_words_disturb_nobody(tmp_path: Path):
    make_authority(tmp_path)
    make_member(tmp_path, "web", ["127.0.0.1"])
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))

    async def story():
        async with listening(ssl_certfile=str(tmp_path / "web.pem"), ssl_keyfile=str(tmp_path / "web-key.pem")) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert not (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()
            async with httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}", verify=trusting) as client:
                answer = await client.post("/", content=b"x" * 100_000)
                assert (answer.status_code, answer.text) == (200, "100000")
            async with httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}") as stranger:
                with pytest.raises(httpx.ConnectError, match="certificate"):
                    await stranger.get("/")

    asyncio.run(story())
