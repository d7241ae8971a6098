"""Metrics page: what the cluster has and does, and what users' code counted, in Prometheus' text form.

Served by threads of its own; every scrape asks the GCS on its loop, so nothing is computed while nobody scrapes. Who may
read it is decided as for the jobs server (``io/http_guard``): without the token, this user on this machine. Names and
labels are Ray's where the figure is the same (``ray_tasks``, ``ray_actors``, ``ray_resources``,
``ray_object_store_memory``); users' metrics get the prefix ``ray_``, as they do there.
"""

from __future__ import annotations

import asyncio
import http.server
import logging
import os
import socket
import threading
from collections.abc import Iterable
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from raybook.base.facts import Row
from raybook.base.resources import to_user
from raybook.gcs.service import GcsService
from raybook.io.http_guard import check_visitor, visitor_of
from raybook.io.http_server import BoundedServer
from raybook.io.transport import cannot_listen
from raybook.protocol.messages import gcs as messages
from raybook.protocol.messages.node import NodeStats
from raybook.protocol.messages.survey import FUNCTIONS, USAGE, ProcessAccount, Survey

logger = logging.getLogger(__name__)

SCRAPE_S_MAX = 8.0
"""Prometheus gives up after ten."""

MIB = 1 << 20

STATES = {
    "pending": "PENDING_NODE_ASSIGNMENT",
    "running": "RUNNING",
    "finished": "FINISHED",
    "failed": "FAILED",
    "cancelled": "FAILED",
}


class PageHandler(http.server.BaseHTTPRequestHandler):
    """One connection. ``registry``, ``token`` and ``host`` are set by who serves."""

    registry: CollectorRegistry
    token: str
    host: str
    protocol_version = "HTTP/1.1"
    server_version = "raybook"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        visitor = visitor_of(self.connection, self.client_address)
        refusal = check_visitor(visitor, self.headers, self.token, os.getuid(), self.host)
        if refusal is not None:
            self._send(refusal.status, "text/plain; charset=utf-8", refusal.text.encode())
        elif self.path.partition("?")[0] not in ("/", "/metrics"):
            self._send(404, "text/plain; charset=utf-8", b"The page is at /metrics.")
        else:
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
            self._send(200, kind, encode(self.registry))

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug("%s", format % args)


class MetricsPage:
    """One page. ``address``: host:port once it is served. token: the cluster's."""

    def __init__(self, gcs: GcsService, loop: asyncio.AbstractEventLoop, token: bytes) -> None:
        self._gcs = gcs
        self._loop = loop
        self._token = token
        self.address = ""
        self._server: Any = None

    def serve(self, host: str, port: int) -> None:
        """OSError, saying why, when the port is taken."""
        registry = CollectorRegistry()
        registry.register(self)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listening = socket.create_server((host, port), family=family)
        except OSError as error:
            raise cannot_listen(error, f"{host}:{port}", "--metrics-export-port") from None
        self.address = f"{host}:{listening.getsockname()[1]}"
        settings = {"registry": registry, "token": self._token.hex(), "host": host}
        self._server = BoundedServer(listening, type("BoundHandler", (PageHandler,), settings))
        threading.Thread(target=self._server.serve_forever, daemon=True, name="raybook-metrics").start()

    def close(self) -> None:
        """Stop serving. Idempotent."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def describe(self) -> Iterable[Metric]:
        """Nothing: what users count is not known beforehand, and a registration must ask nobody."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """One scrape, on the server's thread."""
        return asyncio.run_coroutine_threadsafe(self._ask(), self._loop).result(SCRAPE_S_MAX)

    async def _ask(self) -> list[Metric]:
        gcs = self._gcs
        status, actors, survey, usage, stats = await asyncio.gather(
            gcs.call("ClusterStatus", messages.ClusterStatus()),
            gcs.call("ListActors", messages.ListActors()),
            gcs.call("Survey", Survey(FUNCTIONS)),
            gcs.call("Survey", Survey(USAGE)),
            gcs.inventory.node_statistics(),
        )
        rows = [row for account in survey.accounts for row in msgspec.msgpack.decode(account.rows)]
        return [
            *node_metrics(status.nodes),
            *actor_metrics(actors.actors),
            *task_metrics(rows),
            *store_metrics(stats),
            *process_metrics(stats),
            *usage_metrics(usage.accounts),
            *user_metrics(gcs.fact_rows("metric")),
        ]


def node_metrics(nodes: Iterable[messages.NodeInfo]) -> list[Metric]:
    """Nodes, and their resources by name and state."""
    active = GaugeMetricFamily("ray_cluster_active_nodes", "Nodes that are alive.")
    resources = GaugeMetricFamily("ray_resources", "Logical resources.", labels=["Name", "State", "NodeId"])
    alive = [node for node in nodes if node.alive]
    active.add_metric([], len(alive))
    for node in alive:
        total, free = to_user(node.resources_total), to_user(node.resources_available)
        for name, amount in total.items():
            available = free.get(name, 0)
            resources.add_metric([name, "USED", node.node_id.hex()], amount - available)
            resources.add_metric([name, "AVAILABLE", node.node_id.hex()], available)
    return [active, resources]


def actor_metrics(actors: Iterable[messages.ActorInfo]) -> list[Metric]:
    """Actors by class and state; dead ones as long as they are remembered."""
    family = GaugeMetricFamily("ray_actors", "Actors.", labels=["Name", "State"])
    _count(family, ([actor.class_name, actor.state] for actor in actors))
    return [family]


def task_metrics(rows: Iterable[Row]) -> list[Metric]:
    """Tasks and calls by function and state, and how long the last ones waited. Rows: of a survey of functions."""
    counts: dict[tuple[str, str], int] = {}
    worst: dict[str, float] = {}
    for row in rows:
        for share, seconds in row.get("latency_s", {}).items():
            worst[share] = max(worst.get(share, 0.0), seconds)
        for ours, state in STATES.items():
            if count := row.get(ours, 0):
                counts[row["name"], state] = counts.get((row["name"], state), 0) + count
    tasks = GaugeMetricFamily("ray_tasks", "Tasks and actor calls of living owners.", labels=["Name", "State"])
    for key, count in counts.items():
        tasks.add_metric(list(key), count)
    latency = GaugeMetricFamily(
        "ray_scheduler_placement_time_s", "From submission to start; the slowest owner's.", labels=["quantile"]
    )
    for share, seconds in sorted(worst.items()):
        latency.add_metric([share], seconds)
    return [tasks, latency]


def store_metrics(stats: dict[bytes, NodeStats]) -> list[Metric]:
    """The object stores, in bytes."""
    used = GaugeMetricFamily("ray_object_store_memory", "Bytes of the object store in use.", labels=["NodeId"])
    capacity = GaugeMetricFamily("ray_object_store_capacity", "Bytes the object store may hold.", labels=["NodeId"])
    moved = GaugeMetricFamily(
        "ray_object_transfers",
        "Objects from and to other nodes: copies here, counts, bytes.",
        labels=["Kind", "NodeId"],
    )
    for node_id, node in stats.items():
        used.add_metric([node_id.hex()], node.store_used_bytes)
        capacity.add_metric([node_id.hex()], node.store_capacity_bytes)
        for kind, count in node.transfers.items():
            moved.add_metric([kind, node_id.hex()], count)
    return [used, capacity, moved]


def process_metrics(stats: dict[bytes, NodeStats]) -> list[Metric]:
    """Worker processes by state."""
    family = GaugeMetricFamily("ray_workers", "Worker processes.", labels=["State", "NodeId"])
    _count(family, ([worker.state, node_id.hex()] for node_id, node in stats.items() for worker in node.workers))
    return [family]


def usage_metrics(accounts: Iterable[ProcessAccount]) -> list[Metric]:
    """Processor time and memory of nodes and processes, use of GPUs. Accounts: of a survey of usage, one a node."""
    node = ["NodeId"]
    who = ["Component", "Name", "pid", "NodeId"]
    busy = CounterMetricFamily("ray_node_cpu_busy_seconds", "Busy processor seconds of the machine.", labels=node)
    total = CounterMetricFamily("ray_node_cpu_seconds", "Processor seconds there have been, busy or not.", labels=node)
    cpu = CounterMetricFamily("ray_component_cpu_seconds", "Processor seconds of a process.", labels=who)
    memory = GaugeMetricFamily("ray_component_rss_mb", "Resident memory of a process, in MiB.", labels=who)
    gpu_labels = ["GpuIndex", "NodeId"]
    gpus = GaugeMetricFamily(
        "ray_node_gpus_utilization", "Share of time that a GPU works, in percent.", labels=gpu_labels
    )
    gram = GaugeMetricFamily("ray_node_gram_used", "Memory of a GPU in use, in MiB.", labels=gpu_labels)
    for account in accounts:
        node_id = account.node_id.hex()
        for row in msgspec.msgpack.decode(account.rows):
            if "process" in row:
                labels = [row["process"], row["name"], str(row["pid"]), node_id]
                cpu.add_metric(labels, row["cpu_s"])
                memory.add_metric(labels, row["rss_bytes"] / MIB)
            elif "gpu" in row:
                gpus.add_metric([str(row["gpu"]), node_id], row["utilization"] * 100)
                gram.add_metric([str(row["gpu"]), node_id], row["memory_used_bytes"] / MIB)
            else:
                busy.add_metric([node_id], row["busy_s"])
                total.add_metric([node_id], row["total_s"])
    return [busy, total, cpu, memory, gpus, gram]


def user_metrics(rows: Iterable[Row]) -> list[Metric]:
    """What users' code counted: counters and histograms summed over processes, gauges by process."""
    sums: dict[tuple[str, tuple[tuple[str, str], ...]], Row] = {}
    for row in rows:
        tags = {**row["tags"], "pid": str(row["pid"])} if row["type"] == "gauge" else row["tags"]
        key = (row["name"], tuple(tags.items()))
        sums[key] = _added(sums[key], row) if key in sums else {**row, "tags": tags}
    families: dict[str, Any] = {}
    for row in sums.values():
        _add_sample(families, row)
    return list(families.values())


def _added(known: Row, row: Row) -> Row:
    total = {**known, "value": known["value"] + row["value"]}
    if row["type"] == "histogram" and row["boundaries"] == known["boundaries"]:
        total["buckets"] = [a + b for a, b in zip(known["buckets"], row["buckets"], strict=True)]
    return total


def _add_sample(families: dict[str, Any], row: Row) -> None:
    name, labels, values = f"ray_{row['name']}", list(row["tags"]), list(row["tags"].values())
    text = row["description"] or row["name"]
    family = families.get(name)
    if row["type"] == "histogram":
        if family is None:
            family = families[name] = HistogramMetricFamily(name, text, labels=labels)
        edges = [*(str(float(edge)) for edge in row["boundaries"]), "+Inf"]
        family.add_metric(values, list(zip(edges, row["buckets"], strict=True)), row["value"])
        return
    if family is None:
        kind = CounterMetricFamily if row["type"] == "counter" else GaugeMetricFamily
        family = families[name] = kind(name, text, labels=labels)
    family.add_metric(values, row["value"])


def _count(family: GaugeMetricFamily, labels: Iterable[list[str]]) -> None:
    counts: dict[tuple[str, ...], int] = {}
    for each in labels:
        counts[tuple(each)] = counts.get(tuple(each), 0) + 1
    for key, count in counts.items():
        family.add_metric(list(key), count)
