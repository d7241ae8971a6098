"""Facts of a run: what a Train panel shows, as plain records.

One fact of kind "train_run" per run, with its workers, the last report and the checkpoints. Makes the records and decides
how often they go out; does not know who reads them.
Invariants: every change of state goes out at once; reports go out at most every INTERVAL_MS, and those held back go with
the next change; a record holds only short plain values.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raybook.ml.core.metrics import flatten, is_number
from raybook.train.core.run_states import ENDED

if TYPE_CHECKING:
    from raybook.ml.checkpoint import Checkpoint
    from raybook.train.callback import TrainRunContext
    from raybook.train.core.checkpoint_book import CheckpointBook
    from raybook.train.worker_group import WorkerGroup

KIND = "train_run"
INTERVAL_MS = 250
METRICS_MAX = 20
HISTORY_MAX = 60
TEXT_MAX = 300
CHECKPOINTS_MAX = 20
WORKERS_MAX = 64

Publish = Callable[[str, str, dict[str, Any]], None]


class RunFacts:
    """Publishes the fact of one run."""

    def __init__(self, publish: Publish, run_id: str, name: str, context: TrainRunContext) -> None:
        self._publish = publish
        self._run_id = run_id
        self._sent_ms = -math.inf
        self._reported_ms: float | None = None
        self._losses: list[float] = []
        self._row: dict[str, Any] = {
            "name": name,
            "state": "INITIALIZING",
            "error": "",
            "attempt": 0,
            "workers_wanted": context.scaling_config.max_workers,
            "workers": [],
            "metrics": {},
            "reports": 0,
            "step_ms": None,
            "metric_name": None,
            "history": [],
            "checkpoints": [],
            "latest_checkpoint": "",
            "started_unix_ms": round(time.time() * 1000),
            "ended_unix_ms": None,
        }

    def state_changed(self, state: str, error: str = "") -> None:
        """The run has entered a state."""
        self._row["state"] = state
        self._row["error"] = error[-TEXT_MAX:]
        if state in ENDED:
            self._row["ended_unix_ms"] = round(time.time() * 1000)
        self._send()

    def group_started(self, group: WorkerGroup, attempt: int) -> None:
        """A group's functions are about to run."""
        self._row["attempt"] = attempt
        self._row["workers"] = [
            {
                "rank": worker.rank.world_rank,
                "node": worker.place.node_id,
                "hostname": worker.place.hostname,
                "pid": worker.place.pid,
                "gpus": list(worker.place.gpu_ids),
            }
            for worker in group.workers[:WORKERS_MAX]
        ]
        self._reported_ms = None
        self._send()

    def reported(self, metrics: dict[str, Any], checkpoint: Checkpoint | None, book: CheckpointBook) -> None:
        """All ranks have reported."""
        now_ms = time.monotonic() * 1000
        if self._reported_ms is not None:
            self._row["step_ms"] = round(now_ms - self._reported_ms, 3)
        self._reported_ms = now_ms
        # As Python's own: numpy's float64 is a float too, and no message carries it.
        numbers = {
            name: float(value) if isinstance(value, float) else value
            for name, value in flatten(metrics).items()
            if is_number(value) and math.isfinite(value)
        }
        self._row["metrics"] = dict(list(numbers.items())[:METRICS_MAX])
        self._row["reports"] = book.reports
        # What people call it: the loss if there is one, else the first number.
        name = self._row["metric_name"] or next((each for each in numbers if "loss" in each), next(iter(numbers), None))
        self._row["metric_name"] = name
        if name in numbers:
            self._losses.append(numbers[name])
            self._losses = self._losses if len(self._losses) <= 2 * HISTORY_MAX else self._losses[::2]
            self._row["history"] = self._losses[-HISTORY_MAX:] if len(self._losses) <= HISTORY_MAX else self._losses
        if checkpoint is not None:
            self._row["latest_checkpoint"] = checkpoint.path
            self._row["checkpoints"] = [entry.name for entry in book.entries()][-CHECKPOINTS_MAX:]
        if now_ms - self._sent_ms >= INTERVAL_MS:
            self._send()

    def _send(self) -> None:
        self._sent_ms = time.monotonic() * 1000
        self._publish(KIND, self._run_id, dict(self._row))
