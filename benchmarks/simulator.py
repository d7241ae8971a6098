"""Simulator: how many events a second of CPU one process gets through, and what decisions cost on more and more nodes.

No row of the core table, and no peer: Ray has nothing of the kind. Two parts:
- whole worlds (owners, workers, objects, raylets, GCS) of one node and of several, with all checkers on;
- fleets: the shipped scheduling machines on 100, 1,000 and 10,000 nodes, with nodes that die, actors, placement groups and a
  GCS that is restarted. A decision may not cost more on 10,000 nodes than on 100.

Arithmetic before: an event is a heap entry (1 µs each way), a message encoded and decoded (3 µs), a step of a machine
(1 to 5 µs) and its invariants (5 µs): 15 µs, 65,000 a second. A fleet's event has no message and few checks: 100,000.

Usage: ``python benchmarks/simulator.py [--worlds 100] [--rounds 3] [--nodes 100 1000 10000] [--events 1000000]``; ``--part
worlds`` or ``--part fleets`` for one of them.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time

from machine import machine_line

from raybook.sim.cases import make_world
from raybook.sim.fleet.world import Fleet, FleetSetting

KINDS = {
    "spillover": "spillover: a demand or grant",
    "view": "spillover: a new look at the nodes",
    "lease": "lease manager: an event",
    "choose": "node for an actor",
    "actor": "actor table: an event",
    "place": "nodes for a placement group",
    "group": "group table: an event",
    "retry": "group table: room has changed",
    "report": "resource view: a report",
    "health": "node table: an event",
    "feed": "node feed: a report",
    "tell": "node feed: an answer",
    "look": "view of a raylet: a look",
    "list": "view of a raylet: all nodes, at first",
}
DECISIONS = ("spillover", "view", "lease", "choose", "place")


def worlds(count: int, rounds: int) -> None:
    """Events a second."""
    cases = (
        ("one node", True, False),
        ("one node, with faults", False, False),
        ("several nodes", True, True),
        ("several nodes, with faults", False, True),
    )
    for what, calm, wide in cases:
        rates = []
        events = virtual_ms = messages = 0
        for _ in range(rounds):
            events = virtual_ms = messages = 0
            begin_s = time.process_time()
            for seed in range(count):
                world = make_world(seed, calm=calm, wide=wide).run()
                events += world.timeline.happened
                messages += world.network.delivered
                virtual_ms += world.timeline.now_ms
            rates.append(events / (time.process_time() - begin_s))
        rate = statistics.median(rates)
        spread = (max(rates) - min(rates)) / 2 / rate
        print(f"{what:27} {rate:10,.0f} events/s of CPU ± {spread:.0%}; 10^6 events in {1e6 / rate:.0f} s")
        seconds = f"{virtual_ms / 1000:,.0f} virtual s in {count} worlds"
        print(f"{'':27} {events:10,} events, {messages:,} messages, {seconds}")


def fleets(sizes: list[int], events_max: int) -> None:
    """What a decision costs."""
    costs: dict[int, dict[str, float]] = {}
    for nodes in sizes:
        # As many events a node on every size, where there is time for that.
        events = min(events_max, max(100_000, 100 * nodes))
        # The collector would walk over the objects of ten thousand nodes, which are not on one machine, in whatever decision
        # happens to be the next.
        gc.disable()
        begin_s = time.process_time()
        fleet = Fleet(7, FleetSetting(nodes=nodes, events=events)).run(time.thread_time)
        spent_s = time.process_time() - begin_s
        meter = fleet.meter
        decided = sum(meter.counts.get(kind, 0) for kind in DECISIONS)
        deciding_s = sum(meter.seconds.get(kind, 0.0) for kind in DECISIONS)
        waits_ms = sorted(fleet.books.waits_ms)
        print(
            f"{nodes:6,} nodes: {fleet.timeline.happened:9,} events in {spent_s:5.1f} s, {decided:8,} decisions, "
            f"{decided / deciding_s:8,.0f} a second of deciding; a lease comes after {waits_ms[len(waits_ms) // 2]} ms "
            f"(99 %: {waits_ms[len(waits_ms) * 99 // 100]} ms); {fleet.deaths} nodes died"
        )
        costs[nodes] = {kind: meter.microseconds(kind) for kind in KINDS}
        del fleet, meter
        gc.enable()
        gc.collect()
    print(f"{'µs a decision, on so many nodes':36}" + "".join(f"{nodes:>10,}" for nodes in sizes))
    for kind, text in KINDS.items():
        print(f"  {text:34}" + "".join(f"{costs[nodes][kind]:10.1f}" for nodes in sizes))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("worlds", "fleets"), help="only this one")
    parser.add_argument("--worlds", type=int, default=100, help="seeds in each round (default 100)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the median counts (default 3)")
    parser.add_argument("--nodes", type=int, nargs="+", default=[100, 1_000, 10_000], help="sizes of fleets")
    parser.add_argument("--events", type=int, default=1_000_000, help="of the largest fleet (default 10^6)")
    options = parser.parse_args(arguments)
    print(machine_line())
    if options.part != "fleets":
        worlds(options.worlds, options.rounds)
    if options.part != "worlds":
        fleets(options.nodes, options.events)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
