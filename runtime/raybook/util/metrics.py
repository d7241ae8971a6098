"""Metrics: numbers that tasks and actors count, under Prometheus' three kinds.

Each process sums up its own and publishes the sums as facts of kind "metric" (key: name, tags and process), all that
changed together, at most every ``PUBLISH_S``. A reader adds up counters and histograms of all processes, and takes
gauges apart by process. No scrape endpoint serves them yet: they are seen by whoever reads the facts. What a process
counted in the last ``PUBLISH_S`` before it was killed is lost; an orderly end publishes it.
Invariants: metrics of one name are one metric in a process and session, however many objects name it; sums only grow; a
row is whole whenever it is published.

A row: name type description tags pid value, and for a histogram also count, boundaries and buckets (how many values
were at most as large as each boundary, cumulated as Prometheus has it; the last counts all).
"""

from __future__ import annotations

import atexit
import bisect
import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from raybook.api import get_runtime_context, publish_fact
from raybook.api.context import current_runtime

PUBLISH_S = 0.25
SESSION_KEY = "metrics"
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")

Tags = dict[str, str]


class Registry:
    """The sums of one process and session."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, ...], dict[str, Any]] = {}
        """By name and values of tags."""
        self._changed: set[tuple[str, ...]] = set()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._published_s = 0.0
        atexit.register(self._publish)

    def update(self, metric: Metric, values: tuple[str, ...], change: Callable[[dict[str, Any]], None]) -> None:
        """Apply ``change`` to a series' row, and publish it now or when the interval is over."""
        if metric._is_discarded:
            return
        key = (metric._name, *values)
        with self._lock:
            row = self._rows.get(key)
            if row is None:
                row = self._rows[key] = metric._new_row(values)
            change(row)
            self._changed.add(key)
            if self._timer is not None:
                return
            wait_s = self._published_s + PUBLISH_S - time.monotonic()
            if wait_s > 0:
                self._timer = threading.Timer(wait_s, self._publish)
                self._timer.daemon = True
                self._timer.start()
                return
        self._publish()

    def _publish(self) -> None:
        if current_runtime.engine is None or current_runtime.session.get(SESSION_KEY) is not self:
            return
        with self._lock:
            self._timer = None
            self._published_s = time.monotonic()
            rows = {key: dict(self._rows[key]) for key in self._changed}
            self._changed.clear()
        worker_id = get_runtime_context().get_worker_id()
        for key, row in rows.items():
            publish_fact("metric", "#".join([*key, worker_id]), row)


def _registry() -> Registry:
    session = current_runtime.session
    # One look-up and one atomic setdefault: of two threads that count a session's first numbers, one makes it.
    return session.get(SESSION_KEY) or session.setdefault(SESSION_KEY, Registry())


class Metric:
    """What the three kinds share: a name, the keys of its tags, and when it is published."""

    type = ""

    def __init__(self, name: str, description: str = "", tag_keys: Sequence[str] | None = None) -> None:
        if not name:
            raise ValueError("Empty name is not allowed. Please provide a metric name.")
        self._is_discarded = not NAME.fullmatch(name)
        if self._is_discarded:
            warnings.warn(
                f"Invalid metric name: {name}. Metric will be discarded: what it counts is published nowhere. Use letters, "
                "digits, _ and :, and no digit at the front.",
                UserWarning,
                stacklevel=2,
            )
        if tag_keys is not None and not isinstance(tag_keys, (tuple, list)):
            raise TypeError(f"tag_keys should be a tuple type, got: {type(tag_keys)}")
        for key in tag_keys or ():
            if not isinstance(key, str):
                raise TypeError(f"Tag keys must be str, got {type(key)}.")
        self._name = name
        self._description = description
        self._tag_keys = tuple(tag_keys or ())
        self._default_tags: Tags = {}

    def set_default_tags(self, default_tags: Tags) -> Metric:
        """Values of tags for calls that do not give them. Returns the metric."""
        for key, value in default_tags.items():
            self._check_tag(key, value)
        self._default_tags = dict(default_tags)
        return self

    @property
    def info(self) -> dict[str, Any]:
        """Name, description, tag keys and default tags."""
        return {
            "name": self._name,
            "description": self._description,
            "tag_keys": self._tag_keys,
            "default_tags": self._default_tags,
        }

    def _check_tag(self, key: str, value: Any) -> None:
        if key not in self._tag_keys:
            raise ValueError(f"Unrecognized tag key {key}. The tag keys of {self._name} are {self._tag_keys}.")
        if not isinstance(value, str):
            raise TypeError(f"Tag values must be str, got {type(value)}.")

    def _tag_values(self, tags: Tags | None) -> tuple[str, ...]:
        if tags is not None and not isinstance(tags, dict):
            raise TypeError(f"tags must be a dict, got {type(tags)}.")
        for key, value in (tags or {}).items():
            # One that was not declared is dropped, as Ray drops it: code that runs there must run here.
            if key in self._tag_keys:
                self._check_tag(key, value)
        final = {**self._default_tags, **(tags or {})}
        missing = [key for key in self._tag_keys if key not in final]
        if missing:
            raise ValueError(f"Missing value for tag key(s): {','.join(missing)}.")
        return tuple(final[key] for key in self._tag_keys)

    def _new_row(self, values: tuple[str, ...]) -> dict[str, Any]:
        return {
            "name": self._name,
            "type": self.type,
            "description": self._description,
            "tags": dict(zip(self._tag_keys, values, strict=True)),
            "pid": os.getpid(),
            "value": 0.0,
        }

    def __getstate__(self) -> dict[str, Any]:
        return {"args": self._arguments(), "default_tags": self._default_tags}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Only the description travels: each process counts for itself.
        type(self).__init__(self, *state["args"])
        self._default_tags = state["default_tags"]

    def _arguments(self) -> tuple:
        return (self._name, self._description, self._tag_keys)


class Counter(Metric):
    """A number that grows."""

    type = "counter"

    def inc(self, value: float = 1.0, tags: Tags | None = None) -> None:
        """Add ``value``, which must be positive."""
        _check_number(value)
        if value <= 0:
            raise ValueError(f"value must be >0, got {value}")

        def add(row: dict[str, Any]) -> None:
            row["value"] += value

        _registry().update(self, self._tag_values(tags), add)


class Gauge(Metric):
    """A number that goes up and down."""

    type = "gauge"

    def set(self, value: float | None, tags: Tags | None = None) -> None:
        """The number is ``value`` now; None leaves it as it is."""
        if value is None:
            return
        _check_number(value)
        _registry().update(self, self._tag_values(tags), lambda row: row.update(value=float(value)))


class Histogram(Metric):
    """How numbers are spread over the ranges between ``boundaries``."""

    type = "histogram"

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: Sequence[float] | None = None,
        tag_keys: Sequence[str] | None = None,
    ) -> None:
        if not boundaries:
            raise ValueError(
                "boundaries argument should be provided when using the Histogram class. e.g., "
                'Histogram("name", boundaries=[1.0, 2.0])'
            )
        for index, boundary in enumerate(boundaries):
            if boundary <= 0:
                raise ValueError(f"Invalid `boundaries` argument at index {index}, {boundaries}. Use positive values.")
        if sorted(boundaries) != list(boundaries):
            raise ValueError(f"Invalid `boundaries` argument: {list(boundaries)} is not in increasing order.")
        super().__init__(name, description, tag_keys)
        self.boundaries = list(boundaries)

    @property
    def info(self) -> dict[str, Any]:
        """As for other metrics, and the boundaries."""
        return {**super().info, "boundaries": self.boundaries}

    def observe(self, value: float, tags: Tags | None = None) -> None:
        """Count one number."""
        _check_number(value)
        first = bisect.bisect_left(self.boundaries, value)

        def add(row: dict[str, Any]) -> None:
            row["value"] += value
            row["count"] += 1
            row["buckets"] = [count + (at >= first) for at, count in enumerate(row["buckets"])]

        _registry().update(self, self._tag_values(tags), add)

    def _new_row(self, values: tuple[str, ...]) -> dict[str, Any]:
        row = super()._new_row(values)
        row.update(count=0, boundaries=self.boundaries, buckets=[0] * (len(self.boundaries) + 1))
        return row

    def _arguments(self) -> tuple:
        return (self._name, self._description, self.boundaries, self._tag_keys)


def _check_number(value: Any) -> None:
    if not isinstance(value, (int, float)):
        raise TypeError(f"value must be int or float, got {type(value)}.")
