"""Chaos: a mixed load over several nodes while workers, nodes and the GCS are killed by a seeded hand.

    python tests/many_nodes/chaos.py --seconds 60 --seed 7

Small tasks, chains of large objects (which only lineage brings back when their node dies), nested tasks, an actor that
restarts, and what only a GCS can do: new names and groups. Every result is checked. The report says what was killed when,
what was made again, and the same kills in the simulator's terms; a run in which nothing was made again has tested nothing
and fails.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy

import raybook as ray
from raybook.cluster_utils import Cluster, ClusterNode
from raybook.io.process import descendants
from raybook.sim.cases import SPAN_MS
from raybook.sim.faults import KINDS, Fault, Schedule, describe
from raybook.util import placement_group, remove_placement_group

COUNT = 200_000
"""Numbers of a large object: 1.6 MB."""
WORKER_EVERY_S = 0.7
NODE_EVERY_S = 7.0
GCS_EVERY_S = 9.0
GCS_AWAY_MS = 600
"""About how long one that was killed is away, for the simulator."""
SMALL_BATCH = 300
PATIENCE_S = 90


@dataclass(frozen=True)
class Kill:
    """One stroke. draw: 0 … 1, which of those that live then."""

    at_s: float
    kind: str
    draw: float

    def choose(self, living: list[Any]) -> Any:
        return living[int(self.draw * len(living))]


def plan(seed: int, seconds: float) -> list[Kill]:
    """The same seed, the same strokes: a worker often, a whole node and the GCS now and then."""
    rng = random.Random(seed)
    kills = []
    at_s, next_node_s, next_gcs_s = 0.0, NODE_EVERY_S / 2, GCS_EVERY_S / 2
    while True:
        at_s += rng.uniform(0.5, 1.5) * WORKER_EVERY_S
        if at_s >= seconds:
            return kills
        kind = "worker"
        if at_s >= next_node_s:
            kind, next_node_s = "node", next_node_s + NODE_EVERY_S
        elif at_s >= next_gcs_s:
            kind, next_gcs_s = "gcs", next_gcs_s + GCS_EVERY_S
        kills.append(Kill(at_s, kind, rng.random()))


def in_the_simulator(kills: list[Kill], span_ms: int = SPAN_MS) -> Schedule:
    """The same strokes in a world of virtual time, whose programs are over within ``span_ms``."""
    seconds = kills[-1].at_s
    faults = []
    for kill in kills:
        kind, amount = {"worker": ("crash", 0), "node": ("node", 0), "gcs": ("gcs", GCS_AWAY_MS / 10)}[kill.kind]
        if kind in KINDS:
            faults.append(Fault(int(kill.at_s / seconds * span_ms), kind, amount))
    return tuple(sorted(faults))


@dataclass
class Report:
    """What happened, for people."""

    seed: int
    killed: list[str] = field(default_factory=list)
    tasks: int = 0
    chains: int = 0
    calls: int = 0
    names: int = 0
    rebuilt: int = 0
    """Tasks that were run again for objects that were lost."""
    gcs_kills: int = 0
    gcs_returns: int = 0
    """GCS processes that came after the first."""
    nodes: int = 0
    """That joined in the place of those that were killed."""
    seconds: float = 0.0
    kills: list[Kill] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join(
            [
                f"seed {self.seed}: {self.tasks} tasks, {self.chains} chains of large objects, {self.calls} actor calls, "
                f"{self.names} new names and groups in {self.seconds:.1f} s; every result right.",
                f"{len(self.killed)} processes killed; made again: {self.rebuilt} tasks for objects that were lost, "
                f"{self.nodes} nodes, {self.gcs_returns} GCS.",
                *(f"  {line}" for line in self.killed),
                "the same in virtual time:",
                f'  python -m raybook.sim --seed {self.seed} --faults "{describe(in_the_simulator(self.kills))}"',
            ]
        )

    def complaint(self) -> str:
        """Why this run has tested nothing; "" when it has."""
        if not self.rebuilt:
            return "Nothing had to be made again."
        if self.gcs_kills and not self.gcs_returns:
            return "No GCS came back."
        return ""


class Hand:
    """Does what the plan says, in a thread of its own; in the place of a node it brings a new one."""

    def __init__(self, cluster: Cluster, kills: list[Kill], report: Report) -> None:
        self._cluster = cluster
        self._kills = kills
        self._report = report
        self._begin = time.monotonic()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="chaos")
        self._thread.start()

    def rest(self) -> None:
        """Whatever went wrong in the thread."""
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _note(self, what: str) -> None:
        self._report.killed.append(f"{time.monotonic() - self._begin:5.1f} s  {what}")

    def _run(self) -> None:
        strokes = {"worker": self._kill_worker, "node": self._kill_node, "gcs": self._kill_gcs}
        late_s = 0.0
        try:
            for kill in self._kills:
                # A stroke that takes long (a node joins) moves what follows: all at once would be fewer, not more.
                due = self._begin + kill.at_s + late_s
                if self._stop.wait(max(0.0, due - time.monotonic())):
                    return
                late_s += max(0.0, time.monotonic() - due)
                strokes[kill.kind](kill)
        except BaseException as error:  # noqa: BLE001 - raised by `rest`.
            self._error = error

    def _kill_worker(self, kill: Kill) -> None:
        node = kill.choose(list(self._cluster.worker_nodes))
        # The raylet's children are the zygote and, below it, the workers.
        workers = [pid for child in descendants(node.pid)[:1] for pid in descendants(child)]
        if workers:
            pid = kill.choose(sorted(workers))
            self._note(f"worker {pid} of node {node.node_id}")
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    def _kill_node(self, kill: Kill) -> None:
        node: ClusterNode = kill.choose(list(self._cluster.worker_nodes))
        self._cluster.add_node(num_cpus=2, resources={"store": 10}, wait=False)
        self._report.nodes += 1
        self._note(f"node {node.node_id}")
        self._cluster.remove_node(node, allow_graceful=False)

    def _kill_gcs(self, kill: Kill) -> None:
        head = self._cluster.head_node
        assert head is not None
        pid = head.gcs_server_pid()
        if pid is not None:
            self._note(f"GCS {pid}")
            self._report.gcs_kills += 1
            head.kill_gcs_server(check_alive=False)


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
    report = Report(seed, kills=plan(seed, seconds))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(3):
        cluster.add_node(num_cpus=2, resources={"store": 10})
    ray.init(address=cluster.address, log_to_driver=False)
    begin = time.monotonic()
    hand = Hand(cluster, report.kills, report)
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
            if report.tasks % (5 * SMALL_BATCH) == 0:
                try_new_names(report.tasks)
                report.names += 2
            if len(chains) >= 12:
                # The oldest have lived through a node's death, most likely.
                expected, oldest = chains.pop(0)
                assert (ray.get(oldest, timeout=PATIENCE_S) == expected).all()
                report.chains += 1
        for expected, ref in chains:
            assert (ray.get(ref, timeout=PATIENCE_S) == expected).all()
            report.chains += 1
        report.rebuilt = rebuilt_tasks()
        report.gcs_returns = gcs_returns(cluster)
    finally:
        report.seconds = time.monotonic() - begin
        try:
            hand.rest()
        finally:
            ray.shutdown()
            cluster.shutdown()
    return report


def try_new_names(number: int) -> None:
    """What goes through the GCS and its store: a name that is found, and a group that holds what it says."""
    mine = Echo.options(name=f"echo {number}").remote()
    assert ray.get(ray.get_actor(f"echo {number}").say.remote(number), timeout=PATIENCE_S) == number
    group = placement_group([{"store": 0.01}], name=f"group {number}")
    assert group.wait(PATIENCE_S)
    remove_placement_group(group)
    del mine


def gcs_returns(cluster: Cluster) -> int:
    """How many times its keeper says that a GCS serves again."""
    assert cluster.head_node is not None
    return (Path(cluster.head_node.session_dir) / "logs" / "gcs.log").read_text().count("The GCS serves again")


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
    complaint = outcome.complaint()
    sys.exit(f"{complaint} This run has tested nothing." if complaint else 0)
