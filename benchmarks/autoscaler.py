"""Autoscaler: what one decision costs, by the number of nodes and of shapes that wait. No peer: Ray's is in another process.

Arithmetic before: a decision looks at each node once for each shape that waits (0.3 µs), once to match it with its instance
(0.3 µs) and once to build two places for it (3 µs): 10 nodes 50 µs, 1,000 nodes 4 ms.

Usage: ``python benchmarks/autoscaler.py [--rounds 5]``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from machine import machine_line

from raybook.base.resources import shape_of
from raybook.core.autoscaler import events as ev
from raybook.core.autoscaler.machine import Autoscaler
from raybook.core.autoscaler.settings import NodeType, Settings
from raybook.protocol.messages.scaling import INSTANCE_LABEL, ClusterLoad, NodeActivity, ShapeCount


def decision_us(nodes: int, shapes: int, looks: int = 5) -> float:
    """The median of some looks at a full cluster, in which everything that waits gets new nodes."""
    total = shape_of({"CPU": 8})
    kind = NodeType("worker", total, max_nodes=10 * nodes)
    machine = Autoscaler(Settings((kind,), 10 * nodes, patience_ms=0))
    provided = tuple(ev.ProvidedNode(f"n{index}", "worker") for index in range(nodes))
    seen = [
        NodeActivity(b"%08d" % index, False, True, total, {}, {INSTANCE_LABEL: f"n{index}"}, "8 tasks on it")
        for index in range(nodes)
    ]
    machine.handle([ev.InstancesSeen(provided), ev.ClusterSeen(ClusterLoad(seen))], 0)
    waiting = [ShapeCount(shape_of({"CPU": 1 + index / 100}), 50) for index in range(shapes)]
    taken = []
    for look in range(looks):
        begin = time.process_time()
        machine.handle([ev.ClusterSeen(ClusterLoad(seen, waiting))], 1_000 * (look + 1))
        taken.append((time.process_time() - begin) * 1e6)
    return statistics.median(taken)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts (default 5)")
    options = parser.parse_args(arguments)
    print(machine_line())
    for nodes in (10, 100, 1_000, 10_000):
        for shapes in (0, 10):
            figures = [decision_us(nodes, shapes) for _ in range(options.rounds)]
            spread = (max(figures) - min(figures)) / 2 / statistics.median(figures)
            print(f"{nodes:6,} nodes, {shapes:2} shapes: {statistics.median(figures):10,.0f} µs ± {spread:.0%}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
