"""What workers print, on its way to the drivers that the work is for.

worker's log file ─▶ its raylet ─▶ drivers of that node
                                └▶ GCS ─▶ the driver's raylet ─▶ driver, when that is on another node
"""

from __future__ import annotations

import msgspec


class WorkerLine(msgspec.Struct, array_like=True, gc=False):
    """One printed line. ``name``: of the task or actor that printed it, "" when it is not known. ``source``: "out" or
    "err". ``job``: hex id of the job it worked for, "" when that is not known."""

    pid: int
    source: str
    name: str
    line: str
    job: str = ""
    ip: str = ""
    node: str = ""
    """Hex id of the node it ran on."""


class WorkerLines(msgspec.Struct, tag=60, array_like=True):
    """raylet → driver: lines of its workers, in the order in which each printed them."""

    lines: list[WorkerLine]


class FlushOutput(msgspec.Struct, tag=61, array_like=True):
    """driver → raylet: send what has been printed by now, then ``OutputFlushed``."""


class OutputFlushed(msgspec.Struct, tag=62, array_like=True):
    """raylet → driver: everything that workers of this node had printed has been sent."""
