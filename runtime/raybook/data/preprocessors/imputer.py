"""Missing values filled in."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raybook.data.aggregate import Mean
from raybook.data.preprocessor import SerializablePreprocessorBase
from raybook.data.preprocessors.utils import column_of, count_column, count_over, is_null, set_columns
from raybook.data.preprocessors.version_support import SerializablePreprocessor

if TYPE_CHECKING:
    from raybook.data.dataset import Dataset


@SerializablePreprocessor(version=1, identifier="io.ray.preprocessors.simple_imputer")
class SimpleImputer(SerializablePreprocessorBase):
    """Fills nulls and NaN. strategy: "mean", "most_frequent", or "constant" with fill_value; a column that is not there is
    made of the fill value. ValueError for another strategy, or for "constant" without a value."""

    _valid_strategies = ("mean", "most_frequent", "constant")
    _SHOWN = ("columns", "strategy", "fill_value", "output_columns")

    def __init__(
        self,
        columns: list[str],
        strategy: str = "mean",
        fill_value: Any = None,
        *,
        output_columns: list[str] | None = None,
    ) -> None:
        super().__init__()
        if strategy not in self._valid_strategies:
            raise ValueError(
                f"Strategy {strategy} is not supported. Supported values are: {list(self._valid_strategies)}"
            )
        self.columns, self.strategy, self.fill_value = columns, strategy, fill_value
        if strategy == "constant":
            self._is_fittable = False
            if fill_value is None:
                raise ValueError('`fill_value` must be set when using "constant" strategy.')
        self.output_columns = self._derive_and_validate_output_columns(columns, output_columns)

    def _fit(self, ds: Dataset) -> SimpleImputer:
        if self.strategy == "mean":
            self.stats_ = ds.aggregate(*(Mean(name) for name in self.columns)) or {}
        else:
            counts = count_over(ds, partial(_count_known, self.columns), self.columns)
            self.stats_ = {
                f"most_frequent({name})": counter.most_common(1)[0][0] if counter else None
                for name, counter in counts.items()
            }
        return self

    def _fill(self, column: str) -> Any:
        if self.strategy == "constant":
            return self.fill_value
        value = self.stats_[f"{self.strategy}({column})"]
        if value is None:
            raise ValueError(f"Column {column} has no fill value. Check the data used to fit the SimpleImputer.")
        return value

    def _transform_pandas(self, df: Any) -> Any:
        made = {}
        for name, output in zip(self.columns, self.output_columns, strict=True):
            value = self._fill(name)
            if name not in df.columns:
                made[output] = value
                continue
            column = df[name]
            if column.dtype.name == "category" and value not in column.cat.categories:
                column = column.cat.add_categories([value])
            made[output] = column.fillna(value)
        return set_columns(df, made)


def _count_known(columns: list[str], table: pa.Table) -> dict[str, Counter]:
    found = {}
    for name in columns:
        counter = count_column(column_of(table, name), encode_lists=False)
        found[name] = Counter({value: count for value, count in counter.items() if not is_null(value)})
    return found
