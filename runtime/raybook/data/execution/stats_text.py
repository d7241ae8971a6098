"""Statistics of a run as text."""

from __future__ import annotations

from collections.abc import Sequence

from raybook.data.execution.executor import Executor
from raybook.data.execution.operator import InputOperator


def stats_text(executor: Executor) -> str:
    """A paragraph for each operator, and the whole."""
    parts = []
    number = 0
    for index, operator in enumerate(executor.operators):
        if isinstance(operator, InputOperator):
            continue
        number += 1
        stats = operator.stats
        lasted = (stats.ended_at or 0) - (stats.started_at or 0) if stats.started_at is not None else 0.0
        lines = [
            f"Operator {number} {operator.name}: {stats.tasks_done} tasks executed, {stats.blocks} blocks produced in "
            f"{lasted:.2f}s"
        ]
        if stats.blocks:
            lines += [
                f"* Remote wall time: {_spread(stats.block_walls, 's')}, {stats.wall_s:.2f}s total",
                f"* Remote cpu time: {stats.cpu_s:.2f}s total",
                f"* Output num rows per block: {_spread(stats.block_rows)}, {stats.rows} total",
                f"* Output size bytes per block: {_spread(stats.block_bytes)}, {stats.bytes} total",
                f"* Tasks per node: {len(stats.nodes)} nodes used",
            ]
            if lasted > 0:
                lines.append(f"* Throughput: {stats.rows / lasted:,.0f} rows/s")
        if stats.tasks_failed:
            lines.append(f"* Failed tasks left out: {stats.tasks_failed}")
        held = executor.scheduler.explanation(index)
        if held:
            lines.append(f"* Held back by: {held}")
        parts.append("\n".join(lines))
    parts.append(f"Dataset execution time: {executor.wall_s:.2f}s")
    return "\n\n".join(parts) + "\n"


def _spread(values: Sequence[float], unit: str = "") -> str:
    if not values:
        return "none"
    form = "{:.3f}" if unit else "{:.0f}"
    low, high, mean = min(values), max(values), sum(values) / len(values)
    return ", ".join(
        f"{form.format(value)}{unit} {word}" for value, word in ((low, "min"), (high, "max"), (mean, "mean"))
    )
