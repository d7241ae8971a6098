"""Asking: finds a cluster of this machine and puts questions to its GCS. A terminal's failure is one line of text."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import click

from raybook.api.local_cluster import find_cluster
from raybook.api.survey import object_rows, task_rows
from raybook.base.facts import Row
from raybook.io.channel import RemoteError
from raybook.io.cluster_registry import ClusterRecord
from raybook.io.tls import load_tls
from raybook.protocol.messages.gcs import GetFacts
from raybook.protocol.messages.survey import TASKS, Survey

TIMEOUT_S = 3.0
LOOK_S = 0.6
"""Owners tell of their tasks only while somebody looks, and within 250 ms then; the head passes on as quickly."""
ADDRESS_WAIT_S = 5.0
"""A cluster that has just begun serves others a moment later than its own driver."""

Tables = dict[str, dict[str, Row]]


def cluster_at(address: str) -> ClusterRecord:
    """The record of a cluster that answers questions. ClickException when there is none."""
    deadline = time.monotonic() + ADDRESS_WAIT_S
    while True:
        try:
            record = find_cluster(address).record
        except ConnectionError as error:
            raise click.ClickException(str(error)) from None
        assert record is not None, "Clusters are found by their records."
        if record.address:
            return record
        if time.monotonic() > deadline:
            raise click.ClickException(f"The cluster {record.name or record.cluster_id} serves nobody but its driver.")
        time.sleep(0.05)


def ask(record: ClusterRecord, *requests: Any) -> list[Any]:
    """The GCS's answers, in order. ClickException when it does not answer. Cost: 100 ms of imports, 2 ms a question."""
    return _run(record, _ask(record, requests))


def look(record: ClusterRecord) -> Tables:
    """The event table, once everybody has had time to tell. Blocks for ``LOOK_S``."""
    return _run(record, _look(record))


def survey(record: ClusterRecord, kind: str) -> list[Row]:
    """Rows of every process's own account (``api.survey``); says so when a process did not answer."""
    (reply,) = ask(record, Survey(kind))
    found = task_rows(reply) if kind == TASKS else object_rows(reply)
    if found.silent:
        pids = ", ".join(map(str, found.silent))
        click.echo(f"Left out: what pid {pids} submitted; they did not answer within a second.", err=True)
    return found.rows


def _run(record: ClusterRecord, work: Any) -> Any:
    try:
        return asyncio.run(work)
    except (ConnectionError, RemoteError, OSError) as error:
        name = record.name or record.cluster_id
        raise click.ClickException(f"The GCS of cluster {name} ({record.address}) does not answer: {error}") from None


async def _ask(record: ClusterRecord, requests: tuple[Any, ...]) -> list[Any]:
    from raybook.io.rpc import GrpcChannel  # 100 ms of imports that `stop` and wrong usage need not pay.

    token, tls = Path(record.token_file).read_bytes(), load_tls(record.session_dir)
    channel = GrpcChannel("Gcs", record.address, token, TIMEOUT_S, tls)
    try:
        return [await channel.call(type(request).__name__, request) for request in requests]
    finally:
        await channel.close()


async def _look(record: ClusterRecord) -> Tables:
    await _ask(record, (GetFacts(),))
    await asyncio.sleep(LOOK_S)
    (reply,) = await _ask(record, (GetFacts(),))
    tables: Tables = {}
    for fact in reply.facts:
        if fact.row is not None:
            tables.setdefault(fact.kind, {})[fact.key] = fact.row
    return tables
