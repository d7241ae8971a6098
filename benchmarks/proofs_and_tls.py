"""Proofs and TLS: what it costs that both sides of every connection prove the token, and what TLS between nodes costs.

Arithmetic before: two HMACs of 100 bytes a side at 3 µs each, and one more round trip of 60 µs on a Unix socket; two
digests and two HMACs a control call of 500 µs; AES-GCM of one core at 3 to 5 GB/s on each side, in records of 16 KiB,
each with a turn through Python at 2 µs: about 1.5 GB/s, while the plain connection has 3 and more.

Usage: ``python benchmarks/proofs_and_tls.py [--megabytes 256]``. Needs ``cryptography``. All in one process, over loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import machine_line

from raybook.io.certificates import make_authority, make_member
from raybook.io.loop_transport import FrameServer
from raybook.io.rpc import GrpcChannel, serve_grpc
from raybook.io.tls import Tls
from raybook.io.transport import accept, connect, listen
from raybook.protocol.auth import Calling, Listening
from raybook.protocol.call_proof import is_call_allowed, is_its_reply, is_its_request, sign_call, sign_reply
from raybook.protocol.messages.gcs import ListNodes, NodeList
from raybook.protocol.messages.neighbours import NeighbourMessage

TOKEN = b"t" * 32
CHUNK_BYTES = 4 << 20


def per_call_us(
    action: Callable[[], object], count: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Microseconds, five rounds."""
    rounds = []
    for _ in range(5):
        began = clock()
        for _ in range(count):
            action()
        rounds.append((clock() - began) / count * 1e6)
    return rounds


def show(what: str, rounds: list[float], unit: str) -> None:
    low, high = min(rounds), max(rounds)
    print(f"{what:58} {statistics.median(rounds):9.1f} {unit}   ({low:.1f} to {high:.1f})")


def handshake() -> None:
    listening, calling = Listening(TOKEN), Calling(TOKEN)
    calling.feed(listening.greeting)
    listening.feed(calling.answer)
    calling.feed(listening.verdict)


def signed_call() -> None:
    nonce, pairs = sign_call(TOKEN, "/raybook.Gcs/ListNodes", b"x" * 100)
    metadata = dict(pairs)
    assert is_call_allowed(TOKEN, "/raybook.Gcs/ListNodes", metadata) and is_its_request(metadata, b"x" * 100)
    assert is_its_reply(TOKEN, nonce, dict(sign_reply(TOKEN, metadata, b"y" * 100)), b"y" * 100)


class Nodes:
    async def call(self, method: str, request: Any) -> Any:
        return NodeList([])


def connections(tls: Tls | None) -> list[float]:
    """Connect and prove, both sides, over loopback."""

    async def main() -> list[float]:
        server = FrameServer("tcp:127.0.0.1:0", TOKEN, NeighbourMessage, lambda c, m: None, lambda c: None, tls)
        loop = asyncio.get_running_loop()
        once = lambda: connect(server.address, TOKEN, NeighbourMessage, 10.0, tls).close()  # noqa: E731
        rounds = await loop.run_in_executor(None, per_call_us, once, 100)
        server.close()
        return rounds

    return asyncio.run(main())


def control_calls(tls: Tls | None) -> list[float]:
    async def main() -> list[float]:
        server = await serve_grpc(Nodes(), "Gcs", "127.0.0.1:0", TOKEN, tls)
        channel = GrpcChannel("Gcs", server.address, TOKEN, tls=tls)
        rounds = []
        for _ in range(5):
            began = time.perf_counter()
            for _ in range(200):
                await channel.call("ListNodes", ListNodes())
            rounds.append((time.perf_counter() - began) / 200 * 1e6)
        await channel.close()
        await server.stop()
        return rounds

    return asyncio.run(main())


def transfer_mb_s(tls: Tls | None, megabytes: int) -> list[float]:
    """A large object as the transfer service sends and takes it: ``sendall`` here, ``recv_into`` there."""
    data, target = memoryview(bytearray(megabytes << 20)), memoryview(bytearray(megabytes << 20))
    listener = listen("tcp:127.0.0.1:0")
    address = f"tcp:127.0.0.1:{listener.getsockname()[1]}"
    rounds = []
    for _ in range(5):
        thread = threading.Thread(target=_give, args=(listener, tls, data))
        thread.start()
        framed = connect(address, TOKEN, NeighbourMessage, 10.0, tls)
        framed.sock.settimeout(10)
        began, position = time.perf_counter(), 0
        while position < len(target):
            position += framed.sock.recv_into(target[position : position + CHUNK_BYTES])
        rounds.append(megabytes / (time.perf_counter() - began))
        framed.close()
        thread.join()
    listener.close()
    return rounds


def _give(listener: Any, tls: Tls | None, data: memoryview) -> None:
    framed = None
    while framed is None:
        framed = accept(listener, TOKEN, NeighbourMessage, tls)
    while not framed.is_connected:
        framed.receive()
        framed.flush()
    framed.sock.settimeout(10)
    framed.sock.sendall(data)
    framed.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=256)
    arguments = parser.parse_args()
    print(machine_line())
    with tempfile.TemporaryDirectory() as folder:
        make_authority(Path(folder))
        tls = Tls(make_member(Path(folder), "node"))
        show("processor time of both sides' proofs", per_call_us(handshake, 2_000, time.process_time), "µs")
        show(
            "  of signing and checking a call and its answer", per_call_us(signed_call, 2_000, time.process_time), "µs"
        )
        show("a control call over gRPC", control_calls(None), "µs")
        show("  over TLS", control_calls(tls), "µs")
        show("connect and prove, TCP on loopback", connections(None), "µs")
        show("  over TLS", connections(tls), "µs")
        show(f"{arguments.megabytes} MiB in one piece", transfer_mb_s(None, arguments.megabytes), "MiB/s")
        show("  over TLS", transfer_mb_s(tls, arguments.megabytes), "MiB/s")


if __name__ == "__main__":
    main()
