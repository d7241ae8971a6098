"""Numbers into bins, by pandas' `cut`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from raybook.data.aggregate import Max, Min
from raybook.data.preprocessor import SerializablePreprocessorBase
from raybook.data.preprocessors.utils import set_columns
from raybook.data.preprocessors.version_support import SerializablePreprocessor

if TYPE_CHECKING:
    from raybook.data.dataset import Dataset


class _Discretizer(SerializablePreprocessorBase):
    """Each number becomes the number of its bin, or a category where `dtypes` has one for the column. Other arguments are
    those of `pandas.cut`."""

    _SHOWN = ("columns", "bins", "right", "include_lowest", "duplicates", "dtypes", "output_columns")

    def __init__(
        self,
        columns: list[str],
        bins: Any,
        *,
        right: bool = True,
        include_lowest: bool = False,
        duplicates: str = "raise",
        dtypes: dict[str, Any] | None = None,
        output_columns: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.columns, self.bins, self.right, self.include_lowest = columns, bins, right, include_lowest
        self.duplicates, self.dtypes = duplicates, dtypes
        self.output_columns = self._derive_and_validate_output_columns(columns, output_columns)

    def _check_bins(self) -> None:
        if isinstance(self.bins, dict) and any(name not in self.bins for name in self.columns):
            raise ValueError("If `bins` is a dictionary, all elements of `columns` must be present in it.")

    def _edges(self, column: str) -> Any:
        return self.bins[column] if isinstance(self.bins, dict) else self.bins

    def _transform_pandas(self, df: Any) -> Any:
        import pandas as pd

        made = {}
        for name, output in zip(self.columns, self.output_columns, strict=True):
            dtype = (self.dtypes or {}).get(name)
            is_category = isinstance(dtype, pd.CategoricalDtype)
            binned = pd.cut(
                df[name],
                self._edges(name),
                right=self.right,
                labels=list(getattr(dtype, "categories", ())) if is_category else False,
                ordered=bool(getattr(dtype, "ordered", True)) if is_category else True,
                include_lowest=self.include_lowest,
                duplicates=self.duplicates,
            )
            made[output] = binned if dtype is None or is_category else binned.astype(dtype)
        return set_columns(df, made)


@SerializablePreprocessor(version=1, identifier="io.ray.preprocessors.custom_kbins_discretizer")
class CustomKBinsDiscretizer(_Discretizer):
    """bins: edges, or a pandas IntervalIndex, or a dict of those by column. ValueError when the dict lacks a column."""

    _is_fittable = False

    def __init__(self, columns: list[str], bins: Any, **options: Any) -> None:
        super().__init__(columns, bins, **options)
        self._check_bins()


@SerializablePreprocessor(version=1, identifier="io.ray.preprocessors.uniform_kbins_discretizer")
class UniformKBinsDiscretizer(_Discretizer):
    """bins: how many of equal width between a column's least and greatest value, or a dict of numbers by column. TypeError
    on `fit` for anything else."""

    def _fit(self, ds: Dataset) -> UniformKBinsDiscretizer:
        self._check_bins()
        for name in self.columns:
            if isinstance(self._count(name), bool) or not isinstance(self._count(name), int):
                raise TypeError(f"`bins` must be an integer or a dict of integers, got {self._count(name)}")
        found = ds.aggregate(*(kind(name) for kind in (Min, Max) for name in self.columns)) or {}
        self.stats_ = {
            name: self._uniform(name, found.get(f"min({name})"), found.get(f"max({name})")) for name in self.columns
        }
        return self

    def _count(self, column: str) -> Any:
        return self.bins[column] if isinstance(self.bins, dict) else self.bins

    def _edges(self, column: str) -> Any:
        return self.stats_[column]

    def _uniform(self, column: str, low: Any, high: Any) -> np.ndarray:
        """Edges as pandas' `cut` makes them of a number of bins, with the outermost one moved out by a thousandth so that
        it includes the extreme value."""
        if low is None or high is None:
            raise ValueError(f"Column {column} has no values to bin. Check the data used to fit the discretizer.")
        low, high, count = low + 0.0, high + 0.0, self._count(column)
        if np.isinf(low) or np.isinf(high):
            raise ValueError("Cannot specify integer `bins` when input data contains infinity.")
        if low == high:
            low -= 0.001 * abs(low) if low else 0.001
            high += 0.001 * abs(high) if high else 0.001
            return np.linspace(low, high, count + 1)
        edges = np.linspace(low, high, count + 1)
        if self.right:
            edges[0] -= (high - low) * 0.001
        else:
            edges[-1] += (high - low) * 0.001
        return edges
