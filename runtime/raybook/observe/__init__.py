"""Looking at a cluster: facts in, views out. Reading order: schema → mirror → view → subscribe → text.

    engine ──FactDelta──▶ Feed (subscribe) ──▶ Mirror ──▶ build_view ──▶ View ──▶ text, HTML, widgets
                                                                          └──▶ PanelStream (panels) ──▶ browser

Public names are those below; they are what panels, magics and the server extension may use.
"""

from raybook.observe.clusters import (
    ClusterRecord,
    Owner,
    cluster_of_kernel,
    find_cluster,
    living_clusters,
    registry_dir,
)
from raybook.observe.format import (
    bytes_pair_text,
    bytes_text,
    count_text,
    duration_text,
    metric_text,
    rate_text,
    shortened,
)
from raybook.observe.history import Curve, Rates
from raybook.observe.mirror import Mirror, Tables
from raybook.observe.panels import PANELS, PanelFilter, PanelState, PanelStream, panel_state, state_of_view
from raybook.observe.replay import Forecast, Run, forecast_text, runs_of, what_if
from raybook.observe.schema import (
    VIEW_SCHEMA_VERSION,
    ActorRow,
    ExperimentRow,
    GpuRow,
    HolderRow,
    LogRow,
    NodeRow,
    ObjectRow,
    ProgressRow,
    ResourceRow,
    ScalingRow,
    StoreRow,
    TaskGroupRow,
    TaskRow,
    TrialRow,
    View,
    json_schema,
)
from raybook.observe.subscribe import FactSource, Feed, WorkerNote
from raybook.observe.text import (
    STATE_WORDS,
    experiment_parts,
    progress_parts,
    resource_text,
    scaling_lines,
    task_parts,
    view_text,
)
from raybook.observe.view import Caps, Label, build_view

__all__ = [
    "PANELS",
    "STATE_WORDS",
    "VIEW_SCHEMA_VERSION",
    "ActorRow",
    "Caps",
    "ClusterRecord",
    "Curve",
    "ExperimentRow",
    "FactSource",
    "Feed",
    "Forecast",
    "GpuRow",
    "HolderRow",
    "Label",
    "LogRow",
    "Mirror",
    "NodeRow",
    "ObjectRow",
    "Owner",
    "PanelFilter",
    "PanelState",
    "PanelStream",
    "ProgressRow",
    "Rates",
    "ResourceRow",
    "Run",
    "ScalingRow",
    "StoreRow",
    "Tables",
    "TaskGroupRow",
    "TaskRow",
    "TrialRow",
    "View",
    "WorkerNote",
    "build_view",
    "bytes_pair_text",
    "bytes_text",
    "cluster_of_kernel",
    "count_text",
    "duration_text",
    "experiment_parts",
    "find_cluster",
    "forecast_text",
    "json_schema",
    "living_clusters",
    "metric_text",
    "panel_state",
    "progress_parts",
    "rate_text",
    "registry_dir",
    "resource_text",
    "runs_of",
    "scaling_lines",
    "shortened",
    "state_of_view",
    "task_parts",
    "view_text",
    "what_if",
]
