"""``raybook list | summary | memory | timeline``: what a running cluster has and does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable

import click

from raybook.api import memory_table
from raybook.api.timeline import timeline_events
from raybook.base.facts import Row
from raybook.base.resources import to_user
from raybook.commands import rows
from raybook.commands.ask import ask, cluster_at, look, survey
from raybook.commands.tables import cell, show
from raybook.io.cluster_registry import ClusterRecord
from raybook.protocol.messages.gcs import GetPlacementGroups, ListActors, ListJobs, ListNodes, ListWorkers
from raybook.protocol.messages.survey import OBJECTS, TASKS

Source = Callable[[ClusterRecord], list[Row]]

LISTS: dict[str, Source] = {
    "actors": lambda record: rows.actor_rows(ask(record, ListActors())[0].actors),
    "nodes": lambda record: rows.node_rows(ask(record, ListNodes())[0].nodes),
    "tasks": lambda record: rows.task_rows(survey(record, TASKS)),
    "objects": lambda record: rows.object_rows(survey(record, OBJECTS)),
    "placement-groups": lambda record: rows.group_rows(ask(record, GetPlacementGroups())[0].groups),
    "jobs": lambda record: rows.job_rows(ask(record, ListJobs())[0].jobs),
    "runtime-envs": lambda record: rows.environment_rows(look(record).get("runtime_env", {})),
    "cluster-events": lambda record: rows.event_rows(look(record).get("cluster_event", {})),
    "workers": lambda record: rows.worker_rows(ask(record, ListWorkers())[0].workers),
}

SUMMARIES: dict[str, Source] = {
    "tasks": lambda record: rows.task_summary(survey(record, TASKS)),
    "actors": lambda record: rows.actor_summary(ask(record, ListActors())[0].actors),
    "objects": lambda record: rows.store_rows(look(record).get("store", {})),
}


def _choice(names: Iterable[str]) -> click.Choice:
    return click.Choice(list(names), case_sensitive=False)


address_option = click.option(
    "--address", default="auto", show_default=True, help="A cluster's name, id or address; auto: the newest one here."
)
format_option = click.option(
    "--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True
)


@click.command("list")
@click.argument("kind", type=click.Choice(sorted(LISTS)))
@click.option(
    "--filter", "-f", "filters", multiple=True, metavar="FIELD=VALUE", help="Also FIELD!=VALUE; may be repeated."
)
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
@address_option
@format_option
def list_command(kind: str, filters: tuple[str, ...], limit: int, address: str, style: str) -> None:
    """List what a cluster has. Of tasks: those that wait and run, and the last 10,000 that ended of each owner."""
    found = LISTS[kind](cluster_at(address))
    try:
        show(rows.chosen(found, filters, limit), kind.capitalize(), style)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


@click.command("get")
@click.argument("kind", type=click.Choice(sorted(LISTS)))
@click.argument("id")
@address_option
@format_option
def get_command(kind: str, id: str, address: str, style: str) -> None:
    """Show everything about one thing, by its id or the beginning of it (workers, drivers: also by pid)."""
    found = [row for row in LISTS[kind](cluster_at(address)) if _is_called(row, id)]
    if not found:
        raise click.ClickException(f"The cluster knows none of its {kind} by {id!r}. `raybook list {kind}` shows them.")
    if style == "json":
        click.echo(json.dumps(found, indent=1, default=str))
        return
    for row in found:
        for name, value in row.items():
            if value not in ("", None, {}):
                click.echo(f"{name:>20}  {cell(name, value)}")
        click.echo()


def _is_called(row: Row, id: str) -> bool:
    """Rows begin with the id that they go by."""
    return str(next(iter(row.values()))).startswith(id) or str(row.get("pid", "")) == id


@click.command()
@click.argument("kind", type=click.Choice(sorted(SUMMARIES)))
@address_option
@format_option
def summary(kind: str, address: str, style: str) -> None:
    """Count what a cluster has: tasks by function and state, actors by class and state, objects by node."""
    show(SUMMARIES[kind](cluster_at(address)), kind.capitalize(), style)


@click.command()
@address_option
@click.option("--group-by", type=_choice(memory_table.GROUPINGS), default=memory_table.NODE_ADDRESS, show_default=True)
@click.option("--sort-by", type=_choice(memory_table.SORTINGS), default=memory_table.OBJECT_SIZE, show_default=True)
@click.option("--units", type=_choice(memory_table.UNITS), default="MB", show_default=True, help="Of sizes.")
@click.option("--stats-only", is_flag=True, help="Show how full the object stores are, and nothing else.")
@click.option("--num-entries", "--n", "-n", type=click.IntRange(1), default=None, help="Objects to show of each group.")
@click.option("--no-format", is_flag=True, hidden=True, help="Lines are never wrapped.")
@format_option
def memory(
    address: str,
    group_by: str,
    sort_by: str,
    units: str,
    stats_only: bool,
    num_entries: int | None,
    no_format: bool,
    style: str,
) -> None:
    """Show every object that processes refer to, who refers to it and how, and how full the object stores are."""
    record = cluster_at(address)
    found = survey(record, OBJECTS)
    if style == "json":
        stores = rows.store_rows(look(record).get("store", {}))
        click.echo(json.dumps({"stores": stores, "objects": rows.object_rows(found)}, indent=1))
        return
    nodes, jobs = ask(record, ListNodes(), ListJobs())
    totals = [to_user(node.resources_total) for node in nodes.nodes if node.alive]
    capacity = int(sum(total.get(memory_table.STORE_RESOURCE, 0) for total in totals))
    references = memory_table.reference_rows(
        found,
        {node.node_id.hex(): node.ip for node in nodes.nodes},
        {job.pid for job in jobs.jobs if not job.ended_ms},
    )
    text = memory_table.memory_text(
        references, capacity, group_by=group_by, sort_by=sort_by, units=units, stats_only=stats_only,
        num_entries=num_entries,
    )  # fmt: skip
    click.echo(text)


@click.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False, writable=True))
@address_option
def timeline(file: str | None, address: str) -> None:
    """Write the tasks that run and that ended lately into FILE, for chrome://tracing or Perfetto."""
    path = file or f"raybook-timeline-{time.strftime('%Y-%m-%d_%H-%M-%S')}.json"
    events = timeline_events(survey(cluster_at(address), TASKS), time.time() * 1_000)
    with open(path, "w", encoding="utf-8") as out:
        json.dump(events, out)
    spans = sum(event["ph"] == "X" for event in events)
    click.echo(f"Wrote {spans} tasks to {path}; open it in https://ui.perfetto.dev or chrome://tracing.")
