"""Simulator: how many events a second of CPU one process gets through, with all checkers on.

No row of the core table, and no peer: Ray has nothing of the kind. The figure decides how large a cluster can be played:
ten thousand nodes need some 10^6 events a virtual minute, which should take minutes.

Arithmetic before: an event is a heap entry (1 µs each way), a message encoded and decoded (3 µs), a step of a machine
(1 to 5 µs) and its invariants (5 µs): 15 µs, 65,000 a second.

Usage: ``python benchmarks/simulator.py [--worlds 100] [--rounds 3]``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from machine import machine_line

from raybook.sim.cases import make_world


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=100, help="seeds in each round (default 100)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the median counts (default 3)")
    options = parser.parse_args(arguments)
    print(machine_line())
    for calm, what in ((True, "nothing goes wrong"), (False, "with faults")):
        rates = []
        events = virtual_ms = messages = 0
        for _ in range(options.rounds):
            events = virtual_ms = messages = 0
            begin_s = time.process_time()
            for seed in range(options.worlds):
                world = make_world(seed, calm=calm).run()
                events += world.timeline.happened
                messages += world.network.delivered
                virtual_ms += world.timeline.now_ms
            rates.append(events / (time.process_time() - begin_s))
        rate = statistics.median(rates)
        spread = (max(rates) - min(rates)) / 2 / rate
        print(f"{what:20} {rate:10,.0f} events/s of CPU ± {spread:.0%}; 10^6 events in {1e6 / rate:.0f} s")
        seconds = f"{virtual_ms / 1000:,.0f} virtual s in {options.worlds} worlds"
        print(f"{'':20} {events:10,} events, {messages:,} messages, {seconds}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
