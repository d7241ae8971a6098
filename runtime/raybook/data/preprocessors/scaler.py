"""Scalers: numbers shifted and stretched by what was learned of their column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybook.data.aggregate import AbsMax, Max, Mean, Min, Quantile, Std
from raybook.data.preprocessor import SerializablePreprocessorBase
from raybook.data.preprocessors.utils import column_of, set_column, set_columns
from raybook.data.preprocessors.version_support import SerializablePreprocessor

if TYPE_CHECKING:
    from raybook.data.dataset import Dataset

EPSILON = 1e-8
"""A spread below this is taken for none: the column is constant, and is not divided."""


class _Scaler(SerializablePreprocessorBase):
    """(value - shift) / scale, by column. float32 stays float32, all other numbers become float64."""

    def __init__(self, columns: list[str], output_columns: list[str] | None = None) -> None:
        super().__init__()
        self.columns = columns
        self.output_columns = self._derive_and_validate_output_columns(columns, output_columns)

    def _shift_and_scale(self, column: str) -> tuple[float, float] | None:
        """None when nothing was learned of the column, for want of values."""
        raise NotImplementedError

    @classmethod
    def preferred_batch_format(cls) -> str:
        return "pyarrow"

    def _transform_pandas(self, df: Any) -> Any:
        made = {}
        for name, output in zip(self.columns, self.output_columns, strict=True):
            found = self._shift_and_scale(name)
            made[output] = np.nan if found is None else (df[name] - found[0]) / found[1]
        return set_columns(df, made)

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        made = []
        for name in self.columns:
            column = column_of(table, name)
            kind = pa.float32() if pa.types.is_float32(column.type) else pa.float64()
            found = self._shift_and_scale(name)
            if found is None:
                made.append(pa.nulls(table.num_rows, kind))
                continue
            shift, scale = (pa.scalar(float(value), kind) for value in found)
            made.append(pc.divide(pc.subtract(column.cast(kind, safe=False), shift), scale))
        for output, column in zip(self.output_columns, made, strict=True):
            table = set_column(table, output, column)
        return table


@SerializablePreprocessor(version=1, identifier="io.ray.preprocessors.standard_scaler")
class StandardScaler(_Scaler):
    """To mean 0 and standard deviation 1 (of the population, ddof 0, as scikit-learn has it). Constant columns become 0."""

    def _fit(self, ds: Dataset) -> StandardScaler:
        aggregates = [Mean(name) for name in self.columns] + [Std(name, ddof=0) for name in self.columns]
        self.stats_ = ds.aggregate(*aggregates) or {}
        return self

    def _shift_and_scale(self, column: str) -> tuple[float, float] | None:
        mean, std = self.stats_[f"mean({column})"], self.stats_[f"std({column})"]
        if mean is None or std is None:
            return None
        return mean, 1.0 if std < EPSILON else std


@SerializablePreprocessor(version=1, identifier="io.ray.preprocessors.min_max_scaler")
class MinMaxScaler(_Scaler):
    """To the range 0 to 1. Constant columns become 0."""

    def _fit(self, ds: Dataset) -> MinMaxScaler:
        self.stats_ = ds.aggregate(*(kind(name) for kind in (Min, Max) for name in self.columns)) or {}
        return self

    def _shift_and_scale(self, column: str) -> tuple[float, float] | None:
        low, high = self.stats_[f"min({column})"], self.stats_[f"max({column})"]
        if low is None or high is None:
            return None
        return low, 1.0 if high - low < EPSILON else high - low


@SerializablePreprocessor(version=1, identifier="io.ray.preprocessors.max_abs_scaler")
class MaxAbsScaler(_Scaler):
    """By the greatest absolute value, to the range -1 to 1; zeros stay zeros."""

    def _fit(self, ds: Dataset) -> MaxAbsScaler:
        self.stats_ = ds.aggregate(*(AbsMax(name) for name in self.columns)) or {}
        return self

    def _shift_and_scale(self, column: str) -> tuple[float, float] | None:
        greatest = self.stats_[f"abs_max({column})"]
        return None if greatest is None else (0.0, greatest or 1.0)


@SerializablePreprocessor(version=1, identifier="io.ray.preprocessors.robust_scaler")
class RobustScaler(_Scaler):
    """By median and the range between two quantiles, which outliers do not move.

    quantile_precision: accepted for Ray's sake; quantiles are exact here.
    """

    DEFAULT_QUANTILE_PRECISION = 800
    _SHOWN = ("columns", "quantile_range", "output_columns")

    def __init__(
        self,
        columns: list[str],
        quantile_range: tuple[float, float] = (0.25, 0.75),
        output_columns: list[str] | None = None,
        quantile_precision: int = DEFAULT_QUANTILE_PRECISION,
    ) -> None:
        super().__init__(columns, output_columns)
        self.quantile_range, self.quantile_precision = quantile_range, quantile_precision

    def _fit(self, ds: Dataset) -> RobustScaler:
        low, high = self.quantile_range
        wanted = {"low_quantile": low, "median": 0.5, "high_quantile": high}
        aggregates = [
            Quantile(on=name, q=q, alias_name=f"{label}({name})")
            for name in self.columns
            for label, q in wanted.items()
        ]
        self.stats_ = ds.aggregate(*aggregates) or {}
        return self

    def _shift_and_scale(self, column: str) -> tuple[float, float] | None:
        low, median, high = (self.stats_[f"{label}({column})"] for label in ("low_quantile", "median", "high_quantile"))
        if low is None or median is None or high is None:
            return None
        # A column whose quantiles are one becomes zeros.
        return median, high - low if high != low else float("inf")
