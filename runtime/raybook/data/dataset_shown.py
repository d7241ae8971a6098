"""How a dataset shows itself: repr, HTML for notebooks, `explain`, `stats`. None of it runs the plan."""

from __future__ import annotations

import html
from typing import Any

from raybook.data.core.optimizer import known_row_count, optimize
from raybook.data.core.plan import InputData, Node, Read, render
from raybook.data.dataset_base import DatasetBase
from raybook.data.execution.operator import Operator
from raybook.data.execution.planner import Planner
from raybook.data.execution.stats_text import stats_text
from raybook.data.stats import DatasetSummary, summarize


class DatasetShown(DatasetBase):
    """Part of Dataset."""

    def __repr__(self) -> str:
        known = self._known_schema()
        if known is None:
            fields = "Unknown schema"
        else:
            fields = "{" + ", ".join(f"{n}: {t}" for n, t in zip(known.names, known.types, strict=True)) + "}"
        rows = self._shown_count()
        if isinstance(self._plan, InputData):
            name = "MaterializedDataset"
            return f"{name}(num_blocks={len(self._plan.bundles)}, num_rows={rows}, schema={fields})"
        head = f"name={self._name}, " if self._name else ""
        leaf = f"Dataset({head}num_rows={rows if rows is not None else '?'}, schema={fields})"
        lines = [node.name for node in _spine(self._plan) if not isinstance(node, (Read, InputData))]
        text = ""
        for depth, name in enumerate(lines):
            text += f"{'' if not depth else '   ' * (depth - 1) + '+- '}{name}\n"
        return text + f"{'' if not lines else '   ' * (len(lines) - 1) + '+- '}{leaf}"

    __str__ = __repr__

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
        """Print the plan as it was written, as it is optimised, and the operators that would run. Needs a cluster for
        the last; starts one."""
        best = optimize(self._plan)
        print("\n-------- Logical Plan --------")
        print(render(self._plan))
        print("\n-------- Logical Plan (Optimized) --------")
        print(render(best))
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
