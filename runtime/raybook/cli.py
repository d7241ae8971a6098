"""``raybook start | status | stop``: clusters from a terminal; the commands that look are in ``raybook.commands``.

Reads options and prints; what they mean is in ``api/split_cluster`` and ``api/local_cluster``. ``stop`` ends only what
the registry of this user says is a cluster of ours. Exit codes: 0 done, 1 it could not be done, 2 wrong usage.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from raybook.api import local_cluster, split_cluster
from raybook.base.errors import RayError
from raybook.base.tls_files import choose_tls
from raybook.base.version import VERSION
from raybook.commands.ask import ask
from raybook.commands.autoscaler_status import scaling_lines
from raybook.commands.drain import drain_node
from raybook.commands.hosts import down, up
from raybook.commands.job import job
from raybook.commands.k8s import k8s
from raybook.commands.logs import logs
from raybook.commands.microbenchmark import microbenchmark
from raybook.commands.rows import node_rows, used_of_total
from raybook.commands.scaling_file import ScalingFile
from raybook.commands.serve import serve
from raybook.commands.start_options import Address, Amounts, Labels, address_of, head_token, own_host, unused_options
from raybook.commands.state import format_option, get_command, list_command, memory, summary, timeline
from raybook.commands.stay import Told
from raybook.commands.tables import cell
from raybook.commands.tls import tls as tls_group
from raybook.io import daemon, session_dir
from raybook.io.cluster_registry import ClusterRecord
from raybook.io.store_address import parse_store
from raybook.io.tls import usable_tls
from raybook.protocol.messages.daemons import NodeAmounts
from raybook.protocol.messages.gcs import ClusterStatus, ClusterStatusReply
from raybook.protocol.messages.scaling import GetAutoscaler

DASHBOARD_PORT = 8265
"""Where Ray's clients look for a jobs server."""
CLIENT_PORT = 10001
"""Where Ray's thin clients look for a head."""
DEFAULT_PORT = 6399
"""Next to the 6379 that Ray and Redis take, so that all can run on one machine."""
NODE_STOP_S = 3.0


@click.group()
@click.version_option(VERSION)
def main() -> None:
    """raybook: Ray's programming model for people who work in notebooks."""


@main.command()
@click.option("--head", is_flag=True, help="Start a new cluster with this machine as its first node.")
@click.option("--address", type=Address(), help="Join the cluster whose GCS listens there.")
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0: any free one.")
@click.option(
    "--node-ip-address",
    "--host",
    "host",
    metavar="ADDRESS",
    help="Where to listen: loopback unless given, or, joining another machine, the address from which that is reached.",
)
@click.option("--name", default="", help="A name for `status`, `stop` and init(address=NAME).")
@click.option("--num-cpus", type=click.FloatRange(0), help="As many as there are, unless given.")
@click.option("--num-gpus", type=click.FloatRange(0), help="As many as there are, unless given.")
@click.option("--memory", type=click.IntRange(0), metavar="BYTES")
@click.option("--object-store-memory", type=click.IntRange(0), metavar="BYTES")
@click.option("--resources", type=Amounts(), default="{}", help="Custom resources, as in '{\"licence\": 2}'.")
@click.option("--labels", type=Labels(), default="", help="Of the node, as in zone=b,disk=fast.")
@click.option(
    "--store",
    default="",
    metavar="STORE",
    callback=lambda context, option, text: _checked_store(text),
    help="Where the GCS keeps its tables: sqlite:PATH, redis://[:PASSWORD@]HOST:PORT[/DB], or memory (nothing outlives it "
    "then). By default a file in its session, which outlives the GCS and not the cluster.",
)
@click.option(
    "--token-file",
    metavar="FILE",
    help="Of the cluster to join, when it runs on another machine. With --head: its token, made if there is no such file.",
)
@click.option("--autoscaling-config", type=ScalingFile(), help="With --head: nodes that come and go, as the file says.")
@click.option("--block", is_flag=True, help="Stay, and end the node when told to (Ctrl-C, SIGTERM).")
@click.option(
    "--while-stdin-open", is_flag=True, hidden=True, help="Stay until the other end of standard input is gone."
)
@unused_options
@click.option(
    "--tls-cert", default="", metavar="FILE", help="This node's certificate: other nodes are spoken with by TLS."
)
@click.option("--tls-key", default="", metavar="FILE", help="Its private key.")
@click.option("--tls-ca", default="", metavar="FILE", help="Certificate of the authority that others must be of.")
@click.option(
    "--metrics-export-port",
    type=click.IntRange(-1, 65535),
    default=0,
    show_default=True,
    help="Of the page for Prometheus; 0: any free one, -1: no page.",
)
@click.option("--include-dashboard/--no-include-dashboard", default=True, help="Answer HTTP: the Jobs API.")
@click.option(
    "--dashboard-host",
    default="127.0.0.1",
    show_default=True,
    help="Address at which HTTP is answered. At one that others reach, only with the cluster's token.",
)
@click.option(
    "--dashboard-port",
    type=click.IntRange(0, 65535),
    help=f"Of HTTP; {DASHBOARD_PORT} unless given, or any free one when that is taken; 0: any free one.",
)
@click.option(
    "--client-port",
    "--ray-client-server-port",
    type=click.IntRange(-1, 65535),
    help=f"Where thin clients knock, on --host; {CLIENT_PORT} unless given, or any free one when that is taken; 0: any free "
    "one, -1: none.",
)
def start(
    head: bool,
    address: str | None,
    port: int,
    host: str | None,
    name: str,
    num_cpus: float | None,
    num_gpus: float | None,
    memory: int | None,
    object_store_memory: int | None,
    resources: dict[str, float],
    labels: dict[str, str],
    store: str,
    token_file: str | None,
    autoscaling_config: dict[str, Any] | None,
    block: bool,
    while_stdin_open: bool,
    tls_cert: str,
    tls_key: str,
    tls_ca: str,
    metrics_export_port: int,
    include_dashboard: bool,
    dashboard_host: str,
    dashboard_port: int | None,
    client_port: int | None,
) -> None:
    """Start a cluster here, or join one."""
    address = address_of(head, address)
    if autoscaling_config is not None and not head:
        raise click.UsageError("--autoscaling-config goes with --head: a cluster has one autoscaler, beside its head.")
    host = host or own_host(address)
    amounts = NodeAmounts(num_cpus, num_gpus, memory, object_store_memory, resources)
    with Told(block or while_stdin_open) as told:
        try:
            tls = usable_tls(choose_tls(os.environ, tls_cert, tls_key, tls_ca))
            if head:
                metrics_port = metrics_export_port if metrics_export_port >= 0 else None
                record = split_cluster.start_head(
                    amounts,
                    name=name,
                    host=host,
                    port=port,
                    store=store,
                    labels=labels,
                    token=head_token(token_file),
                    metrics_port=metrics_port,
                    http_host=dashboard_host,
                    http_port=_free_port(dashboard_host, dashboard_port, DASHBOARD_PORT) if include_dashboard else None,
                    session_port=None if client_port == -1 else _free_port(host, client_port, CLIENT_PORT),
                    tls=tls,
                )
                if autoscaling_config is not None:
                    _start_autoscaler(record, autoscaling_config, host)
                click.echo(
                    f"Cluster {record.name or record.cluster_id} is running; its GCS listens at {record.address}."
                )
                click.echo(f'  from Python here:  raybook.init(address="{record.name or record.cluster_id}")')
                if record.metrics_address:
                    click.echo(f"  for Prometheus:    http://{record.metrics_address}/metrics")
                if record.http_address:
                    click.echo(
                        f"  jobs:              raybook job submit --address http://{record.http_address} -- COMMAND"
                    )
                if record.session_address:
                    click.echo(f'  from elsewhere:    raybook.init("{record.session_address}", token_file=...)')
                    click.echo(f"  its token:         {record.token_file}")
                needs = " --tls-cert FILE --tls-key FILE --tls-ca FILE" if tls else ""
                click.echo(f"  another node:      raybook start --address {record.address}{needs}")
                click.echo(f"  end it:            raybook stop {record.name or record.cluster_id}")
                pid, end = record.head_pid, partial(local_cluster.stop_cluster, record)
            else:
                assert address is not None
                token_path = token_file or _token_file_of(address)
                node = split_cluster.join(address, token_path, amounts, host, labels, tls=tls)
                click.echo(f"Node {node.ready.node_id} (pid {node.ready.pid}) has joined the cluster at {address}.")
                pid, end = node.ready.pid, partial(daemon.stop, node.process, NODE_STOP_S)
        except (RayError, ValueError, TypeError, OSError) as error:
            raise click.ClickException(str(error)) from None
        if block or while_stdin_open:
            sys.stdout.flush()
            sys.exit(told.stay(pid, end, while_stdin_open))


@main.command()
@click.argument("cluster", required=False)
@format_option
def status(cluster: str | None, style: str) -> None:
    """Show the clusters of this machine, or one of them (name, id, or address): nodes, what is used of their resources,
    and why work waits."""
    try:
        records = [_record(cluster)] if cluster else local_cluster.list_clusters()
    except ConnectionError as error:
        raise click.ClickException(str(error)) from None
    if style == "json":
        click.echo(json.dumps([_status_row(record) for record in records], indent=1))
        return
    if not records:
        click.echo("No cluster is running on this machine.")
    for record in records:
        click.echo(_describe(record))


@main.command()
@click.argument("cluster", required=False)
@click.option("--all", "everything", is_flag=True, help="Every cluster of the registry, also those of notebooks.")
@click.option("--force", is_flag=True, help="Kill at once instead of asking.")
@click.option(
    "--grace-period",
    type=click.FloatRange(0),
    default=local_cluster.STOP_TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="So long each process may take to end before it is killed.",
)
def stop(cluster: str | None, everything: bool, force: bool, grace_period: float) -> None:
    """End a cluster: by name, id or address; without one, the clusters that no notebook or script owns."""
    if cluster and everything:
        raise click.UsageError("Name a cluster, or say --all.")
    try:
        records = [_record(cluster)] if cluster else local_cluster.list_clusters()
    except ConnectionError as error:
        raise click.ClickException(str(error)) from None
    chosen = [record for record in records if cluster or everything or record.persist]
    for record in chosen:
        nodes = local_cluster.joined_nodes(record)
        local_cluster.stop_cluster(record, 0.0 if force else grace_period)
        if any(node.head_pid == record.head_pid for node in nodes):
            count = "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
            click.echo(f"Ended {count} of the cluster at {record.address}; its head is not on this machine.")
        else:
            click.echo(f"Ended cluster {record.name or record.cluster_id}.")
    kept = len(records) - len(chosen)
    if kept:
        click.echo(f"Left {kept} alone that belong to a notebook or script; --all ends them too.")
    elif not chosen:
        click.echo("No cluster is running on this machine.")


def _start_autoscaler(record: ClusterRecord, configuration: dict[str, Any], host: str) -> None:
    try:
        split_cluster.start_autoscaler(record, configuration, host)
    except RayError:
        local_cluster.stop_cluster(record)
        raise


def _checked_store(text: str) -> str:
    try:
        if text:
            parse_store(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return text


def _free_port(host: str, wanted: int | None, usual: int) -> int:
    if wanted is not None:
        return wanted
    try:
        socket.create_server((host, usual)).close()
    except OSError:
        return 0
    return usual


def _token_file_of(address: str) -> str:
    for record in local_cluster.list_clusters():
        if record.address == address:
            return record.token_file
    raise click.UsageError(
        f"No cluster at {address} was started on this machine. Copy its token file here and pass --token-file."
    )


def _record(address: str) -> ClusterRecord:
    found = local_cluster.find_cluster(address).record
    assert found is not None, "Clusters are found by their records."
    return found


def _describe(record: ClusterRecord) -> str:
    """One cluster for people; what its GCS says of it, when it answers."""
    owner = f"owned by pid {record.owner.pid}" if record.owner else "persistent"
    lines = [
        f"{record.name or '(no name)'}  id {record.cluster_id}  {owner}  GCS {record.address or '(not serving yet)'}"
    ]
    if not record.address:
        return lines[0]
    try:
        reply, scaling = ask(record, ClusterStatus(), GetAutoscaler())
    except click.ClickException as error:
        return "\n".join([*lines, f"  {error.message}"])
    alive = [node for node in reply.nodes if node.alive]
    dead = len(reply.nodes) - len(alive)
    lines.append(
        f"  {len(alive)} nodes, {reply.actors_alive} actors, {reply.jobs} jobs" + (f", {dead} dead" * bool(dead))
    )
    for node in alive:
        used = cell("resources", used_of_total(node))
        leaves = f"  drains: {node.draining}" if node.draining else ""
        lines.append(f"  node {node.node_id.hex()}  {node.hostname}  {node.ip}  used {used}{leaves}")
    lines += [f"  waiting: {text}" for text in reply.waiting]
    lines += [f"  {line}" for line in scaling_lines(scaling)]
    folder = Path(record.session_dir)
    if record.http_address:
        lines.append(f"  jobs: http://{record.http_address}")
    if record.metrics_address:
        lines.append(f"  metrics: http://{record.metrics_address}/metrics")
    lines.append(f"  logs: {folder / session_dir.LOGS}")
    return "\n".join(lines)


def _status_row(record: ClusterRecord) -> dict[str, object]:
    """One cluster for programs."""
    row: dict[str, object] = {"name": record.name, "cluster_id": record.cluster_id, "address": record.address}
    row |= {"persist": record.persist, "session_dir": record.session_dir}
    row["metrics_address"] = record.metrics_address
    row["http_address"] = record.http_address
    if record.address:
        reply: ClusterStatusReply
        reply, scaling = ask(record, ClusterStatus(), GetAutoscaler())
        row |= {"nodes": node_rows(reply.nodes), "actors_alive": reply.actors_alive, "jobs": reply.jobs}
        row["waiting"] = reply.waiting
        row["autoscaler"] = msgspec.to_builtins(scaling.status)
    return row


_COMMANDS = (
    list_command, get_command, summary, memory, timeline, logs, job, microbenchmark, tls_group, drain_node, up, down, serve,
    k8s,
)  # fmt: skip
for _command in _COMMANDS:
    main.add_command(_command)


if __name__ == "__main__":
    main()
