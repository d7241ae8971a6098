"""Progress bars of tasks and actors: those that move, and the few that ended last. Pure.

Their records: raybook/experimental/tqdm_ray.py (kind "progress"). A bar that nobody closed is over with its task.
"""

from __future__ import annotations

from collections.abc import Mapping

from raybook.base.facts import Row
from raybook.observe.fields import number_of, text_of
from raybook.observe.mirror import Tables
from raybook.observe.schema import ProgressRow

RUNNING_MAX = 12
ENDED_MAX = 3
OVER = frozenset({"FINISHED", "FAILED", "CANCELLED"})


def progress_bars(tables: Tables, rates: Mapping[str, float]) -> tuple[list[ProgressRow], int]:
    """The bars in the order in which they began, and how many more move that are not among them."""
    tasks = tables.rows("task")
    bars = [_bar(key, row, tasks, rates) for key, row in tables.rows("progress").items()]
    running = [bar for bar in bars if not bar.over]
    ended = [bar for bar in bars if bar.over]
    shown = {bar.progress_id for bar in [*running[:RUNNING_MAX], *ended[-ENDED_MAX:]]}
    return [bar for bar in bars if bar.progress_id in shown], max(0, len(running) - RUNNING_MAX)


def _bar(key: str, row: Row, tasks: Mapping[str, Row], rates: Mapping[str, float]) -> ProgressRow:
    task = tasks.get(text_of(row, "task_id"), {})
    return ProgressRow(
        progress_id=key,
        name=text_of(row, "desc", "name") or "progress",
        done=float(number_of(row, "done")),
        total=float(number_of(row, "total")),
        unit=text_of(row, "unit"),
        pid=int(number_of(row, "pid")),
        over=row.get("state") == "FINISHED" or task.get("state") in OVER,
        rate_per_s=round(rates.get("progress:" + key, 0.0), 1),
    )
