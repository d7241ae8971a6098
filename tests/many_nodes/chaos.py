"""Chaos: a mixed load over several nodes while workers and nodes are killed by a seeded hand.

    python tests/many_nodes/chaos.py --seconds 60 --seed 7
    python -m raybook.sim --chaos 7 --seconds 60        the same kills, in virtual time

Small tasks, chains of large objects (which only lineage brings back when their node dies), nested tasks and an actor that
restarts. Every result is checked. The report says what was killed when and what was made again; a run in which nothing was
made again has tested nothing and fails.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field

import numpy

import raybook as ray
from raybook.cluster_utils import Cluster, ClusterNode
from raybook.io.process import descendants
from raybook.sim.chaos import draw_chaos, victim
from raybook.sim.faults import Fault

COUNT = 200_000
"""Numbers of a large object: 1.6 MB."""
KINDS = ("kill", "node")
SMALL_BATCH = 300
PATIENCE_S = 90


@dataclass
class Report:
    """What happened, for people."""

    seed: int
    killed: list[str] = field(default_factory=list)
    tasks: int = 0
    chains: int = 0
    calls: int = 0
    rebuilt: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return "\n".join(
            [
                f"seed {self.seed}: {self.tasks} tasks, {self.chains} chains of large objects, {self.calls} actor calls "
                f"in {self.seconds:.1f} s; every result right.",
                f"{len(self.killed)} processes killed, {self.rebuilt} tasks run again for objects that were lost.",
                *(f"  {line}" for line in self.killed),
            ]
        )


class Hand:
    """Kills by the schedule of a seed, in a thread of its own: a worker often, a whole node now and then, and brings a new
    node."""

    def __init__(self, cluster: Cluster, seed: int, seconds: float, report: Report) -> None:
        self._cluster = cluster
        self._schedule = draw_chaos(seed, seconds, KINDS)
        self._report = report
        self._begin = time.monotonic()
        self._stop = threading.Event()
        self._strikes = {"kill": self._kill_worker, "node": self._kill_node}
        self._thread = threading.Thread(target=self._run, name="chaos")
        self._thread.start()

    def rest(self) -> None:
        self._stop.set()
        self._thread.join()

    def _note(self, fault: Fault, what: str) -> None:
        self._report.killed.append(f"{time.monotonic() - self._begin:5.1f} s  {what} ({fault})")

    def _run(self) -> None:
        for fault in self._schedule:
            if self._stop.wait(max(0.0, self._begin + fault.at_ms / 1000 - time.monotonic())):
                return
            self._strikes[fault.kind](fault)

    def _kill_worker(self, fault: Fault) -> None:
        node, number = victim(int(fault.amount), list(self._cluster.worker_nodes))
        # The raylet's children are the zygote and, below it, the workers.
        workers = sorted(pid for child in descendants(node.pid)[:1] for pid in descendants(child))
        if workers:
            pid = workers[number % len(workers)]
            self._note(fault, f"worker {pid} of node {node.node_id}")
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    def _kill_node(self, fault: Fault) -> None:
        node: ClusterNode = victim(int(fault.amount), list(self._cluster.worker_nodes))[0]
        self._cluster.add_node(num_cpus=2, resources={"store": 10}, wait=False)
        self._note(fault, f"node {node.node_id}")
        self._cluster.remove_node(node, allow_graceful=False)


@ray.remote(max_retries=-1)
def small(number: int) -> int:
    return number * 2


@ray.remote(max_retries=-1, resources={"store": 0.01})
def grow(base: object, number: int) -> numpy.ndarray:
    return numpy.full(COUNT, number) if base is None else base + number


@ray.remote(max_retries=-1)
def nested(number: int) -> int:
    return sum(ray.get([small.remote(number + step) for step in range(3)]))


@ray.remote(max_restarts=-1, max_task_retries=-1, num_cpus=0, resources={"store": 0.01})
class Echo:
    def say(self, number: int) -> int:
        return number


def run(seconds: float, seed: int) -> Report:
    """One run on a cluster of its own. AssertionError when a result is wrong, an exception when one is lost."""
    report = Report(seed)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(3):
        cluster.add_node(num_cpus=2, resources={"store": 10})
    ray.init(address=cluster.address, log_to_driver=False)
    begin = time.monotonic()
    hand = Hand(cluster, seed, seconds, report)
    try:
        echo = Echo.remote()
        chains: list[tuple[int, object]] = []
        while time.monotonic() - begin < seconds:
            numbers = range(report.tasks, report.tasks + SMALL_BATCH)
            refs = [small.remote(number) for number in numbers]
            inner = [nested.remote(number) for number in range(5)]
            calls = [echo.say.remote(number) for number in range(20)]
            made = None
            for step in range(4):
                # Every node begins some; the rest of a chain stays near what it has.
                first = grow.options(scheduling_strategy="SPREAD")
                made = (grow if step else first).remote(made, step + 1)
            chains.append((10, made))
            assert ray.get(refs, timeout=PATIENCE_S) == [number * 2 for number in numbers]
            assert ray.get(inner, timeout=PATIENCE_S) == [6 * number + 6 for number in range(5)]
            assert ray.get(calls, timeout=PATIENCE_S) == list(range(20))
            report.tasks += SMALL_BATCH
            report.calls += 20
            if len(chains) >= 12:
                # The oldest have lived through a node's death, most likely.
                expected, oldest = chains.pop(0)
                assert (ray.get(oldest, timeout=PATIENCE_S) == expected).all()
                report.chains += 1
        for expected, ref in chains:
            assert (ray.get(ref, timeout=PATIENCE_S) == expected).all()
            report.chains += 1
        report.rebuilt = rebuilt_tasks()
    finally:
        hand.rest()
        report.seconds = time.monotonic() - begin
        ray.shutdown()
        cluster.shutdown()
    return report


def rebuilt_tasks() -> int:
    """How many tasks this driver had run again for objects that were lost."""
    from raybook.api.context import started_engine

    return started_engine()._core.owner.recovery.rebuilt_count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    os.environ.setdefault("RAYBOOK_HEALTH_CHECK_PERIOD_MS", "200")
    os.environ.setdefault("RAYBOOK_HEALTH_CHECK_TIMEOUT_MS", "1500")
    outcome = run(arguments.seconds, arguments.seed)
    print(outcome)
    sys.exit(0 if outcome.rebuilt else "Nothing had to be made again: this run has tested nothing.")
