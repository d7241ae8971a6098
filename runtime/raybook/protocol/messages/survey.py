"""Surveys: what every process of the cluster knows of its own tasks or objects, asked at the moment somebody wants it.

asker ─▶ GCS ─▶ every raylet ─▶ every driver and worker of its node; the answers go back the same way, unmerged.
Nothing is sent, and nothing kept beyond each process's bounded record, while nobody asks.

On the same way goes an order (kind ORDERS): something that a person wants done who has no reference to it, because it is
another process's. Each process does what of it is its own, and its rows say what that was.
"""

from __future__ import annotations

import msgspec

TASKS = "tasks"
OBJECTS = "objects"
FUNCTIONS = "functions"
USAGE = "usage"
"""Processor time and memory of every process, and what GPUs do: of this the raylets know, and no process is asked."""
ORDERS = "orders"
KINDS = (TASKS, OBJECTS, FUNCTIONS, USAGE, ORDERS)


class SurveyQuery(msgspec.Struct, tag=63, array_like=True):
    """raylet → client: tell of what you own, at most ``limit`` rows of each state."""

    survey_id: int
    kind: str
    limit: int
    order: bytes = b""
    """Of ORDERS: a msgpack map with ``verb`` and what belongs to it (``worker/orders``)."""


class SurveyAnswer(msgspec.Struct, tag=64, array_like=True):
    """client → raylet. ``rows``: a msgpack list of maps (see worker/survey). ``running``: ids of tasks whose code runs in
    this process just now, whoever owns them."""

    survey_id: int
    rows: bytes
    running: list[bytes] = []
    left_out: int = 0
    """Rows beyond the limit."""


class ProcessAccount(msgspec.Struct):
    """One process's answer on its way to the asker."""

    worker_id: bytes
    pid: int
    node_id: bytes
    rows: bytes
    running: list[bytes] = []
    left_out: int = 0


class SurveyNode(msgspec.Struct):
    """GCS → raylet."""

    kind: str
    limit: int
    order: bytes = b""


class NodeSurvey(msgspec.Struct):
    """``silent``: pids of processes that did not answer in time (their interpreter is busy)."""

    accounts: list[ProcessAccount]
    silent: list[int] = []


class Survey(msgspec.Struct):
    """asker → GCS: one of ``KINDS``."""

    kind: str
    limit: int = 10_000
    order: bytes = b""


class SurveyReply(msgspec.Struct):
    accounts: list[ProcessAccount]
    silent: list[int] = []
