"""Idle: what a cluster costs that does nothing: processor time, wake-ups and memory, for head, zygote, workers and driver.

Arithmetic before: one heartbeat and one look a second in the head, two turns of the loop a second in each other process,
at 100 µs each: 0.1 % of one core. Wake-ups are counted by the kernel (voluntary context switches), so the figure holds
on a busy machine too. Memory is the proportional set size without the object store.

Usage: ``python benchmarks/idle.py [--seconds 20] [--actors 0]``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from machine import machine_line
from soak_census import pss_mb

import raybook as ray
from raybook.api.context import current_runtime
from raybook.io.process import descendants

GOAL_CPU = 0.01
"""Of one core, for head, zygote, workers and driver together."""
GOAL_PSS_MB = 150.0
"""Head and zygote."""
SETTLE_S = 3.0


@dataclass(frozen=True)
class Use:
    """Since a process began. cpu_s: of all its threads. wakes: how often one of them went to sleep by itself."""

    cpu_s: float
    wakes: int


def use_of(pid: int) -> Use:
    """Zero for a process that has ended, and without threads that have."""
    cpu_ns = wakes = 0
    for folder in Path(f"/proc/{pid}/task").glob("*"):
        try:
            status, spent = (folder / "status").read_text(), (folder / "schedstat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        cpu_ns += int(spent.split()[0])
        wakes += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("voluntary_ctxt_switches"))
    return Use(cpu_ns / 1e9, wakes)


def roles(head_pid: int) -> dict[int, str]:
    """Processes of the cluster and what they are."""
    found = {os.getpid(): "driver", head_pid: "head"}
    for pid in descendants(head_pid):
        try:
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        found[pid] = "zygote" if parent == head_pid else "worker"
    return found


def measure(seconds: float, head_pid: int) -> dict[str, tuple[int, float, float]]:
    """Role → (processes, share of a core, wake-ups a second), over so many seconds in which nobody does anything."""
    who = roles(head_pid)
    before = {pid: use_of(pid) for pid in who}
    begin = time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - begin
    figures: dict[str, tuple[int, float, float]] = {}
    for pid, role in who.items():
        now = use_of(pid)
        if now.cpu_s < before[pid].cpu_s:
            continue  # It has ended meanwhile.
        count, cpu, wakes = figures.get(role, (0, 0.0, 0.0))
        cpu += (now.cpu_s - before[pid].cpu_s) / elapsed
        wakes += (now.wakes - before[pid].wakes) / elapsed
        figures[role] = (count + 1, cpu, wakes)
    return figures


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--actors", type=int, default=0, help="so many that live and are not called (default 0)")
    options = parser.parse_args(arguments)
    print(machine_line())
    ray.init()

    @ray.remote(num_cpus=0)
    class Resident:
        def here(self) -> None:
            return None

    @ray.remote
    def nothing() -> None:
        return None

    actors = [Resident.remote() for _ in range(options.actors)]
    ray.get([nothing.remote() for _ in range(100)] + [actor.here.remote() for actor in actors])
    time.sleep(SETTLE_S)
    head_pid = current_runtime.cluster.process.pid
    figures = measure(options.seconds, head_pid)
    memory = {
        role: statistics.fmean(pss_mb(pid) for pid, its in roles(head_pid).items() if its == role) for role in figures
    }
    print(f"{'':10s} {'processes':>9s} {'of a core':>10s} {'wake-ups':>10s} {'memory of each':>15s}")
    for role, (count, cpu, wakes) in figures.items():
        print(f"{role:10s} {count:9d} {cpu:10.3%} {wakes:8.1f}/s {memory[role]:12.1f} MB")
    total = sum(cpu for _, cpu, _ in figures.values())
    print(f"all        {'':9s} {total:10.3%}   goal under {GOAL_CPU:.0%}")
    print(f"head and zygote {memory['head'] + memory['zygote']:.1f} MB   goal under {GOAL_PSS_MB:g} MB")
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
