"""GCS restart: how long a cluster is without its GCS when that is killed, and what calls of living actors feel of it.

The GCS of a head gets SIGKILL while an actor is called without pause. Printed are the seconds until a new GCS answers, until
an actor that was created after the kill has answered, and the longest that a call of the living actor took meanwhile. The
store holds as many named actors and keys as asked for, because it is read when a GCS starts.

Arithmetic: an interpreter with grpc 0.35 s, reading 1,000 rows 10 ms, a node that is told and registers 5 ms, an actor
10 ms. Ray restarts no GCS by itself; on a cluster of its own (`ray start --head` with an external Redis) an operator does,
and raylets wait for 60 s (``gcs_rpc_server_reconnect_timeout_s``).

Usage: ``python benchmarks/gcs_restart.py [--repeats 5] [--keys 1000] [--redis-server PATH]``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from machine import machine_line

import raybook as ray
from raybook.api.context import started_engine
from raybook.cluster_utils import Cluster
from raybook.protocol.messages.gcs import KvGet, KvPut

GOAL_S = 3.0


@ray.remote(num_cpus=0)
class Echo:
    def say(self, number: int) -> int:
        return number


class Caller(threading.Thread):
    """Calls an actor without pause; ``slowest_s`` is its slowest call."""

    def __init__(self, actor: Any) -> None:
        super().__init__()
        self.slowest_s = 0.0
        self.count = 0
        self.over = False
        self._actor = actor

    def run(self) -> None:
        while not self.over:
            begin = time.perf_counter()
            ray.get(self._actor.say.remote(self.count))
            self.slowest_s = max(self.slowest_s, time.perf_counter() - begin)
            self.count += 1


def call(request: Any) -> Any:
    return started_engine().gcs_call(type(request).__name__, request)


def measure(store: str, repeats: int, keys: int) -> list[tuple[float, float, float]]:
    """(GCS answers, new actor answers, slowest call) of each kill, in seconds."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "store": store})
    ray.init(address=cluster.address, log_to_driver=False)
    found = []
    try:
        for number in range(keys):
            call(KvPut("benchmark", b"%d" % number, bytes(100)))
        living = Echo.remote()
        ray.get(living.say.remote(0))
        for _ in range(repeats):
            caller = Caller(living)
            caller.start()
            time.sleep(0.3)
            caller.slowest_s = 0.0
            assert cluster.head_node is not None
            cluster.head_node.kill_gcs_server()
            begin = time.perf_counter()
            fresh = Echo.remote().say.remote(1)
            assert call(KvGet("benchmark", b"0")).value == bytes(100) or not keys
            back = time.perf_counter() - begin
            ray.get(fresh)
            found.append((back, time.perf_counter() - begin, caller.slowest_s))
            caller.over = True
            caller.join()
            time.sleep(0.5)
    finally:
        ray.shutdown()
        cluster.shutdown()
    return found


@contextmanager
def redis_at(server: str, folder: Path) -> Iterator[str]:
    """A Redis of our own; its address."""
    path = folder / "redis.sock"
    command = [server, "--port", "0", "--unixsocket", str(path), "--dir", str(folder), "--appendonly", "yes"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while not path.exists():
            time.sleep(0.01)
        yield f"unix://{path}"
    finally:
        process.kill()
        process.wait()


def show(name: str, rows: list[tuple[float, float, float]]) -> None:
    titles = ("GCS answers again", "new actor has answered", "slowest call of a living actor")
    for title, values in zip(titles, zip(*rows, strict=True), strict=True):
        goal = f"   goal {GOAL_S:g} s" if title.startswith("new actor") else ""
        median, worst = statistics.median(values), max(values)
        print(f"{name:8s}{title:32s}{median:8.2f} s   worst {worst:.2f} s{goal}")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keys", type=int, default=1000, help="rows in the store (default 1000)")
    parser.add_argument("--redis-server", default=shutil.which("redis-server"))
    options = parser.parse_args(arguments)
    print(machine_line())
    with tempfile.TemporaryDirectory(prefix="rb-") as name:
        folder = Path(name)
        os.environ["RAYBOOK_TMPDIR"] = str(folder / "s")
        os.environ["RAYBOOK_REGISTRY_DIR"] = str(folder / "r")
        show("SQLite", measure(f"sqlite:{folder}/gcs", options.repeats, options.keys))
        if options.redis_server:
            with redis_at(options.redis_server, folder) as url:
                show("Redis", measure(url, options.repeats, options.keys))
        else:
            print("Redis   left out: there is no redis-server")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
