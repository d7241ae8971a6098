"""Summary of columns: what `Dataset.summary` gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raybook.data.aggregate import (
    AggregateFnV2,
    ApproximateQuantile,
    ApproximateTopK,
    Count,
    Max,
    Mean,
    Min,
    MissingValuePercentage,
    Std,
    ZeroPercentage,
)
from raybook.data.datatype import DataType, TypeCategory

if TYPE_CHECKING:
    from raybook.data.dataset_base import DatasetBase


TOP_VALUES = 10

Overrides = Mapping["DataType | TypeCategory | str", Callable[[str], list[AggregateFnV2]]]


class DatasetSummary:
    """Statistics by column. `to_pandas` has a row for each statistic, in order of their names, and a column for each of
    the dataset's. A statistic that is a list is a row for each element: "approx_topk[0]"."""

    STATISTIC_COLUMN = "statistic"

    def __init__(self, values: dict[str, dict[str, Any]], schema: pa.Schema) -> None:
        self._values, self.dataset_schema = values, schema
        self.columns = list(values)

    def to_pandas(self) -> Any:
        import pandas as pd

        names = sorted({name for stats in self._values.values() for name in stats})
        rows = [
            {self.STATISTIC_COLUMN: name, **{column: stats.get(name) for column, stats in self._values.items()}}
            for name in names
        ]
        return pd.DataFrame(rows, columns=[self.STATISTIC_COLUMN, *self._values])

    def get_column_stats(self, column: str) -> Any:
        """One column's statistics, a row each. ValueError when there is no such column."""
        import pandas as pd

        if column not in self._values:
            raise ValueError(f"Column '{column}' not found in summary tables; they have {list(self._values)}.")
        stats = sorted(self._values[column].items())
        return pd.DataFrame({self.STATISTIC_COLUMN: [name for name, _ in stats], "value": [one for _, one in stats]})

    def __repr__(self) -> str:
        return repr(self.to_pandas())


def summarize(dataset: DatasetBase, columns: list[str] | None, overrides: Overrides | None = None) -> DatasetSummary:
    """All statistics of all columns in one pass. overrides: by type or kind of type, what to compute of a column instead."""
    known = dataset._fetch_schema()
    if known is None:
        return DatasetSummary({}, pa.schema([]))
    wanted = columns if columns is not None else known.names
    missing = [name for name in wanted if name not in known.names]
    if missing:
        raise ValueError(f"Columns {missing} not found in the dataset; it has {known.names}.")
    kinds = dict(zip(known.names, known.base_schema.types, strict=True))
    aggregations = [one for name in wanted for one in _aggregations(name, DataType(kinds[name]), overrides or {})]
    found = (dataset.aggregate(*aggregations) if aggregations else None) or {}  # type: ignore[attr-defined]
    values: dict[str, dict[str, Any]] = {name: {} for name in wanted}
    for one in aggregations:
        value, stats = found.get(one.name), values[str(one.column)]
        if isinstance(value, list):
            stats.update({f"{one.get_agg_name()}[{index}]": part for index, part in enumerate(value)})
        else:
            stats[one.get_agg_name()] = value
    return DatasetSummary(values, known.base_schema)


def _aggregations(name: str, kind: DataType, overrides: Overrides) -> list[AggregateFnV2]:
    for wanted, make in overrides.items():
        is_meant = kind == wanted if isinstance(wanted, DataType) else kind.is_of(wanted)
        if is_meant:
            return make(name)
    if kind.is_null_type():
        return [Count(name)]
    shared = [Count(name), MissingValuePercentage(name)]
    if kind.is_numerical_type() or kind.is_boolean_type():
        middle = [] if kind.is_boolean_type() else [ApproximateQuantile(name, [0.5])]
        return [*shared, Mean(name), Min(name), Max(name), Std(name, ddof=0), ZeroPercentage(name), *middle]
    if kind.is_temporal_type():
        return [*shared, Min(name), Max(name)]
    return [*shared, ApproximateTopK(name, TOP_VALUES)]
