"""Transfer: how fast a large object goes from one machine to another, beside a plain TCP loop and Ray, in one run.

The machines are two network namespaces on one bridge (``tests/many_nodes/hosts``), so the "network" is this machine's
memory and both ends share its processors: a figure here is what the software costs, not what a network gives. Needs root
and iproute2.

- plain TCP: ``sendall`` of a block that lies in memory, ``recv_into`` of it into one buffer of 4 MiB, used again and
  again. The object itself is stored nowhere, which flatters this row.
- raybook, Ray: ``get`` of an object that lies on the other node, seen by an actor: from the call to the array. *First*:
  into memory that was never used before. *Later*: into the room of a copy before it.
- broadcast (``--broadcast``): one object read by 8 nodes at once, beside 8 objects of that size, each read by one node,
  which is what it costs when one node sends to all. Each machine's cable carries ``--gbit`` a second (tc).

Arithmetic before: plain TCP copies twice (into the kernel, out of it), on a processor each. raybook copies once, out
of the kernel into the arena, because ``sendfile`` sends the arena's pages themselves; but it fills fresh pages, which
cost as much as half a copy. So later pulls should be near plain TCP, first ones at two thirds of it.

Usage: ``python benchmarks/transfer.py [--mib 256] [--repeats 5] [--no-ray] [--broadcast] [--gbit 2]``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

import peer_env
from machine import PROJECT_ROOT, machine_line, touch_memory

sys.path[:0] = [str(PROJECT_ROOT), str(PROJECT_ROOT / "runtime")]

from tests.many_nodes.hosts import Host, Network, why_not  # noqa: E402 - its folder is put on the path above.

GOAL = 0.6
MIB = 1 << 20
CHUNK_BYTES = 4 * MIB
READERS = 8

SENDER = """
import socket, sys
size, repeats = int(sys.argv[2]), int(sys.argv[3])
block = bytearray(b"x") * size
with socket.create_server((sys.argv[1], 7001)) as server:
    print("ready", flush=True)
    for _ in range(repeats):
        connection, _ = server.accept()
        with connection:
            connection.sendall(block)
"""

RECEIVER = """
import socket, sys, time
size, repeats = int(sys.argv[2]), int(sys.argv[3])
buffer = memoryview(bytearray(b"y") * int(sys.argv[4]))
for _ in range(repeats):
    with socket.create_connection((sys.argv[1], 7001)) as connection:
        begin = time.perf_counter()
        left = size
        while left:
            left -= connection.recv_into(buffer, min(left, len(buffer)))
        print(size / (time.perf_counter() - begin) / 1e9)
"""

PULLS = """
import importlib, sys, time
import numpy
ray = importlib.import_module(sys.argv[1])
size, repeats = int(sys.argv[3]), int(sys.argv[4])
ray.init(address=sys.argv[2], log_to_driver=False)

@ray.remote(num_cpus=0, resources={"far": 1})
class Reader:
    def read(self, refs):
        begin = time.perf_counter()
        array = ray.get(refs[0])
        seconds = time.perf_counter() - begin
        return seconds, int(array[-1])

reader = Reader.remote()
ray.get(reader.read.remote([ray.put(numpy.zeros(1_000_000, numpy.uint8))]))
for number in range(repeats):
    ref = ray.put(numpy.full(size, number, numpy.uint8))
    seconds, last = ray.get(reader.read.remote([ref]))
    assert last == number
    print(size / seconds / 1e9, flush=True)
    del ref
    time.sleep(0.5)
ray.shutdown()
"""

BROADCAST = """
import sys, time
import numpy
import raybook as ray
size, readers = int(sys.argv[2]), int(sys.argv[3])
ray.init(address=sys.argv[1], log_to_driver=False)

@ray.remote(num_cpus=0)
class Reader:
    def read(self, refs):
        return int(ray.get(refs[0])[-1])

actors = [Reader.options(resources={"host%d" % number: 1}).remote() for number in range(1, readers + 1)]
ray.get([actor.read.remote([ray.put(numpy.zeros(1_000_000, numpy.uint8))]) for actor in actors])
for kind in ("all", "each"):
    refs = [ray.put(numpy.full(size, 7, numpy.uint8)) for _ in range(1 if kind == "all" else readers)]
    begin = time.perf_counter()
    answers = ray.get([actor.read.remote([refs[at % len(refs)]]) for at, actor in enumerate(actors)])
    seconds = time.perf_counter() - begin
    assert answers == [7] * readers
    print(kind, seconds, flush=True)
    del refs
    time.sleep(1)
ray.shutdown()
"""


def figures(text: str) -> list[float]:
    return [float(line) for line in text.split()]


def run(host: Host, program: str, *arguments: object, python: Path | str = sys.executable) -> str:
    return host.run(str(python), "-c", program, *map(str, arguments), timeout_s=300)


def plain_tcp(sender: Host, receiver: Host, size: int, repeats: int) -> list[float]:
    """GB/s of each repeat."""
    command = sender.command(sys.executable, "-c", SENDER, sender.ip, str(size), str(repeats))
    with subprocess.Popen(command, env=sender.environment, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        assert serving.stdout.readline() == "ready\n"
        return figures(run(receiver, RECEIVER, sender.ip, size, repeats, CHUNK_BYTES))


def start_raybook(hosts: list[Host], store_bytes: int) -> str:
    """One cluster over these hosts, the first with the head; its address."""
    head, *others = hosts
    store = ("--object-store-memory", str(store_bytes))
    head.raybook("start", "--head", "--host", head.ip, "--port", "6379", "--num-cpus", "1", *store)
    address = f"{head.ip}:6379"
    token = head.run("sh", "-c", "cat /tmp/s/*/token | base64")
    for number, host in enumerate(others, 1):
        host.run("sh", "-c", "base64 -d > /tmp/token", stdin=token)
        joining = ("start", "--address", address, "--host", host.ip, "--token-file", "/tmp/token", "--num-cpus", "1")
        host.raybook(*joining, "--resources", f'{{"host{number}": 1, "far": 1}}', *store)
    return address


def raybook_pulls(left: Host, right: Host, size: int, repeats: int) -> list[float]:
    # Two copies fit: a later one takes the room of one before it.
    address = start_raybook([left, right], 2 * size + 64 * MIB)
    return figures(run(left, PULLS, "raybook", address, size, repeats))


def ray_pulls(python: Path, left: Host, right: Host, size: int, repeats: int) -> list[float]:
    ray = str(python.parent / "ray")
    quiet = ("--disable-usage-stats", "--include-dashboard=false")
    store = f"--object-store-memory={2 * size + 64 * MIB}"
    left.run(ray, "start", "--head", f"--node-ip-address={left.ip}", "--port=6399", "--num-cpus=1", *quiet, store)
    address = f"{left.ip}:6399"
    far = '--resources={"far": 1}'
    right.run(ray, "start", f"--address={address}", f"--node-ip-address={right.ip}", "--num-cpus=1", far, store)
    return figures(run(left, PULLS, "ray", address, size, repeats, python=python))


def row(title: str, rates: list[float], beside: list[float]) -> str:
    middle = statistics.median(rates)
    spread = (max(rates) - min(rates)) / 2 / middle
    return f"{title:28} {middle:6.2f} GB/s ± {spread:3.0%}   {middle / statistics.median(beside):4.0%} of plain TCP"


def measure(size: int, repeats: int, python: Path | None) -> int:
    with Network() as network:
        left, right = network.add_host(), network.add_host()
        plain = plain_tcp(left, right, size, repeats)
        ours = raybook_pulls(left, right, size, repeats)
        plain += plain_tcp(left, right, size, repeats)
    print(row("plain TCP, recv_into", plain, plain))
    print(row("raybook, first", ours[:1], plain))
    print(row("raybook, later", ours[1:], plain) + f"   goal {GOAL:.0%}")
    if python is not None:
        with Network() as network:
            theirs = ray_pulls(python, network.add_host(), network.add_host(), size, repeats)
        print(row("Ray 2.60, first", theirs[:1], plain))
        print(row("Ray 2.60, later", theirs[1:], plain))
        ratio = statistics.median(ours[1:]) / statistics.median(theirs[1:])
        print(f"{'raybook beside Ray, later':28} {ratio:6.2f}×")
    return 0 if statistics.median(ours[1:]) >= GOAL * statistics.median(plain) else 1


def broadcast(size: int, gbit: float) -> int:
    with Network() as network:
        hosts = [network.add_host() for _ in range(READERS + 1)]
        for host in hosts:
            host.run(
                "tc",
                "qdisc",
                "add",
                "dev",
                "eth0",
                "root",
                "tbf",
                "rate",
                f"{gbit}gbit",
                "burst",
                "1mb",
                "latency",
                "50ms",
            )
        address = start_raybook(hosts, READERS * size + 64 * MIB)
        lines = run(hosts[0], BROADCAST, address, size, READERS).split()
    took = {kind: float(seconds) for kind, seconds in zip(lines[::2], lines[1::2], strict=True)}
    once = size * 8 / gbit / 1e9
    print(f"{size / MIB:.0f} MiB over a cable of {gbit:g} Gbit/s once        {once:6.2f} s")
    print(f"one object to {READERS} nodes                  {took['all']:6.2f} s   {took['all'] / once:4.1f} times that")
    print(f"{READERS} objects, each from the first node  {took['each']:6.2f} s   {took['each'] / once:4.1f} times that")
    return 0 if took["all"] < took["each"] / 2 else 1


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=256, help="size of the object (default 256)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-ray", action="store_true")
    parser.add_argument("--ray-python", type=Path, help="an interpreter that has Ray, instead of .venv-ray")
    parser.add_argument("--broadcast", action="store_true", help="one object to eight nodes, instead")
    parser.add_argument("--gbit", type=float, default=2.0, help="of each machine's cable in --broadcast")
    options = parser.parse_args(arguments)
    if why_not():
        sys.exit(f"This benchmark makes network namespaces, and cannot: {why_not()}.")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        str(PROJECT_ROOT / name) for name in ("runtime", "kernel_ext", "widgets")
    )
    size = options.mib * MIB
    print(machine_line())
    if options.broadcast:
        return broadcast(size, options.gbit)
    python = None
    if not options.no_ray:
        python = peer_env.check(options.ray_python) if options.ray_python else peer_env.ensure(peer_env.RAY)
    touch_memory(4 * size)
    return measure(size, options.repeats, python)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except peer_env.PeerEnvironmentError as error:
        sys.exit(str(error))
