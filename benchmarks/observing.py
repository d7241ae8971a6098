"""Observing: what task events cost: with facts off, with nobody looking, and with a panel open, in turns on one cluster.

Tasks are noted in a bounded ring of their owner and told to nobody until somebody looks; a panel reads four times a
second. Arithmetic before: a row of the ring is 0.4 µs of the 11 µs that an empty task costs its driver; a panel's
interval moves a few hundred rows, 2 ms, every 250 ms: 1 %.

The judged figure is processor time a task, of driver, head and workers together: on a busy machine the clock measures
the neighbours. The rate is shown beside it.

Usage: ``python benchmarks/observing.py [--rounds 15] [--tasks 20000]``. Medians of the rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from idle import use_of
from machine import machine_line

import raybook as ray
from raybook.api.context import current_runtime
from raybook.io.process import descendants
from raybook.observe.subscribe import Feed

GOALS = {"nobody looks": 0.03, "a panel is open": 0.08}
"""Above facts off, at most."""
BATCH = 1_000
PANEL_S = 0.25
PANEL_SETTLE_S = 0.6
"""Processes are told that somebody looks, or no more, within this; observers count as there for two seconds."""
FORGOTTEN_S = 2.6


@contextmanager
def facts_off() -> Iterator[None]:
    """Ended tasks are not even noted: there is no such switch for users, since it gains nothing."""
    facts = current_runtime.engine._core.facts
    facts.collect = lambda finished: finished.clear()
    yield
    del facts.collect


@contextmanager
def nobody() -> Iterator[None]:
    yield


@contextmanager
def panel() -> Iterator[None]:
    """What a panel does: a subscription, and a view built at each of its intervals."""
    feed = Feed(current_runtime.engine)
    closed = threading.Event()

    def draw() -> None:
        while not closed.wait(PANEL_S):
            feed.view()

    thread = threading.Thread(target=draw, name="panel")
    thread.start()
    time.sleep(PANEL_SETTLE_S)
    yield
    closed.set()
    thread.join()
    feed.end()
    time.sleep(FORGOTTEN_S)


MODES: dict[str, Callable[[], object]] = {"facts off": facts_off, "nobody looks": nobody, "a panel is open": panel}


def cpu_s(head_pid: int) -> float:
    """Of driver, head, zygote and workers so far."""
    return sum(use_of(pid).cpu_s for pid in (os.getpid(), head_pid, *descendants(head_pid)))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="turns of the three (default 15)")
    parser.add_argument("--tasks", type=int, default=20_000, help="of each turn (default 20,000)")
    options = parser.parse_args(arguments)
    print(machine_line())
    ray.init(num_cpus=os.cpu_count())
    head_pid = current_runtime.cluster.process.pid

    @ray.remote
    def nothing() -> None:
        return None

    def work(count: int) -> None:
        for _ in range(count // BATCH):
            ray.get([nothing.remote() for _ in range(BATCH)])

    work(20_000)
    cpu: dict[str, list[float]] = {name: [] for name in MODES}
    rate: dict[str, list[float]] = {name: [] for name in MODES}
    for index in range(options.rounds):
        # In every second round the other way round, so that none always follows the same one.
        for name in MODES if index % 2 == 0 else reversed(MODES):
            with MODES[name]():
                begin, before = time.perf_counter(), cpu_s(head_pid)
                work(options.tasks)
                cpu[name].append((cpu_s(head_pid) - before) / options.tasks * 1e6)
                rate[name].append(options.tasks / (time.perf_counter() - begin))
    base = statistics.median(cpu["facts off"])
    for name in MODES:
        each = statistics.median(cpu[name])
        goal = f"{each / base - 1:+8.1%}   goal {GOALS[name]:+.0%} at most" if name in GOALS else ""
        print(f"{name:18s} {each:7.2f} µs a task   {statistics.median(rate[name]):9,.0f} /s {goal}")
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
