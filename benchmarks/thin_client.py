"""Thin client: calls and bytes through a session process on loopback, beside a driver of the node itself and Ray's client.

Arithmetic before: a synchronous call crosses two sockets more than a local driver's, and wakes a thread at three ends; at
20 to 40 µs a wake-up it should cost 150 to 300 µs, so 3,000 to 6,000 a second. Pipelined calls cost their encoding twice:
20,000 a second. Large values are copied four times on their way; at 5 GB/s a copy that is 1 GB/s at best.

Usage: ``python benchmarks/thin_client.py [--seconds 1] [--rounds 3] [--ray-python PATH | --no-ray]``. Ray lives in an
environment of its own, made on first use (``peer_env.py``).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import peer_env
from machine import machine_line

ROWS = "task sync", "task async", "actor sync", "small put", "small get", "put 32 MiB", "get 32 MiB"
LARGE_BYTES = 32 << 20
BATCH = 500

# Runs on either system: ``ray`` is in scope, connected.
BODY = """
import json, sys, time
import numpy

def rate(function, times, seconds):
    function()
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        function()
        count += times
    return count / (time.perf_counter() - begin)

@ray.remote
def one():
    return 1

@ray.remote
class Actor:
    def one(self):
        return 1

actor = Actor.remote()
array = numpy.zeros(LARGE_BYTES, dtype=numpy.uint8)
small = [ray.put(i) for i in range(50)]
ray.get([one.remote() for _ in range(8)])
def fresh():
    ref = ray.put(array)
    begin = time.perf_counter()
    ray.get(ref)
    return time.perf_counter() - begin
def put():
    begin = time.perf_counter()
    ray.put(array)
    return time.perf_counter() - begin
found = {
    "task sync": rate(lambda: ray.get(one.remote()), 1, SECONDS),
    "task async": rate(lambda: ray.get([one.remote() for _ in range(BATCH)]), BATCH, SECONDS),
    "actor sync": rate(lambda: ray.get(actor.one.remote()), 1, SECONDS),
    "small put": rate(lambda: ray.put(1), 1, SECONDS),
    "small get": rate(lambda: ray.get(small[0]), 1, SECONDS),
    "put 32 MiB": LARGE_BYTES / min(put() for _ in range(4)) / 1e6,
    "get 32 MiB": LARGE_BYTES / min(fresh() for _ in range(4)) / 1e6,
}
print("FOUND " + json.dumps(found), flush=True)
"""
OURS = """
import raybook as ray
ray.init({address!r}, token_file={token_file!r}, log_to_driver=False)
"""
LOCAL = """
import raybook as ray
ray.init({name!r}, log_to_driver=False)
"""
RAYS = """
import ray
ray.init("ray://127.0.0.1:{port}", log_to_driver=False)
"""


def measure(python: str, setting: str, seconds: float) -> dict[str, float]:
    """One fresh interpreter; its rows."""
    code = f"SECONDS, BATCH, LARGE_BYTES = {seconds}, {BATCH}, {LARGE_BYTES}\n{setting}{BODY}"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith("FOUND ")), None)
    if line is None:
        raise RuntimeError(f"{python} told no figures:\n{done.stdout}\n{done.stderr}")
    return dict(json.loads(line.removeprefix("FOUND ")))


def samples(run: Callable[[], dict[str, float]], rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {row: [] for row in ROWS}
    for _ in range(rounds):
        for row, value in run().items():
            found[row].append(value)
    return found


def of_raybook(options: argparse.Namespace) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """(thin client, driver of the node), of one head."""
    from raybook.api import local_cluster, split_cluster
    from raybook.protocol.messages.daemons import NodeAmounts

    name = f"bench-{time.time_ns() % 1_000_000}"
    record = split_cluster.start_head(NodeAmounts(num_cpus=2), name=name, session_port=0, metrics_port=None)
    try:
        thin = OURS.format(address=f"ray://{record.session_address}", token_file=record.token_file)
        here = LOCAL.format(name=name)
        return (
            samples(lambda: measure(sys.executable, thin, options.seconds), options.rounds),
            samples(lambda: measure(sys.executable, here, options.seconds), options.rounds),
        )
    finally:
        local_cluster.stop_cluster(record)


def of_ray(options: argparse.Namespace) -> dict[str, list[float]]:
    """Ray's client beside its own head; empty rows where it was left out."""
    if options.no_ray:
        return {row: [] for row in ROWS}
    python = Path(options.ray_python) if options.ray_python else peer_env.ensure(peer_env.RAY_CLIENT)
    # Its head asks for a token, which its client, in an interpreter that was only told an address, has not.
    os.environ["RAY_AUTH_MODE"] = "disabled"
    port = 20_100
    ray = str(python.with_name("ray"))
    with tempfile.TemporaryDirectory(prefix="raybook-bench-") as folder:
        start = [ray, "start", "--head", "--num-cpus=2", "--port=0", f"--ray-client-server-port={port}"]
        subprocess.run([*start, "--include-dashboard=false", f"--temp-dir={folder}"], check=True, capture_output=True)
        try:
            return samples(lambda: measure(str(python), RAYS.format(port=port), options.seconds), options.rounds)
        finally:
            subprocess.run([ray, "stop"], check=False, capture_output=True)


def shown(values: list[float]) -> str:
    if not values:
        return f"{'–':>16}"
    middle = statistics.median(values)
    spread = (max(values) - min(values)) / 2 / middle * 100
    return f"{middle:>10,.0f} ±{spread:3.0f}%"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="of each rate (default 1)")
    parser.add_argument("--rounds", type=int, default=3, help="fresh interpreters of each kind (default 3)")
    parser.add_argument(
        "--ray-python", help="a Python that has ray[client] (default: .venv-ray-client, made on first use)"
    )
    parser.add_argument("--no-ray", action="store_true", help="measure raybook alone")
    options = parser.parse_args(arguments)
    print(machine_line())
    thin, here = of_raybook(options)
    theirs = of_ray(options)
    print(
        f"{'a second (MB/s for the last two)':34}{'thin client':>16}{'node driver':>16}{'Ray client':>16}   ratio to Ray"
    )
    for row in ROWS:
        ratio = f"{statistics.median(thin[row]) / statistics.median(theirs[row]):8.1f}" if theirs[row] else "       –"
        print(f"{row:34}{shown(thin[row])}{shown(here[row])}{shown(theirs[row])}   {ratio}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
