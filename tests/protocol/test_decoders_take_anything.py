"""Every decoder that reads what a peer sent returns, or raises its documented error, whatever the bytes are.

Mutants of every message there is, seeded; a hundred thousand in every run, a million in `make chaos`.
"""

from __future__ import annotations

import io
import json
import logging
import random
import resource
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy
import pytest

from raybook.io.rpc import SERVICES, Converter
from raybook.jobs.handler import JobsHandler
from raybook.jobs.manager import JobNotFound
from raybook.jobs.request import parse_request
from raybook.protocol.auth import AuthenticationFailed, Calling, Listening
from raybook.protocol.frames import Codec, ProtocolError
from raybook.protocol.messages.neighbours import NeighbourMessage
from raybook.protocol.messages.raylet import RayletMessage
from raybook.protocol.messages.worker import WorkerMessage
from raybook.protocol.messages.zygote import ZygoteMessage
from raybook.protocol.serialization import SerializationContext, read_layout, serialize
from tests.protocol.fuzzing import all_of, cases, mutate, sample

UNIONS = {
    "raylet": RayletMessage,
    "worker": WorkerMessage,
    "neighbours": NeighbourMessage,
    "zygote": ZygoteMessage,
}
TOKEN = b"t" * 32
SHORT, LONG = 100_000, 1_000_000
"""Cases of all decoders together."""
CASE_S_MAX = 0.5
"""Processor time of one case; honest ones take microseconds, and bytes are few."""
GROWTH_KIB_MAX = 64 << 10

Decode = Callable[[bytes], object]


def framed(body: bytes) -> bytes:
    return struct.pack("<I", len(body)) + body


def frame_decoder(union: Any) -> tuple[list[bytes], Decode, type[Exception]]:
    codec = Codec(union)
    encode = msgspec.msgpack.encode
    whole = [bytes(framed(encode(message))) for message in all_of(union)]
    turn = [0]

    def decode(data: bytes) -> None:
        turn[0] += 1
        codec.tail.clear()
        if turn[0] % 2:
            # The length is right; what is in it is not.
            codec.feed(framed(data[4:]))
        else:
            half = len(data) // 2
            codec.feed(data[:half])
            codec.feed(data[half:])

    return whole, decode, ProtocolError


def rpc_decoder() -> tuple[list[bytes], Decode, type[Exception]]:
    converter = Converter()
    types_ = {kind for methods, _ in SERVICES.values() for pair in methods.values() for kind in pair}
    kinds = sorted(types_, key=lambda kind: kind.__name__)
    corpus = [bytes([n]) + converter.encode(sample(kind, n)) for n, kind in enumerate(kinds)]

    def decode(data: bytes) -> object:
        return converter.decode(data[1:], kinds[data[0] % len(kinds)]) if data else None

    return corpus, decode, ValueError


def layout_decoder() -> tuple[list[bytes], Decode, type[Exception]]:
    """Headers only: pickles come from who has proved the token, and are not made safe by looking at them."""
    context = SerializationContext()
    values = [numpy.arange(1000), {"a": numpy.zeros(600), "b": [numpy.ones((30, 30))]}, (numpy.arange(700),) * 2]
    corpus = [serialize(value, context).to_bytes()[:200] for value in values]
    full = [serialize(value, context).to_bytes() for value in values]

    def decode(data: bytes) -> None:
        _, start, spans = read_layout(memoryview(data))
        ends = [start] + [place for span in spans for place in span]
        assert ends == sorted(ends) and ends[-1] == len(data)

    for each in full:
        decode(each)
    return corpus + [each for each in full if len(each) < 9_000], decode, ValueError


def handshake_decoder() -> tuple[list[bytes], Decode, type[Exception]]:
    listening, calling = Listening(TOKEN), Calling(TOKEN)
    calling.feed(listening.greeting)
    answer = calling.answer
    listening.feed(answer)
    corpus = [listening.greeting, answer, listening.greeting + listening.verdict, listening.verdict]
    turn = [0]

    def decode(data: bytes) -> None:
        turn[0] += 1
        side: Any = Calling(TOKEN) if turn[0] % 2 else Listening(TOKEN)
        half = len(data) // 3
        side.feed(data[:half])
        passed = side.feed(data[half:])
        assert passed == b"" and not getattr(side, "is_over", False), "a stranger was let in"

    return corpus, decode, (AuthenticationFailed, ProtocolError)  # type: ignore[return-value]


def job_decoder() -> tuple[list[bytes], Decode, type[Exception]]:
    bodies = [
        {"entrypoint": "python run.py", "submission_id": "a-1", "runtime_env": {"env_vars": {"A": "1"}}},
        {"entrypoint": "x", "entrypoint_num_cpus": 1.5, "entrypoint_memory": 10, "entrypoint_resources": {"disk": 1}},
        {"entrypoint": "x", "entrypoint_label_selector": {"zone": "a"}, "job_id": "b"},
    ]  # fmt: skip

    def decode(data: bytes) -> object:
        return parse_request(json.loads(data))

    return [json.dumps(body).encode() for body in bodies], decode, (ValueError, TypeError, RecursionError)  # type: ignore[return-value]


class Connection:
    """A connection on which everything has been said already."""

    def __init__(self, said: bytes) -> None:
        self.said = said
        self.answer = bytearray()

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self.said)

    def settimeout(self, timeout_s: float | None) -> None:
        pass

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 8265

    def sendall(self, data: bytes) -> None:
        self.answer += data


class Manager:
    """A manager of no jobs."""

    def details(self, name: str) -> Any:
        raise JobNotFound(name)

    delete = stop = find = details

    def all_details(self) -> list[Any]:
        return []

    def submit(self, request: Any) -> str:
        return request.submission_id


class Site:
    """What requests share, without a cluster behind it."""

    manager = Manager()
    token, bound_host, needs_token, session_name, metrics_address = "7f" * 16, "127.0.0.1", True, "s", ""

    def ask(self, answer: Any) -> Any:
        return answer


def http_decoder() -> tuple[list[bytes], Decode, type[Exception]]:
    body = b'{"entrypoint": "python run.py"}'
    post = b"POST /api/jobs/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s"
    corpus = [
        b"GET /api/version HTTP/1.1\r\nHost: localhost:8265\r\nAccept: */*\r\n\r\n",
        b"GET /api/jobs/a/logs/tail HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
        b"DELETE /api/jobs/raysubmit_1 HTTP/1.1\r\nAuthorization: Bearer 00\r\nOrigin: http://localhost\r\n\r\n",
        post % (len(body), body),
    ]
    handler = type("BoundHandler", (JobsHandler,), {"site": Site()})
    turn = [0]

    def decode(data: bytes) -> None:
        turn[0] += 1
        connection = Connection(data)
        # A neighbour over the Unix socket, whom everything is answered, and a stranger in turns.
        handler(connection, "" if turn[0] % 2 else ("10.0.0.9", 4711), None)
        status = bytes(connection.answer[9:12])
        assert status != b"500", connection.answer.decode(errors="replace")
        assert turn[0] % 2 or not status.startswith(b"2"), "a stranger was answered"

    return corpus, decode, OSError


DECODERS: dict[str, Callable[[], tuple[list[bytes], Decode, type[Exception]]]] = {
    **{f"frames of {name}": (lambda union=union: frame_decoder(union)) for name, union in UNIONS.items()},
    "control calls": rpc_decoder,
    "layouts of values": layout_decoder,
    "handshake": handshake_decoder,
    "job submissions": job_decoder,
    "requests over HTTP": http_decoder,
}


IN_PARTS = ("handshake", "layouts of values", "requests over HTTP")
"""What is put together of their parts is read in tests of their own."""


@pytest.fixture(autouse=True)
def nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Records of a million refusals would be kept by pytest, and walks of the collector over them counted as cases."""
    caplog.set_level(logging.CRITICAL, logger="raybook")


def run(name: str, seed: int, count: int) -> tuple[int, int]:
    """(returned, refused) of so many cases. AssertionError naming the bytes that did something else."""
    corpus, decode, documented = DECODERS[name]()
    returned = refused = 0
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clock = time.thread_time
    for data in cases(seed, corpus, count):
        began = clock()
        try:
            decode(data)
            returned += 1
        except documented:
            refused += 1
        except Exception as error:  # noqa: BLE001 - what else it may be is the question.
            raise AssertionError(f"{name}: {data.hex()} raised {type(error).__name__}: {error}") from error
        if clock() - began > CASE_S_MAX:
            raise AssertionError(f"{name}: {data.hex()} took {clock() - began:.2f} s.")
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - grown_kib
    assert grown_kib < GROWTH_KIB_MAX, f"{name}: a case took {grown_kib} KiB."
    return returned, refused


@pytest.mark.slow
@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_returns_or_raises_its_documented_error(name: str):
    returned, refused = run(name, seed=1, count=SHORT // len(DECODERS))
    if name != "requests over HTTP":  # A refusal is an answer there.
        assert refused > returned * 0.05, "the mutants were too tame to show anything"


@pytest.mark.soak
@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_returns_or_raises_its_documented_error_a_million_times(name: str):
    for seed in range(2, 12):
        run(name, seed, LONG // 10 // len(DECODERS))


@pytest.mark.parametrize("name", [name for name in DECODERS if name not in IN_PARTS])
def test_what_was_not_mutated_is_read(name: str):
    corpus, decode, _ = DECODERS[name]()
    for data in corpus:
        decode(data)


def test_same_seed_gives_the_same_cases():
    corpus = [b"some bytes", b"and others"]
    assert list(cases(3, corpus, 50)) == list(cases(3, corpus, 50)) != list(cases(4, corpus, 50))
    assert mutate(random.Random(1), b"abc", b"def") == mutate(random.Random(1), b"abc", b"def")


def value(chance: random.Random, depth: int = 3) -> Any:
    """Something that msgpack can say."""
    kind = chance.randrange(8 if depth else 6)
    if kind == 6:
        return [value(chance, depth - 1) for _ in range(chance.randrange(5))]
    if kind == 7:
        return {chance.choice(("a", "kind", 1)): value(chance, depth - 1) for _ in range(chance.randrange(4))}
    whole = chance.choice((0, 1, -1, 63, 1 << 31, (1 << 64) - 1, -(1 << 63)))
    text = "".join(chance.choices("aé\0:/", k=chance.randrange(12)))
    return (None, chance.random() < 0.5, whole, chance.uniform(-1e300, 1e300), text, text.encode())[kind]


CODECS = {name: Codec(union) for name, union in UNIONS.items()}


def refuse_or_take(name: str, body: Any) -> None:
    """Anything but that would be another error."""
    codec = CODECS[name]
    codec.tail.clear()
    try:
        codec.feed(framed(msgspec.msgpack.encode(body)))
    except ProtocolError:
        pass


@pytest.mark.parametrize("name", UNIONS)
def test_well_formed_messages_of_the_wrong_shape_are_refused(name: str):
    chance = random.Random(3)
    for _ in range(2_000):
        refuse_or_take(name, value(chance))


@pytest.mark.parametrize("name", UNIONS)
def test_messages_with_a_known_tag_and_wrong_fields_are_refused(name: str):
    chance = random.Random(4)
    for _ in range(5_000):
        refuse_or_take(name, [chance.randrange(61), *(value(chance, 2) for _ in range(chance.randrange(16)))])


def bombs() -> Iterator[tuple[str, bytes]]:
    yield "an array of four billion", b"\xdd\xff\xff\xff\xff"
    yield "a map of four billion", b"\xdf\xff\xff\xff\xff"
    yield "four gigabytes", b"\xc6\xff\xff\xff\xff"
    yield "nesting without end", b"\x91" * 100_000
    yield "arrays of arrays of four billion", b"\xdd\xff\xff\xff\xff" * 100


@pytest.mark.parametrize(("what", "body"), list(bombs()), ids=[what for what, _ in bombs()])
@pytest.mark.parametrize("name", UNIONS)
def test_a_few_bytes_that_announce_a_lot_cost_little(name: str, what: str, body: bytes):
    codec = CODECS[name]
    before_kib, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.thread_time()
    for prefix in (b"", b"\x9f\x01", b"\x9f\x04", b"\x9f\x10\x01"):
        codec.tail.clear()
        with pytest.raises(ProtocolError):
            codec.feed(framed(prefix + body))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < GROWTH_KIB_MAX
    assert time.thread_time() - began < CASE_S_MAX
