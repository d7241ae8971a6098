"""Encoders: categories as numbers or vectors. What was not seen when fitting is missing (ordinal) or all zeros."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybook.data.batches import from_pandas, to_pandas
from raybook.data.column_types import fixed_tensors
from raybook.data.preprocessor import SerializablePreprocessorBase
from raybook.data.preprocessors.utils import (
    check_no_nulls,
    check_no_nulls_in_frame,
    column_of,
    is_list_type,
    set_column,
    set_columns,
    unique_indices,
)
from raybook.data.preprocessors.version_support import SerializablePreprocessor

if TYPE_CHECKING:
    from raybook.data.dataset import Dataset


class _ValueEncoder(SerializablePreprocessorBase):
    """An encoder that knows the place of each value: `stats_["unique_values(column)"]` is {value: place}."""

    columns: list[str]
    output_columns: list[str]

    def _values(self, column: str) -> dict[Any, int]:
        return self.stats_[f"unique_values({column})"]

    def _learn(self, ds: Dataset, **options: Any) -> None:
        found = unique_indices(ds, self.columns, **options)
        self.stats_ = {f"unique_values({name})": values for name, values in found.items()}

    def _places(self, column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
        """Each value's place; null where it was not seen."""
        keys = pa.array(list(self._values(name)))
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if keys.type != column.type:
            keys = keys.cast(column.type)
        return pc.index_in(column, keys)

    def _pairs(self) -> list[tuple[str, str]]:
        return list(zip(self.columns, self.output_columns, strict=True))

    def _has_lists(self, table: pa.Table) -> bool:
        return any(is_list_type(column_of(table, name).type) for name in self.columns)


@SerializablePreprocessor(version=1, identifier="io.ray.preprocessors.ordinal_encoder")
class OrdinalEncoder(_ValueEncoder):
    """Each value becomes its place among the column's values in order, 0 to n-1; unseen ones become missing. encode_lists:
    lists are encoded element by element, else as wholes."""

    _SHOWN = ("columns", "encode_lists", "output_columns")

    def __init__(
        self, columns: list[str], *, encode_lists: bool = True, output_columns: list[str] | None = None
    ) -> None:
        super().__init__()
        self.columns, self.encode_lists = columns, encode_lists
        self.output_columns = self._derive_and_validate_output_columns(columns, output_columns)

    @classmethod
    def preferred_batch_format(cls) -> str:
        return "pyarrow"

    def _fit(self, ds: Dataset) -> OrdinalEncoder:
        self._learn(ds, encode_lists=self.encode_lists)
        return self

    def _transform_pandas(self, df: Any) -> Any:
        check_no_nulls_in_frame(df, *self.columns)
        made = {}
        for name, output in self._pairs():
            values = self._values(name)
            if _holds_lists(df[name]):
                made[output] = df[name].map(lambda element, values=values: self._encode_list(element, values))
            else:
                made[output] = df[name].map(values)
        return set_columns(df, made)

    def _encode_list(self, element: Any, values: dict[Any, int]) -> Any:
        if self.encode_lists:
            return [values.get(item) for item in element]
        return values.get(tuple(element))

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        if self._has_lists(table):
            return from_pandas(self._transform_pandas(to_pandas(table)))
        check_no_nulls(table, *self.columns)
        made = {output: self._places(column_of(table, name), name).cast(pa.int64()) for name, output in self._pairs()}
        for output, column in made.items():
            table = set_column(table, output, column)
        return table


@SerializablePreprocessor(version=1, identifier="io.ray.preprocessors.one_hot_encoder")
class OneHotEncoder(_ValueEncoder):
    """Each value becomes a vector (uint8) with a one in its place; unseen values are all zeros. max_categories: by column,
    how many of the most frequent values get a place. Lists are values as wholes."""

    _SHOWN = ("columns", "max_categories", "output_columns")

    def __init__(
        self,
        columns: list[str],
        *,
        max_categories: dict[str, int] | None = None,
        output_columns: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.columns, self.max_categories = columns, max_categories or {}
        self.output_columns = self._derive_and_validate_output_columns(columns, output_columns)

    @classmethod
    def preferred_batch_format(cls) -> str:
        return "pyarrow"

    def _fit(self, ds: Dataset) -> OneHotEncoder:
        self._learn(ds, encode_lists=False, max_categories=self.max_categories)
        return self

    def safe_get(self, v: Any, stats: dict[Any, int]) -> int:
        """The value's place, or -1."""
        if isinstance(v, (list, np.ndarray)):
            v = tuple(v)
        return stats.get(v, -1) if isinstance(v, Hashable) else -1

    def _transform_pandas(self, df: Any) -> Any:
        check_no_nulls_in_frame(df, *self.columns)
        made = {}
        for name, output in self._pairs():
            values = self._values(name)
            places = np.array([self.safe_get(value, values) for value in df[name]], dtype=np.int64)
            made[output] = _rows_as_series(_one_hot(places, len(values)).tolist(), df)
        return set_columns(df, made)

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        if self._has_lists(table):
            return from_pandas(self._transform_pandas(to_pandas(table)))
        check_no_nulls(table, *self.columns)
        made = {}
        for name, output in self._pairs():
            places = pc.fill_null(self._places(column_of(table, name), name), -1).to_numpy()
            hot = _one_hot(places, len(self._values(name)))
            made[output] = fixed_tensors(hot) if hot.shape[1] else pa.array(hot.tolist(), pa.list_(pa.uint8()))
        for output, column in made.items():
            table = set_column(table, output, column)
        return table


@SerializablePreprocessor(version=1, identifier="io.ray.preprocessors.multi_hot_encoder")
class MultiHotEncoder(_ValueEncoder):
    """Each list becomes a vector with the number of times that it has each value. max_categories: by column, how many of
    the most frequent values get a place."""

    _SHOWN = ("columns", "max_categories", "output_columns")

    def __init__(
        self,
        columns: list[str],
        *,
        max_categories: dict[str, int] | None = None,
        output_columns: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.columns, self.max_categories = columns, max_categories or {}
        self.output_columns = self._derive_and_validate_output_columns(columns, output_columns)

    def _fit(self, ds: Dataset) -> MultiHotEncoder:
        self._learn(ds, encode_lists=True, max_categories=self.max_categories)
        return self

    def _transform_pandas(self, df: Any) -> Any:
        check_no_nulls_in_frame(df, *self.columns)
        made = {}
        for name, output in self._pairs():
            values = self._values(name)
            rows = []
            for element in df[name]:
                items = list(element) if isinstance(element, (list, tuple, np.ndarray)) else [element]
                counts = Counter(items)
                rows.append([counts.get(value, 0) for value in values])
            made[output] = _rows_as_series(rows, df)
        return set_columns(df, made)


@SerializablePreprocessor(version=1, identifier="io.ray.preprocessors.label_encoder")
class LabelEncoder(_ValueEncoder):
    """The label's values become their places among the values in order; `inverse_transform` brings them back."""

    _SHOWN = ("label_column", "output_column")

    def __init__(self, label_column: str, *, output_column: str | None = None) -> None:
        super().__init__()
        self.label_column, self.output_column = label_column, output_column or label_column

    @property
    def columns(self) -> list[str]:  # type: ignore[override]
        return [self.label_column]

    @property
    def output_columns(self) -> list[str]:  # type: ignore[override]
        return [self.output_column]

    def _fit(self, ds: Dataset) -> LabelEncoder:
        self._learn(ds)
        return self

    def _transform_pandas(self, df: Any) -> Any:
        check_no_nulls_in_frame(df, self.label_column)
        return set_columns(df, {self.output_column: df[self.label_column].map(self._values(self.label_column))})

    def inverse_transform(self, ds: Dataset) -> Dataset:
        """The dataset with the labels that its places stand for. PreprocessorNotFittedException before `fit`."""
        self._check_is_fitted("inverse_transform", ".")
        return ds.map_batches(self._inverse_transform_pandas, batch_format="pandas", **self._get_transform_config())

    def _inverse_transform_pandas(self, df: Any) -> Any:
        labels = {place: value for value, place in self._values(self.label_column).items()}
        return set_columns(df, {self.label_column: df[self.output_column].map(labels)})


@SerializablePreprocessor(version=1, identifier="io.ray.preprocessors.categorizer")
class Categorizer(SerializablePreprocessorBase):
    """Columns become pandas' categories (Arrow dictionaries in blocks). dtypes: by column, a CategoricalDtype to use
    instead of one with all values that are found."""

    _SHOWN = ("columns", "dtypes", "output_columns")

    def __init__(
        self, columns: list[str], dtypes: dict[str, Any] | None = None, output_columns: list[str] | None = None
    ) -> None:
        super().__init__()
        self.columns, self.dtypes = columns, dtypes or {}
        self.output_columns = self._derive_and_validate_output_columns(columns, output_columns)

    def _fit(self, ds: Dataset) -> Categorizer:
        import pandas as pd

        self.stats_ = dict(self.dtypes)
        wanted = [name for name in self.columns if name not in self.dtypes]
        if wanted:
            found = unique_indices(ds, wanted, drop_nulls=True)
            self.stats_ |= {name: pd.CategoricalDtype(list(values)) for name, values in found.items()}
        return self

    def _transform_pandas(self, df: Any) -> Any:
        pairs = zip(self.columns, self.output_columns, strict=True)
        return set_columns(df, {output: df[name].astype(self.stats_[name]) for name, output in pairs})


def _one_hot(places: np.ndarray, width: int) -> np.ndarray:
    made = np.zeros((len(places), width), dtype=np.uint8)
    known = np.nonzero(places >= 0)[0]
    made[known, places[known]] = 1
    return made


def _holds_lists(series: Any) -> bool:
    first = next((value for value in series if value is not None), None)
    return isinstance(first, (list, np.ndarray))


def _rows_as_series(rows: list[Any], df: Any) -> Any:
    import pandas as pd

    return pd.Series(rows, index=df.index, dtype=object)
