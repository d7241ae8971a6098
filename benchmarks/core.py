"""Core benchmark: every row of the architecture's speed table against raybook and Ray 2.60, in one go, as a ratio
table; Dask's and ipyparallel's figures for the rows they have stand beside it.

Decides the order: group by group, ours and the peer's turn about, so that both meet the same weather. Only the ratios
mean something beyond this machine and this hour.

Usage: ``python benchmarks/core.py`` (10 minutes), ``--quick`` (3 minutes), ``--rows tasks small_get``, ``--no-ray``,
``--no-dask``, ``--no-ipyparallel``, ``--json FILE``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import peer_env
from engine_process import Box, Engine, measure_rows, measure_startup
from machine import machine_line, memcpy_gb_per_s, touch_memory
from microbench.figures import (
    STATUS_NOT_RUN,
    RowResult,
    Summary,
    TableLine,
    format_summary,
    format_table,
    merge,
    summarize,
)
from microbench.plan import GROUPS, STARTUP, Row, goal_of, select

OTHERS = (peer_env.DASK, peer_env.IPYPARALLEL)
"""Peers whose figures are shown beside the ratio to Ray."""
OTHER_NAMES = tuple(peer.name for peer in OTHERS)

TOUCHED_BYTES = 3_000_000_000
"""Memory touched before the first row: what the `put large` rows of one engine use together."""


def parse_options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", help="keys or groups of rows (default: all)")
    parser.add_argument("--quick", action="store_true", help="one short sample a row: for a look, not for a claim")
    parser.add_argument("--rounds", type=int, default=1, help="how often to go through all groups (default 1)")
    parser.add_argument("--seconds", type=float, default=1.0, help="time box of one sample (default 1)")
    parser.add_argument("--repeats", type=int, default=3, help="samples a row and round; the median counts (default 3)")
    parser.add_argument("--deadline-s", type=float, default=90.0, help="limit of one row with its repeats (default 90)")
    parser.add_argument("--no-ray", action="store_true", help="measure raybook alone")
    parser.add_argument("--no-raybook", action="store_true", help="measure Ray alone")
    for peer in OTHERS:
        parser.add_argument(f"--no-{peer.name}", action="store_true", help=f"leave {peer.title} out")
        parser.add_argument(f"--{peer.name}-python", type=Path, help=f"a Python that has {peer.package}")
    parser.add_argument("--ray-python", type=Path, help="a Python that has Ray (default: .venv-ray, made on first use)")
    parser.add_argument("--json", type=Path, help="also write all samples to this file")
    options = parser.parse_args(arguments)
    if options.quick:
        options.seconds, options.repeats = 0.3, 1
    try:
        options.rows = select(options.rows)
    except ValueError as error:
        parser.error(str(error))
    return options


def engines_of(options: argparse.Namespace) -> list[Engine]:
    engines = []
    if not options.no_raybook:
        engines.append(Engine("raybook", Path(sys.executable)))
    if not options.no_ray:
        python = peer_env.check(options.ray_python) if options.ray_python else peer_env.ensure()
        engines.append(Engine("ray", python))
    for peer in OTHERS:
        if not getattr(options, f"no_{peer.name}"):
            chosen = getattr(options, f"{peer.name}_python")
            engines.append(Engine(peer.name, peer_env.check(chosen, peer) if chosen else peer_env.ensure(peer)))
    return engines


def measure(engines: list[Engine], chosen: tuple[Row, ...], box: Box, rounds: int) -> dict[str, dict[str, RowResult]]:
    """Results by engine and row. In every second round the engines change places."""
    collected: dict[str, list[RowResult]] = {engine.name: [] for engine in engines}
    for index in range(rounds):
        for group in GROUPS:
            rows = [row for row in chosen if row.group == group]
            for engine in engines if index % 2 == 0 else reversed(engines):
                if not rows or (group == STARTUP and engine.name in OTHER_NAMES):
                    continue
                print(f"{group}: {engine.name}", file=sys.stderr, flush=True)
                if group == STARTUP:
                    collected[engine.name] += measure_startup(engine, rows, box.repeats)
                else:
                    collected[engine.name] += measure_rows(engine, rows, box)
    return {
        name: {row.key: merge([result for result in results if result.row == row.key], row.key) for row in chosen}
        for name, results in collected.items()
    }


def lines_of(chosen: tuple[Row, ...], results: dict[str, dict[str, RowResult]], memcpy: float) -> list[TableLine]:
    lines = []
    for row in chosen:
        ours, peer = (
            results.get(engine, {}).get(row.key, RowResult(row.key, STATUS_NOT_RUN, row.unit))
            for engine in ("raybook", "ray")
        )
        others = tuple(
            (other.title, results[other.name].get(row.key, RowResult(row.key, STATUS_NOT_RUN, row.unit)))
            for other in OTHERS
            if other.name in results
        )
        lines.append(TableLine(row.title, ours, peer, goal_of(row, memcpy), others=others))
    return lines


def to_json(machine: str, memcpy: float, box: Box, lines: list[TableLine], summary: Summary) -> dict[str, object]:
    return {
        "machine": machine,
        "memcpy_gb_per_s": memcpy,
        "seconds": box.seconds,
        "repeats": box.repeats,
        "geometric_mean": summary.mean,
        "rows": [
            {
                "title": line.title,
                "raybook": line.ours.to_json(),
                "ray": line.peer.to_json(),
                "others": {name: result.to_json() for name, result in line.others},
                "ratio": line.ratio,
                "goal": line.goal,
                "goal_reached": line.goal_reached,
            }
            for line in lines
        ],
    }


def main(arguments: list[str]) -> int:
    options = parse_options(arguments)
    box = Box(options.seconds, options.repeats, options.deadline_s)
    try:
        engines = engines_of(options)
    except peer_env.PeerEnvironmentError as error:
        print(error, file=sys.stderr)
        return 1
    machine = machine_line()
    touch_memory(TOUCHED_BYTES)
    memcpy = memcpy_gb_per_s()
    results = measure(engines, options.rows, box, options.rounds)
    lines = lines_of(options.rows, results, memcpy)
    summary = summarize(lines)
    print(machine)
    print(
        f"{box.repeats * options.rounds} samples of {box.seconds:g} s a row, medians, ± half the range; "
        f"memcpy {memcpy:.1f} GB/s in this run.\n"
    )
    print(format_table(lines))
    print()
    print(format_summary(summary))
    if options.json:
        options.json.write_text(json.dumps(to_json(machine, memcpy, box, lines, summary), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
