"""Many nodes on one machine: how fast one joins and works, and whether thirty-two of them start and run 10,000 tasks.

Not a row of the core table: Ray starts a dozen processes a node, and thirty-two of them do not fit on a small machine.
Two times are taken of a node that joins, because they mean different things: from the order to start it (an interpreter
and its imports are most of that), and from the moment its process has joined; each until a task that waited for this node
alone runs there.

Usage: ``python benchmarks/many_nodes.py [--nodes 32] [--tasks 10000] [--joins 5]``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from machine import machine_line

import raybook as ray
from raybook.cluster_utils import Cluster

JOIN_GOAL_S = 0.5


def first_task_times(cluster: Cluster, joins: int) -> tuple[list[float], list[float]]:
    """(from the order to start, from the moment the process is ready) to the first task on a new node, each in seconds."""

    @ray.remote(num_cpus=0, max_retries=0)
    def finished() -> float:
        return time.time()

    from_order, from_ready = [], []
    for number in range(joins):
        waits = finished.options(resources={f"join{number}": 1}).remote()
        ordered = time.time()
        node = cluster.add_node(num_cpus=1, resources={f"join{number}": 1}, wait=False)
        ready = time.time()
        ended = ray.get(waits, timeout=60)
        from_order.append(ended - ordered)
        from_ready.append(max(0.0, ended - ready))
        cluster.remove_node(node)
    return from_order, from_ready


def tasks_over(nodes: int, tasks: int) -> None:
    """Start the rest of so many nodes, and run the tasks over all of them. AssertionError when a result is wrong."""
    begin = time.perf_counter()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80_000_000})
    try:
        with ThreadPoolExecutor(4) as pool:
            options = {"num_cpus": 1, "object_store_memory": 80_000_000, "wait": False}
            list(pool.map(lambda _: cluster.add_node(**options), range(nodes - 1)))
        cluster.wait_for_nodes()
        started_s = time.perf_counter() - begin
        ray.init(address=cluster.address, log_to_driver=False)

        @ray.remote(scheduling_strategy="SPREAD")
        def where(number: int) -> tuple[int, str]:
            return number, ray.get_runtime_context().get_node_id()

        begin = time.perf_counter()
        answers = ray.get([where.remote(number) for number in range(tasks)], timeout=600)
        run_s = time.perf_counter() - begin
        assert [number for number, _ in answers] == list(range(tasks)), "a result is wrong"
        used = len({node for _, node in answers})
        print(f"{nodes} raylets started       {started_s:8.1f} s      {started_s / nodes:6.2f} s each")
        print(f"{tasks} tasks over them    {run_s:8.2f} s   {tasks / run_s:9,.0f} /s   on {used} nodes")
        begin = time.perf_counter()
        again = ray.get([where.remote(number) for number in range(tasks)], timeout=600)
        run_s = time.perf_counter() - begin
        assert len(again) == tasks
        print(f"the same again           {run_s:8.2f} s   {tasks / run_s:9,.0f} /s")
    finally:
        ray.shutdown()
        cluster.shutdown()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=32, help="raylets at once (default 32)")
    parser.add_argument("--tasks", type=int, default=10_000, help="tasks over all of them (default 10,000)")
    parser.add_argument("--joins", type=int, default=5, help="nodes that join one after another (default 5)")
    options = parser.parse_args(arguments)
    print(machine_line())
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        from_order, from_ready = first_task_times(cluster, options.joins)
    finally:
        ray.shutdown()
        cluster.shutdown()
    for label, times in (("order to first task", from_order), ("ready to first task", from_ready)):
        spread = (max(times) - min(times)) / 2
        print(f"{label:24} {statistics.median(times):8.3f} s ± {spread:.3f}   goal {JOIN_GOAL_S:g} s")
    if options.nodes:
        tasks_over(options.nodes, options.tasks)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
