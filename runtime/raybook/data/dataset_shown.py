"""How a dataset shows itself: repr, HTML for notebooks, `explain`, `stats`. None of it runs the plan."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from raybook.api import get
from raybook.data.batches import to_rows
from raybook.data.block import Bundle
from raybook.data.core.optimizer import known_row_count, optimize
from raybook.data.core.plan import InputData, Node, Read, render
from raybook.data.dataset_base import DatasetBase
from raybook.data.execution.operator import Operator
from raybook.data.execution.planner import Planner
from raybook.data.execution.stats_text import stats_text
from raybook.data.shown_rows import rows_to_show, table_text
from raybook.data.stats import DatasetSummary, summarize
from raybook.exceptions import RayError

BLOCK_TIMEOUT_S = 30.0
"""How long `repr` waits for a block of a materialized dataset, which may be on another node, or on disk."""


class DatasetShown(DatasetBase):
    """Part of Dataset."""

    def __repr__(self) -> str:
        """Where the columns are known, a table of them, with the first and last rows of a materialized dataset; else the
        steps, and what they begin with."""
        known = self._known_schema()
        if known is None or not known.names:
            return self._steps_text()
        bundles = self._plan.bundles if isinstance(self._plan, InputData) else None
        rows = None if bundles is None else _ends_of(bundles)
        return table_text(known.names, known.types, self._shown_count(), self._name, rows)

    __str__ = __repr__

    def _steps_text(self) -> str:
        source = _spine(self._plan)[-1]
        begun = self._derive(source)
        known = begun._known_schema()
        if known is None:
            fields = "Unknown schema"
        else:
            fields = "{" + ", ".join(f"{n}: {t}" for n, t in zip(known.names, known.types, strict=True)) + "}"
        rows = begun._shown_count()
        words = [f"name={self._name}"] if self._name else []
        if isinstance(self._plan, InputData):
            words.append(f"num_blocks={len(self._plan.bundles)}")
        words += [f"num_rows={rows if rows is not None else '?'}", f"schema={fields}"]
        title = "MaterializedDataset" if isinstance(self._plan, InputData) else "Dataset"
        lines = [node.name for node in _spine(self._plan) if not isinstance(node, (Read, InputData))]
        lines.append(f"{title}({', '.join(words)})")
        return "\n".join("   " * (depth - 1) + "+- " * bool(depth) + line for depth, line in enumerate(lines))

    def _shown_count(self) -> int | None:
        if self._row_count is not None:
            return self._row_count
        return known_row_count(self._plan, _leaf_rows)

    def _repr_html_(self) -> str:
        """The schema and the plan as a small table; the first rows too where they are there already."""
        known = self._known_schema()
        rows = self._shown_count()
        title = "MaterializedDataset" if isinstance(self._plan, InputData) else "Dataset"
        parts = [f"<b>{title}</b>"]
        if self._name:
            parts.append(html.escape(self._name))
        parts.append(f"{rows:,} rows" if rows is not None else "number of rows not known before it runs")
        if isinstance(self._plan, InputData):
            size = sum(bundle.size_bytes for bundle in self._plan.bundles)
            parts.append(f"{len(self._plan.bundles)} blocks, {size / 1e6:,.1f} MB")
        text = f"<div>{' · '.join(parts)}</div>"
        if known is not None:
            cells = "".join(
                f"<tr><td style='text-align:left'>{html.escape(name)}</td>"
                f"<td style='text-align:left'>{html.escape(str(kind))}</td></tr>"
                for name, kind in zip(known.names, known.types, strict=True)
            )
            text += f"<table><tr><th>column</th><th>type</th></tr>{cells}</table>"
        else:
            text += "<div><i>The columns are not known before it runs: ds.schema() runs the first block.</i></div>"
        if not isinstance(self._plan, InputData):
            text += f"<pre>{html.escape(render(self._plan))}</pre>"
        return text

    def explain(self) -> None:
        """Print the plan as it was written, as it is optimised, the operators of its steps, and those that would run, with
        several steps in one task. Needs a cluster for the operators; starts one."""
        best = optimize(self._plan)
        print("\n-------- Logical Plan --------")
        print(render(self._plan, with_kinds=True))
        print("\n-------- Logical Plan (Optimized) --------")
        print(render(best, with_kinds=True))
        operators = Planner(self._context, fuses=False).plan(best)
        print("\n-------- Physical Plan --------")
        print(_render_operators(operators[-1]))
        operators = Planner(self._context).plan(best)
        print("\n-------- Physical Plan (Optimized) --------")
        print(_render_operators(operators[-1]))

    def stats(self) -> str:
        """What the last run has done: for each operator its tasks, rows, bytes and seconds, and what held it back."""
        if self._executor is None:
            return ""
        return stats_text(self._executor)

    def summary(self, columns: list[str] | None = None, override_dtype_agg_mapping: Any = None) -> DatasetSummary:
        """Count, mean, deviation, extremes, median and missing values of numbers, the most frequent of other values. Runs
        the plan. override_dtype_agg_mapping: by `DataType` or `TypeCategory`, a function from a column's name to its
        aggregations."""
        return summarize(self, columns, override_dtype_agg_mapping)


def _spine(node: Node) -> list[Node]:
    """The plan's nodes along the first inputs."""
    found = [node]
    while found[-1].inputs:
        found.append(found[-1].inputs[0])
    return found


def _ends_of(bundles: Sequence[Bundle]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of blocks that `repr` shows: the first ones, and the last ones. None where blocks have been lost."""
    first, last = rows_to_show(sum(bundle.num_rows for bundle in bundles))
    try:
        head = _rows_from(bundles, first)
        tail = _rows_from([*reversed(bundles)], last, from_end=True)
    except RayError:
        return [], []
    return head, tail


def _rows_from(bundles: Sequence[Bundle], count: int, from_end: bool = False) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for bundle in bundles:
        wanted = min(count - len(rows), bundle.num_rows)
        if wanted > 0:
            block = get(bundle.ref, timeout=BLOCK_TIMEOUT_S)
            part = to_rows(block.slice(block.num_rows - wanted if from_end else 0, wanted))
            rows = part + rows if from_end else rows + part
    return rows


def _leaf_rows(node: Node) -> int | None:
    if isinstance(node, InputData):
        counts = [bundle.metadata.num_rows for bundle in node.bundles]
        return None if None in counts else sum(counts)
    return node.datasource.num_rows() if isinstance(node, Read) else None


def _render_operators(operator: Operator, depth: int = 0) -> str:
    kind = type(operator).__name__.replace("MapOperator", "Map").replace("Operator", "")
    kinds = {"Map": "TaskPoolMapOperator", "ActorPoolMap": "ActorPoolMapOperator", "Exchange": "AllToAllOperator"}
    lead = "" if not depth else "   " * (depth - 1) + "+- "
    lines = [f"{lead}{kinds.get(kind, kind + 'Operator')}[{operator.name}]"]
    if not operator.inputs and kind == "Map":
        lines.append("   " * depth + "+- InputDataBuffer[Input]")
    return "\n".join([*lines, *(_render_operators(one, depth + 1) for one in operator.inputs)])
