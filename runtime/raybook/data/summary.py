"""Summary of columns: what `Dataset.summary` gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raybook.data.aggregate import AggregateFn, Count, Max, Mean, Min, MissingValuePercentage, Std, ZeroPercentage

if TYPE_CHECKING:
    from raybook.data.dataset_base import DatasetBase


class DatasetSummary:
    """Statistics by column. `to_pandas` has a row for each statistic and a column for each of the dataset's."""

    def __init__(self, values: dict[str, dict[str, Any]], schema: pa.Schema) -> None:
        self._values, self.dataset_schema = values, schema

    def to_pandas(self) -> Any:
        import pandas as pd

        names = list(dict.fromkeys(name for stats in self._values.values() for name in stats))
        rows = [{"statistic": name, **{c: stats.get(name) for c, stats in self._values.items()}} for name in names]
        return pd.DataFrame(rows)

    def get_column_stats(self, column: str) -> Any:
        """One column's statistics. ValueError when there is no such column."""
        import pandas as pd

        if column not in self._values:
            raise ValueError(f"Column {column!r} not found in the summary; it has {list(self._values)}.")
        stats = self._values[column]
        return pd.DataFrame({"statistic": list(stats), "value": list(stats.values())})

    def __repr__(self) -> str:
        return repr(self.to_pandas())


def summarize(dataset: DatasetBase, columns: list[str] | None) -> DatasetSummary:
    """All statistics of all columns in one pass."""
    known = dataset._fetch_schema()
    if known is None:
        return DatasetSummary({}, pa.schema([]))
    wanted = columns if columns is not None else known.names
    missing = [name for name in wanted if name not in known.names]
    if missing:
        raise ValueError(f"Columns {missing} not found in the dataset; it has {known.names}.")
    kinds = dict(zip(known.names, known.base_schema.types, strict=True))
    aggregations: list[AggregateFn] = []
    for name in wanted:
        aggregations += [Count(name), MissingValuePercentage(name)]
        if _is_number(kinds[name]):
            aggregations += [Mean(name), Min(name), Max(name), Std(name, ddof=0), ZeroPercentage(name)]
        elif pa.types.is_temporal(kinds[name]):
            aggregations += [Min(name), Max(name)]
    found = dataset.aggregate(*aggregations) or {}  # type: ignore[attr-defined]
    values: dict[str, dict[str, Any]] = {name: {} for name in wanted}
    for one in aggregations:
        values[str(one.column)][one.name.split("(")[0]] = found.get(one.name)
    return DatasetSummary(values, known.base_schema)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
