"""DAGContext: the settings of compiled graphs. Each has a variable of the environment, read when first asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

PREFIXES = ("RAYBOOK_CGRAPH_", "RAY_CGRAPH_")
TRUE_WORDS = frozenset({"1", "true", "True"})
_VARIABLES = {"read_iteration_timeout": "read_iteration_timeout_s"}


@dataclass
class DAGContext:
    """Times in seconds, -1: without end. Defaults are Ray's.

    submit_timeout: how long ``execute`` may wait for room. get_timeout: for a result. teardown_timeout: for the actors to
    let go. read_iteration_timeout: accepted; raybook's readers are woken and do not poll. buffer_size_bytes: accepted;
    buffers grow by themselves. max_inflight_executions: executions whose results nobody has read.
    max_buffered_results: executions read before their turn. overlap_gpu_communication: accepted, without effect.
    """

    submit_timeout: float = 10
    get_timeout: float = 10
    teardown_timeout: float = 30
    read_iteration_timeout: float = 0.1
    buffer_size_bytes: int = 1_000_000
    max_inflight_executions: int = 10
    max_buffered_results: int = 1000
    overlap_gpu_communication: bool = False

    _current: ClassVar[DAGContext | None] = None

    def __post_init__(self) -> None:
        if self.read_iteration_timeout > self.get_timeout >= 0:
            raise ValueError(
                f"RAY_CGRAPH_read_iteration_timeout_s ({self.read_iteration_timeout}) must be less than or equal to "
                f"RAY_CGRAPH_get_timeout ({self.get_timeout})."
            )

    @staticmethod
    def get_current() -> DAGContext:
        """This process's settings: change its fields before a graph is compiled."""
        if DAGContext._current is None:
            DAGContext._current = DAGContext(**_from_environment(os.environ))
        return DAGContext._current


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Fields named by ``RAYBOOK_CGRAPH_<field>`` or Ray's ``RAY_CGRAPH_<field>``; ValueError for what is no number."""
    values: dict[str, Any] = {}
    for field in fields(DAGContext):
        name = _VARIABLES.get(field.name, field.name)
        for prefix in PREFIXES:
            text = environ.get(prefix + name)
            if text is None:
                continue
            if field.type == "bool":
                values[field.name] = text in TRUE_WORDS
                break
            try:
                values[field.name] = float(text) if field.type == "float" else int(float(text))
            except ValueError:
                raise ValueError(f"The environment variable {prefix}{name} must be a number, got {text!r}.") from None
            break
    return values
