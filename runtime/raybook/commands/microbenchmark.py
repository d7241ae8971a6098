"""``raybook microbenchmark``: the rows of the speed table on this machine, as ``ray microbenchmark`` has its own.

The same rows as ``benchmarks/core.py``, without a peer beside them: what they say holds for this machine and this hour.
"""

from __future__ import annotations

import json
import os

import click

import raybook
from raybook.commands.state import format_option

DEADLINE_S = 60.0


@click.command()
@click.argument("rows", nargs=-1)
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), default=0.5, show_default=True, help="Of one sample."
)
@click.option(
    "--repeats", type=click.IntRange(1), default=3, show_default=True, help="Samples a row; the median counts."
)
@click.option(
    "--num-cpus", type=click.IntRange(1), help="Of the cluster that is measured; as many as there are, unless given."
)
@format_option
def microbenchmark(rows: tuple[str, ...], seconds: float, repeats: int, num_cpus: int | None, style: str) -> None:
    """Measure ROWS (keys or groups: objects, tasks, actors; all by default) on a cluster of its own."""
    # Half a tenth of a second of numpy that no other command needs.
    from raybook.commands.microbench import figures, measure, plan

    try:
        chosen = [row for row in plan.select(list(rows) or None) if row.function is not None]
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if not chosen:
        raise click.UsageError("The rows about start-up need a fresh interpreter each: run benchmarks/startup.py.")
    found = []
    try:
        for row in chosen:
            if not raybook.is_initialized():
                raybook.init(num_cpus=num_cpus, log_to_driver=False)
            result = measure.measure(raybook, row, seconds, repeats, DEADLINE_S, _give_up)
            found.append(result)
            if style != "json":
                click.echo(f"{row.title:30s} {figures.format_result(result):>20s}  {result.reason}".rstrip())
            if result.status == figures.STATUS_FAILED:
                raybook.shutdown()
    finally:
        raybook.shutdown()
    if style == "json":
        click.echo(json.dumps([result.to_json() for result in found], indent=1))
    if any(result.status == figures.STATUS_FAILED for result in found):
        raise click.exceptions.Exit(1)


def _give_up(row: object, deadline_s: float) -> None:
    click.echo(
        f"{row} hangs: neither its end nor an interrupt came within {deadline_s:g} s. Please report this.", err=True
    )
    os._exit(1)
