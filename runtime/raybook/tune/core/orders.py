"""Orders: what a scheduler wants done to trials other than by answering the one that reported.

A scheduler has no controller; it leaves orders, and the controller takes and obeys them after each call.
Invariant: an order names trials the scheduler was told of; one that has become impossible is dropped, and the trial's
story says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class StopTrial(msgspec.Struct, frozen=True):
    """End a trial that waits, or one that runs at its next report."""

    trial_id: str
    note: str = ""


class Exploit(msgspec.Struct, frozen=True):
    """Once the trial is paused, let it go on with config: from source's latest checkpoint, or its own if None."""

    trial_id: str
    source: str | None
    config: dict[str, Any]
    note: str = ""


class Resize(msgspec.Struct, frozen=True):
    """Let the trial go on with other resources from its next launch. request: a dict or a placement group factory."""

    trial_id: str
    request: Any


class WriteFile(msgspec.Struct, frozen=True):
    """Keep a text of the scheduler's, such as its log of mutations, in the run's folder."""

    name: str
    text: str


Order = StopTrial | Exploit | Resize | WriteFile


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of config in which no nested dict or list is shared with it; the leaves are."""

    def copied(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: copied(inner) for key, inner in value.items()}
        return [copied(inner) for inner in value] if type(value) is list else value

    return {key: copied(value) for key, value in config.items()}
