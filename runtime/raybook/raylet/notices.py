"""Notices: what a node has to tell that is no state of anything: a worker that died, an environment that was made.

They are facts, so the event table keeps the latest of them, and the state API lists them as Ray's cluster events and
runtime environments.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

from raybook.base.environments import as_user_dict, environment_of, short_name
from raybook.base.facts import Fact
from raybook.io.clock import anchored_clock

ERROR = "ERROR"


class NoticeBoard:
    """Of one node. publish: sends facts to the event table."""

    def __init__(self, node_id: str, publish: Callable[[list[Fact]], None]) -> None:
        self._node_id = node_id
        self._publish = publish
        self._numbers = itertools.count()
        self._now_ms = anchored_clock()

    def event(self, severity: str, source: str, text: str, **fields: Any) -> None:
        """Something happened. source: which part of the runtime says so."""
        key = f"{self._node_id[:12]}-{next(self._numbers):08d}"
        row = {
            "event_id": key,
            "severity": severity,
            "source_type": source,
            "message": text,
            "time_ms": self._now_ms(),
            "node_id": self._node_id,
            "custom_fields": fields,
        }
        self._publish([Fact("cluster_event", key, row)])

    def environment(self, key: str, took_ms: int, error: str) -> None:
        """A runtime environment was made, or could not be. key: its record."""
        row = {
            "runtime_env": json.loads(json.dumps(as_user_dict(environment_of(key)))),
            "success": not error,
            "creation_time_ms": took_ms,
            "node_id": self._node_id,
            "error": error,
        }
        self._publish([Fact("runtime_env", f"{self._node_id[:12]}-{short_name(key)}", row)])
        if error:
            self.event(ERROR, "RUNTIME_ENV", error)
