"""Runs of Train and applications of Serve: from the facts that these libraries tell to rows. Pure.

Their records: raybook/train/facts.py (kind "train_run"), raybook/serve/controller.py (kind "serve", one an application).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from raybook.base.facts import Row
from raybook.observe.fields import ERROR_LENGTH_MAX, integer_of, number_of, text_of
from raybook.observe.history import POINTS_MAX, thinned
from raybook.observe.mirror import Tables
from raybook.observe.schema import DeploymentRow, ReplicaRow, TrainRow, TrainWorkerRow
from raybook.observe.trials import trial_history

RUNS_MAX = 20
WORKERS_MAX = 64
METRICS_MAX = 20
CHECKPOINTS_MAX = 20
REPLICAS_MAX = 64
DECISIONS_MAX = 3


def train_runs(tables: Tables) -> list[TrainRow]:
    """The newest runs, newest first."""
    newest = list(tables.rows("train_run").items())[-RUNS_MAX:]
    return [_run(key, row) for key, row in reversed(newest)]


def _run(key: str, row: Row) -> TrainRow:
    metrics = row.get("metrics")
    numbers = metrics if isinstance(metrics, dict) else {}
    metric = text_of(row, "metric_name")
    return TrainRow(
        run_id=key,
        name=text_of(row, "name"),
        state=text_of(row, "state"),
        error=text_of(row, "error", length_max=ERROR_LENGTH_MAX),
        attempt=integer_of(row, "attempt"),
        workers_wanted=integer_of(row, "workers_wanted"),
        workers=[_worker(worker) for worker in _records(row, "workers")[:WORKERS_MAX]],
        reports=integer_of(row, "reports"),
        step_ms=float(number_of(row, "step_ms")),
        metric=metric,
        value=float(number_of(numbers, metric)) if metric in numbers else None,
        metrics={str(name): float(number_of(numbers, name)) for name in list(numbers)[:METRICS_MAX]},
        history=thinned(trial_history(row) or [], POINTS_MAX),
        checkpoints=[str(name) for name in _list(row, "checkpoints")[-CHECKPOINTS_MAX:]],
        latest_checkpoint=text_of(row, "latest_checkpoint", length_max=ERROR_LENGTH_MAX),
        started_ms=float(number_of(row, "started_unix_ms")),
        ended_ms=float(number_of(row, "ended_unix_ms")),
    )


def _worker(row: Row) -> TrainWorkerRow:
    return TrainWorkerRow(
        rank=integer_of(row, "rank"),
        node_id=text_of(row, "node"),
        hostname=text_of(row, "hostname"),
        pid=integer_of(row, "pid"),
        gpus=[str(gpu) for gpu in _list(row, "gpus")],
    )


def deployments(tables: Tables) -> list[DeploymentRow]:
    """Every deployment of every application that is not deleted; an application without any is one row of its own."""
    found = []
    for key, row in tables.rows("serve").items():
        if row.get("status") == "DELETED":
            continue
        parts = list(_deployments_of(row))
        found += [_deployment(key, row, name, part) for name, part in parts or [("", {})]]
    return found


def _deployments_of(row: Row) -> Iterator[tuple[str, Row]]:
    parts = row.get("deployments")
    for name, part in (parts if isinstance(parts, dict) else {}).items():
        if isinstance(part, dict):
            yield str(name), part


def _deployment(app: str, app_row: Row, name: str, row: Row) -> DeploymentRow:
    replicas = [_replica(replica) for replica in _records(row, "replicas")]
    counted = max(1, sum(replica.qps > 0 for replica in replicas))
    decisions = _records(row, "decisions")[-DECISIONS_MAX:]
    return DeploymentRow(
        app=text_of(app_row, "name") or app,
        app_status=text_of(app_row, "status"),
        route_prefix=text_of(app_row, "route_prefix"),
        name=name,
        status=text_of(row, "status"),
        message=text_of(row, "message", length_max=ERROR_LENGTH_MAX)
        or text_of(app_row, "message", length_max=ERROR_LENGTH_MAX),
        is_ingress=bool(row.get("is_ingress", False)),
        replicas_wanted=integer_of(row, "target_num_replicas"),
        queued=integer_of(row, "queued"),
        requests=sum(integer_of(replica, "requests") for replica in _records(row, "replicas")),
        errors=sum(replica.errors for replica in replicas),
        qps=round(sum(replica.qps for replica in replicas), 1),
        p50_ms=round(sum(replica.p50_ms for replica in replicas) / counted, 2),
        p95_ms=max((replica.p95_ms for replica in replicas), default=0.0),
        p99_ms=max((replica.p99_ms for replica in replicas), default=0.0),
        decisions=[
            f"{integer_of(decision, 'before')} → {integer_of(decision, 'after')}: {text_of(decision, 'reason')}"
            for decision in decisions
        ],
        replicas=replicas[:REPLICAS_MAX],
    )


def _replica(row: Row) -> ReplicaRow:
    return ReplicaRow(
        replica_id=text_of(row, "replica_id"),
        state=text_of(row, "state"),
        pid=integer_of(row, "pid"),
        node_id=text_of(row, "node_id"),
        ongoing=integer_of(row, "ongoing"),
        errors=integer_of(row, "errors"),
        qps=round(float(number_of(row, "qps")), 1),
        p50_ms=round(float(number_of(row, "p50_ms")), 2),
        p95_ms=round(float(number_of(row, "p95_ms")), 2),
        p99_ms=round(float(number_of(row, "p99_ms")), 2),
    )


def _list(row: Row, name: str) -> list[Any]:
    found = row.get(name)
    return list(found) if isinstance(found, (list, tuple)) else []


def _records(row: Row, name: str) -> list[Row]:
    return [record for record in _list(row, name) if isinstance(record, dict)]
