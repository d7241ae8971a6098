"""Facts: what happened, as rows for whoever looks. The one vocabulary of panels, the state API and the timeline.

A fact is (kind, key, row): ``row`` is a plain dict of JSON-able values, or None when the thing is gone. Later facts
about the same key replace earlier ones, so losing a middle one loses nothing. Kinds and their fields:

    "node"        node_id alive resources_total resources_available address pid cpu_percent memory_used_bytes
    "task_group"  (key: function name) name pending running finished failed cancelled mean_us
    "task"        task_id name state worker_pid node_id submitted_ms started_ms ended_ms error cell
                  (bounded: recent ones, and the oldest that are not over)
    "actor"       actor_id class_name name state pid node_id restarts calls_pending calls_done
    "store"       (key: node id) used_bytes capacity_bytes objects
    "object"      object_id size_bytes owner_pid name   (the largest only)
    "autoscaler"  updated_ms active idle pending failures decisions unmet bounds notes trouble   (one row)
    "placement_group"  group_id name state strategy bundles nodes waiting
    "runtime_env"  node_id runtime_env success creation_time_ms error
    "cluster_event"  event_id severity source_type message time_ms node_id custom_fields
    "code"        (key: actor id) actor_id stale   (what in it is older than in the notebook that made it; else no row)
    "progress"    (key: of the bar) desc done total unit pid node_id task_id name state updated_ms   (of tqdm_ray)
    "trial", "experiment"  written by Tune
    "log"         (key: sequence) source pid name line
Times are milliseconds since the epoch.
"""

from __future__ import annotations

from typing import Any

import msgspec

FACT_SCHEMA_VERSION = 1

Row = dict[str, Any]

TASK_PENDING = "PENDING"
TASK_PENDING_ARGS = "PENDING_ARGS_AVAIL"
TASK_PENDING_NODE = "PENDING_NODE_ASSIGNMENT"
TASK_SUBMITTED = "SUBMITTED_TO_WORKER"
TASK_RUNNING = "RUNNING"
TASK_FINISHED = "FINISHED"
TASK_FAILED = "FAILED"
TASK_CANCELLED = "CANCELLED"

ACTOR_PENDING = "PENDING_CREATION"
ACTOR_ALIVE = "ALIVE"
ACTOR_RESTARTING = "RESTARTING"
ACTOR_DEAD = "DEAD"

GROUP_PENDING = "PENDING"
GROUP_PREPARING = "PREPARING"
GROUP_CREATED = "CREATED"
GROUP_RESCHEDULING = "RESCHEDULING"
GROUP_REMOVED = "REMOVED"


class Fact(msgspec.Struct, array_like=True, gc=False):
    """One row of one kind. ``row`` None means: forget this key."""

    kind: str
    key: str
    row: Row | None


class FactDelta(msgspec.Struct, array_like=True):
    """Everything that changed after ``since``; a whole snapshot when ``since`` is 0 (``reset`` true)."""

    since: int
    version: int
    facts: list[Fact]
    reset: bool = False
