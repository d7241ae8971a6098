"""Sync calls: how near a loop of `get(f.remote())` comes to a bare ping-pong over a Unix socket.

Everything is pinned to one CPU, the cluster too, so that no figure depends on where the scheduler wakes whom. Ping-pong
and calls take turns, and medians are compared. The CPU a call takes in both processes is printed beside it: it is what
a program pays on an idle machine, where the wake-ups decide the rate.

Usage: ``python benchmarks/sync_calls.py [--seconds 0.5] [--repeats 9] [--unpinned]``.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable

from machine import machine_line
from socket_pingpong import ping_pong, with_peer

GOAL_SHARE = 0.4
"""Of the ping-pong: what the synchronous rows are judged by."""
WARM_UP_CALLS = 300


def cpu_us() -> float:
    """User and system time of this process so far, in µs."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return (usage.ru_utime + usage.ru_stime) * 1e6


class Case:
    """One kind of call. call: makes it and waits. far_cpu_us: what the process that answers has used so far."""

    def __init__(self, title: str, call: Callable[[], object], far_cpu_us: Callable[[], float]) -> None:
        self.title = title
        self._call = call
        self._far_cpu_us = far_cpu_us
        self.rates: list[float] = []
        self.cpu_us: list[float] = []
        for _ in range(WARM_UP_CALLS):
            call()

    def sample(self, seconds: float) -> None:
        """Call for this long; note calls a second, and CPU a call on both sides."""
        call = self._call
        far_us, near_us, done = self._far_cpu_us(), cpu_us(), 0
        begin = time.perf_counter()
        while (now := time.perf_counter()) - begin < seconds:
            call()
            done += 1
        near_us = cpu_us() - near_us
        self.rates.append(done / (now - begin))
        self.cpu_us.append((near_us + self._far_cpu_us() - far_us) / done)


def make_cases() -> list[Case]:
    """Task, actor and async actor, each with a way to ask its process for its CPU time."""
    import raybook as ray

    ray.init(num_cpus=1)

    @ray.remote
    def task(used: bool = False):
        if used:
            usage = resource.getrusage(resource.RUSAGE_SELF)
            return (usage.ru_utime + usage.ru_stime) * 1e6
        return None

    @ray.remote(num_cpus=0)
    class Actor:
        def call(self):
            return None

        def used(self):
            usage = resource.getrusage(resource.RUSAGE_SELF)
            return (usage.ru_utime + usage.ru_stime) * 1e6

    @ray.remote(num_cpus=0)
    class AsyncActor:
        async def call(self):
            return None

        async def used(self):
            usage = resource.getrusage(resource.RUSAGE_SELF)
            return (usage.ru_utime + usage.ru_stime) * 1e6

    actor, async_actor = Actor.remote(), AsyncActor.remote()
    get = ray.get
    return [
        Case("task", lambda: get(task.remote()), lambda: get(task.remote(True))),
        Case("actor", lambda: get(actor.call.remote()), lambda: get(actor.used.remote())),
        Case("async actor", lambda: get(async_actor.call.remote()), lambda: get(async_actor.used.remote())),
    ]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.5, help="time box of one sample (default 0.5)")
    parser.add_argument("--repeats", type=int, default=9, help="samples of each, taken in turn (default 9)")
    parser.add_argument("--unpinned", action="store_true", help="leave it to the scheduler who runs where")
    options = parser.parse_args(arguments)
    print(machine_line())
    every = os.sched_getaffinity(0)
    cpus = every if options.unpinned else {min(every)}
    # Before the cluster starts: its processes inherit it.
    os.sched_setaffinity(0, cpus)
    cases = make_cases()
    limits = []
    for _ in range(options.repeats):
        limits.append(with_peer(lambda connection: ping_pong(connection, options.seconds), cpus, cpus))
        for case in cases:
            case.sample(options.seconds)
    limit = statistics.median(limits)
    print(f"{'case':12} {'calls/s':>9} {'lowest':>9} {'highest':>9} {'CPU µs/call':>12} {'of ping-pong':>13}")
    print(f"{'ping-pong':12} {limit:>9,.0f} {min(limits):>9,.0f} {max(limits):>9,.0f} {'':>12} {'100 %':>13}")
    for case in cases:
        rate = statistics.median(case.rates)
        print(
            f"{case.title:12} {rate:>9,.0f} {min(case.rates):>9,.0f} {max(case.rates):>9,.0f} "
            f"{statistics.median(case.cpu_us):>12.1f} {rate / limit:>12.1%}"
        )
    print(f"Goal: {GOAL_SHARE:.0%} of the ping-pong, both on one CPU.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
