"""The view-model: what a panel shows, as records. One schema for text, HTML, widgets and the browser.

A view is built from facts by ``observe/view`` and read by renderers, which only lay it out: sorting, caps and sums are
decided before it gets here. Renderers in other languages are generated from ``json_schema()``; run
``python -m raybook.observe labextension/`` after a change, and raise VIEW_SCHEMA_VERSION when a reader of the old
version would misread the new one. Names hold what users typed: renderers must escape them. On the wire a field that
equals its default is left out.
"""

from __future__ import annotations

from typing import Any

import msgspec

VIEW_SCHEMA_VERSION = 1


class TaskGroupRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """All tasks of one function. ``rate_per_s``: ended tasks per second over the last seconds, 0 when idle."""

    name: str
    pending: int = 0
    running: int = 0
    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    mean_us: float = 0.0
    rate_per_s: float = 0.0

    @property
    def total(self) -> int:
        """Every task of this function that was ever submitted."""
        return self.pending + self.running + self.finished + self.failed + self.cancelled

    @property
    def ended(self) -> int:
        """Tasks that will not change any more."""
        return self.finished + self.failed + self.cancelled


class TaskRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One recent task. ``duration_ms``: running time so far, or in the end; None before it started."""

    task_id: str
    name: str
    state: str
    worker_pid: int = 0
    node_id: str = ""
    duration_ms: float | None = None
    error: str = ""
    started_ms: float = 0.0
    """Since the epoch, by the clock of the machine that ran it; 0 before it started."""
    ended_ms: float = 0.0
    cell: str = ""
    """The notebook cell that submitted it; "" when nobody said."""


class ActorRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One actor. ``state``: PENDING_CREATION, ALIVE, RESTARTING or DEAD. Calls are None when nobody counts
    them."""

    actor_id: str
    class_name: str
    state: str
    name: str = ""
    pid: int = 0
    node_id: str = ""
    restarts: int = 0
    calls_pending: int | None = None
    calls_done: int | None = None
    waiting: str = ""
    """Why it has not been placed yet."""
    rate_per_s: float = 0.0
    cell: str = ""
    stale: str = ""
    """What is older in it than in the notebook: "runs v2 of step, cell 7 has v3"."""
    death: str = ""
    resources: dict[str, float] = {}


class ProgressRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One progress bar of a task. ``total`` 0: not known. ``over``: it will not move any more."""

    progress_id: str
    name: str
    done: float = 0.0
    total: float = 0.0
    unit: str = ""
    pid: int = 0
    over: bool = False
    rate_per_s: float = 0.0


class StoreRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """The object store of one node."""

    node_id: str
    used_bytes: int = 0
    capacity_bytes: int = 0
    objects: int = 0


class ObjectRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of the largest objects."""

    object_id: str
    size_bytes: int = 0
    owner_pid: int = 0
    name: str = ""
    kind: str = ""
    references: int = 0
    """Names that the owner's process holds on it."""
    borrowers: int = 0
    holders: list[str] = []
    """Who keeps it alive, in words: "df (cell 3)", "Out[12]"."""
    cell: str = ""


class ResourceRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One resource, summed over the living nodes. Amounts as users write them: CPUs, GPUs, bytes of memory."""

    name: str
    used: float
    total: float


class GpuRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One GPU of a node, or a slice of one. ``utilization``: 0 to 1, as the driver measures it."""

    index: str
    utilization: float = 0.0
    memory_used_bytes: int = 0
    memory_total_bytes: int = 0


class HolderRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who holds resources of a node: an actor, or a trial through its actor."""

    name: str
    actor_id: str = ""
    cell: str = ""
    resources: dict[str, float] = {}


class NodeRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One node."""

    node_id: str
    alive: bool = True
    address: str = ""
    pid: int = 0
    resources: list[ResourceRow] = []
    cpu_percent: float = 0.0
    memory_used_bytes: int = 0
    draining: str = ""
    """Why it takes no more work; "" while it does."""
    left: bool = False
    """It is not alive because it was drained: nothing was lost with it."""
    hostname: str = ""
    is_head: bool = False
    death: str = ""
    gpus: list[GpuRow] = []
    holders: list[HolderRow] = []


class TrialRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One trial. ``history``: the metric over the iterations, oldest first, thinned to at most 60 points.
    ``step_max`` 0: nobody said how long it will be."""

    trial_id: str
    state: str
    name: str = ""
    """What its sweep calls it; "" when it has only its id."""
    value: float | None = None
    step: int = 0
    step_max: int = 0
    history: list[float] = []
    best: bool = False
    parameters: str = ""
    error: str = ""
    seconds: float = 0.0
    experiment_id: str = ""
    config: dict[str, float | str | bool | None] = {}
    """The parameters that differ between trials, as they are or as short text."""
    resources: dict[str, float] = {}

    @property
    def label(self) -> str:
        """What people call it."""
        return self.name or self.trial_id


class ExperimentRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One sweep with its trials. ``trials_total`` 0: open-ended. ``best_value`` is the best trial's value."""

    experiment_id: str
    name: str
    state: str = "RUNNING"
    metric: str = ""
    mode: str = "max"
    trials_total: int = 0
    trials_done: int = 0
    trials_running: int = 0
    trials_failed: int = 0
    trials_stopped: int = 0
    best_trial_id: str = ""
    best_value: float | None = None
    best_parameters: str = ""
    trials: list[TrialRow] = []
    trials_hidden: int = 0
    seconds: float = 0.0


class ScalingRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """The autoscaler, a line each. bounds: each node type with its count and limits. pending: nodes on their way.
    decision: the last one, with its reason. unmet: why what waits gets no node. failures: the last ones. notes: which nodes
    go when."""

    bounds: list[str] = []
    pending: list[str] = []
    decision: str = ""
    unmet: list[str] = []
    failures: list[str] = []
    notes: list[str] = []


class LogRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line that a worker printed. ``key`` orders the lines of a node."""

    key: str
    line: str
    source: str = "stdout"
    level: str = ""
    """ERROR, WARNING, INFO or DEBUG, as the line itself says; "" when it says nothing."""
    pid: int = 0
    name: str = ""
    node_id: str = ""
    cell: str = ""


class TrainWorkerRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One worker of a training run. ``gpus``: the ids of those it has."""

    rank: int
    node_id: str = ""
    hostname: str = ""
    pid: int = 0
    gpus: list[str] = []


class TrainRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One training run. ``history``: its metric over the reports, thinned to 60 points. ``step_ms``: between the last two
    reports. Times since the epoch; 0 before they come."""

    run_id: str
    name: str
    state: str
    error: str = ""
    attempt: int = 0
    workers_wanted: int = 0
    workers: list[TrainWorkerRow] = []
    reports: int = 0
    step_ms: float = 0.0
    metric: str = ""
    value: float | None = None
    metrics: dict[str, float] = {}
    history: list[float] = []
    checkpoints: list[str] = []
    latest_checkpoint: str = ""
    started_ms: float = 0.0
    ended_ms: float = 0.0


class ReplicaRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One replica. Figures are of the last seconds."""

    replica_id: str
    state: str
    pid: int = 0
    node_id: str = ""
    ongoing: int = 0
    errors: int = 0
    qps: float = 0.0
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0


class DeploymentRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One deployment of an application, with the figures of its replicas together: p50 is their mean, p95 and p99 are the
    worst replica's. ``decisions``: the last ones of its autoscaling, with their reasons."""

    app: str
    app_status: str
    name: str
    status: str
    route_prefix: str = ""
    message: str = ""
    is_ingress: bool = False
    replicas_wanted: int = 0
    queued: int = 0
    requests: int = 0
    errors: int = 0
    qps: float = 0.0
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0
    decisions: list[str] = []
    replicas: list[ReplicaRow] = []


class View(msgspec.Struct, frozen=True):
    """Everything the panels of one cluster show. ``facts_version`` grows with every change of the facts.
    The ``*_hidden`` numbers say how many rows the caps left out; sums include them. ``moving``: a rate in it is not
    zero, so a view built later from the same facts may differ."""

    schema_version: int = VIEW_SCHEMA_VERSION
    facts_version: int = 0
    cluster_name: str = ""
    cluster_state: str = "RUNNING"
    resources: list[ResourceRow] = []
    nodes: list[NodeRow] = []
    nodes_hidden: int = 0
    task_groups: list[TaskGroupRow] = []
    task_groups_hidden: int = 0
    tasks_total: TaskGroupRow = TaskGroupRow(name="all")
    tasks: list[TaskRow] = []
    actors: list[ActorRow] = []
    actors_hidden: int = 0
    actors_by_state: dict[str, int] = {}
    stores: list[StoreRow] = []
    store_total: StoreRow = StoreRow(node_id="all")
    objects: list[ObjectRow] = []
    experiments: list[ExperimentRow] = []
    moving: bool = False
    scaling: ScalingRow | None = None
    progress: list[ProgressRow] = []
    progress_hidden: int = 0

    def with_only_experiment(self, experiment_id: str) -> View:
        """The same view with one sweep in it (none when it is unknown)."""
        kept = [experiment for experiment in self.experiments if experiment.experiment_id == experiment_id]
        return msgspec.structs.replace(self, experiments=kept)

    def without_trials_of(self, experiment_ids: frozenset[str]) -> View:
        """The same view with only the sums of these sweeps: their trials are shown elsewhere."""
        if not experiment_ids:
            return self
        experiments = [
            msgspec.structs.replace(experiment, trials=[], trials_hidden=0)
            if experiment.experiment_id in experiment_ids
            else experiment
            for experiment in self.experiments
        ]
        return msgspec.structs.replace(self, experiments=experiments)


def json_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of ``View``, with the version as an annotation."""
    roots = [View, LogRow, TrainRow, DeploymentRow]
    (reference, *_), components = msgspec.json.schema_components(roots, ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "raybook view-model",
        "x-version": VIEW_SCHEMA_VERSION,
        **reference,
        "$defs": components,
    }
