"""Soak: a seeded mix of everything a notebook does, for minutes, every result checked; and what is left of it at rest.

Laps of work in several threads, each followed by a rest in which all is let go and counted. The run fails when a piece
of work does, when one hangs, or when memory, open files, threads, processes, shared memory, files or rows of tables
have grown between the first and the last third of the laps after the warm-up.

Usage: ``python benchmarks/soak.py [--minutes 10] [--seed 1] [--report docs/soak.md]``; ``make soak`` runs it
(SOAK_MINUTES, SOAK_ARGS).
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import soak_census
from machine import machine_line
from soak_work import PATIENCE_S, WORKS, Work

import raybook as ray
from raybook.api.context import current_runtime

STORE_BYTES = 160_000_000
"""Small, so that the large objects of one piece of work do not fit."""
THREADS = 3
LAP_S = 15.0
WARM_UP_SHARE = 0.3
"""Of the laps: rings and caches fill, the allocator finds its size."""
LAPS_MIN = 3
LAPS_JUDGED_MIN = 8
"""Before that the program is still warming up: what a short run shows is no growth, and is shown without a verdict."""
REST_S_MAX = 10.0
FAILURES_MAX = 20


@dataclass
class Tally:
    """What was done. Threads add to it under the interpreter's lock, one operation each."""

    done: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def draw(chance: Random, works: Sequence[tuple[Work, int]]) -> Work:
    return chance.choices([work for work, _ in works], [weight for _, weight in works])[0]


def work_until(end: float, chance: Random, works: Sequence[tuple[Work, int]], folder: Path, tally: Tally) -> None:
    """Pieces of work one after the other, each from a seed of its own, which a failure names."""
    while time.monotonic() < end and len(tally.failures) < FAILURES_MAX:
        work, seed = draw(chance, works), chance.getrandbits(32)
        begin = time.monotonic()
        try:
            work(ray, Random(seed), folder)
        except Exception:  # noqa: BLE001 - reported with its seed; the others go on.
            tally.failures.append(f"{work.__name__} (seed {seed}):\n{traceback.format_exc()}")
            print(f"FAILED {tally.failures[-1]}", file=sys.stderr, flush=True)
        tally.done[work.__name__] += 1
        tally.seconds[work.__name__] += time.monotonic() - begin


def rest(head_pid: int) -> None:
    """Let go of everything and wait until the cluster has as well: no more processes than at rest, no spilled file."""
    gc.collect()
    # A round trip through every table: what was dropped before it has been dropped everywhere after it.
    ray.get(ray.remote(lambda: None).remote(), timeout=PATIENCE_S)
    end = time.monotonic() + REST_S_MAX
    count, since = -1, time.monotonic()
    while time.monotonic() < end:
        found = len(soak_census.psutil.Process(head_pid).children(recursive=True))
        if found != count:
            count, since = found, time.monotonic()
        elif time.monotonic() - since > 1.5:
            return
        time.sleep(0.1)


def run(
    minutes: float, laps_min: int, seed: int, works: Sequence[tuple[Work, int]], lap_s: float
) -> tuple[Tally, list]:
    """The laps. Returns what was done and one census a lap; the cluster is ended."""
    tally, laps = Tally(), []
    context = ray.init(num_cpus=2, object_store_memory=STORE_BYTES, log_to_driver=False, namespace="soak")
    cluster = current_runtime.cluster
    head_pid, session = cluster.process.pid, Path(cluster.session_dir)
    roots = {"engine": current_runtime.engine}
    del context
    begin = time.monotonic()
    chances = [Random(f"{seed}-{index}") for index in range(THREADS)]
    try:
        with tempfile.TemporaryDirectory(prefix="raybook-soak-") as folder:
            while len(laps) < laps_min or time.monotonic() - begin < minutes * 60:
                if len(tally.failures) >= FAILURES_MAX:
                    break
                end = time.monotonic() + lap_s
                threads = [
                    threading.Thread(target=work_until, args=(end, chance, works, Path(folder), tally), daemon=True)
                    for chance in chances
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(lap_s + 3 * PATIENCE_S)
                    if thread.is_alive():
                        faulthandler.dump_traceback(file=sys.stderr)
                        tally.failures.append("a piece of work hangs; the stacks of all threads are on stderr")
                        return tally, laps
                rest(head_pid)
                laps.append(soak_census.take(time.monotonic() - begin, head_pid, session, STORE_BYTES, roots))
                figures = laps[-1].figures
                print(
                    f"lap {len(laps):3d}  {laps[-1].at_s:6.0f} s  {sum(tally.done.values()):6d} pieces of work  "
                    + "  ".join(f"{key} {value:.0f}" for key, value in figures.items()),
                    file=sys.stderr,
                    flush=True,
                )
    finally:
        ray.shutdown()
    return tally, laps


def report(seed: int, minutes: float, machine: str, tally: Tally, laps: list) -> tuple[str, bool]:
    """The report as text, and whether all is well."""
    lines = [machine, f"seed {seed}, {minutes:g} minutes, {THREADS} threads, {len(laps)} laps", ""]
    lines.append(f"{'work':18s} {'times':>7s} {'mean':>10s}")
    for name, count in sorted(tally.done.items()):
        lines.append(f"{name:18s} {count:7d} {1000 * tally.seconds[name] / count:7.0f} ms")
    lines.append(f"{'all':18s} {sum(tally.done.values()):7d}   failures: {len(tally.failures)}")
    judged = laps[int(len(laps) * WARM_UP_SHARE) :] if len(laps) >= LAPS_JUDGED_MIN else laps
    is_well = not tally.failures
    lines += ["", f"{'at rest':44s} {'first':>8s} {'last':>8s} {'largest':>8s} {'may grow':>9s}"]
    for verdict in soak_census.judge(judged) if len(judged) >= LAPS_MIN else ():
        grows = len(laps) >= LAPS_JUDGED_MIN and not verdict.is_flat
        is_well = is_well and not grows
        lines.append(
            f"{verdict.title:41s} {verdict.unit:2s} {verdict.first:8.1f} {verdict.last:8.1f} {verdict.largest:8.1f} "
            f"{verdict.growth_max:9g}{'  GROWS' * grows}"
        )
    if len(laps) < LAPS_JUDGED_MIN:
        lines.append(f"Not judged: {len(laps)} laps are fewer than {LAPS_JUDGED_MIN}.")
    grown = soak_census.grown_tables(judged)
    if grown:
        lines += ["", "Tables of the driver that grew: " + ", ".join(f"{path} {a} → {b}" for path, a, b in grown)]
    return "\n".join(lines), is_well


PAGE = """# Soak

`make soak` runs this: a seeded mix of tasks, actors, streams, cancellations, kills, spilling, placement groups and queues,
every result checked, then a look at what is left at rest. First and last: medians of the first and the last third of the
laps after the warm-up. Written by the run itself (`benchmarks/soak.py --report`).

```
{text}
```
"""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lap-s", type=float, default=LAP_S, help="seconds of work between two rests (default 15)")
    parser.add_argument("--only", nargs="+", metavar="WORK", help="these kinds of work alone")
    parser.add_argument("--report", type=Path, help="also write the report to this file, as Markdown")
    options = parser.parse_args(arguments)
    known = {work.__name__: (work, weight) for work, weight in WORKS}
    unknown = [name for name in options.only or [] if name not in known]
    if unknown:
        parser.error(f"There is no work called {', '.join(unknown)}. Known are: {', '.join(known)}.")
    works = [known[name] for name in options.only] if options.only else WORKS
    machine = machine_line()
    tally, laps = run(options.minutes, LAPS_MIN, options.seed, works, options.lap_s)
    text, is_well = report(options.seed, options.minutes, machine, tally, laps)
    print(text)
    if options.report:
        options.report.write_text(PAGE.format(text=text))
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
