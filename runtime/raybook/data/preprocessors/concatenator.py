"""Columns put side by side into one column of vectors, which is what models want."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pyarrow as pa

from raybook.data.column_types import is_tensor
from raybook.data.columns import to_arrow, to_numpy
from raybook.data.preprocessor import SerializablePreprocessorBase
from raybook.data.preprocessors.version_support import SerializablePreprocessor

logger = logging.getLogger(__name__)


@SerializablePreprocessor(version=1, identifier="io.ray.preprocessors.concatenator")
class Concatenator(SerializablePreprocessorBase):
    """The columns, in this order, become one of vectors; they themselves are dropped.

    dtype: of the vectors; None: what numpy makes of the columns' types. raise_if_missing: ValueError for columns that are
    not there, instead of a warning (and a KeyError further on). flatten: columns that are vectors themselves are laid out.
    """

    _is_fittable = False

    def __init__(
        self,
        columns: list[str],
        output_column_name: str = "concat_out",
        dtype: Any = None,
        raise_if_missing: bool = False,
        flatten: bool = False,
    ) -> None:
        super().__init__()
        self.columns, self.output_column_name, self.dtype = columns, output_column_name, dtype
        self.raise_if_missing, self.flatten = raise_if_missing, flatten

    @classmethod
    def preferred_batch_format(cls) -> str:
        return "pyarrow"

    def get_output_columns(self) -> list[str]:
        return [self.output_column_name]

    def _check(self, names: list[str]) -> None:
        missing = sorted(set(self.columns) - set(names))
        if missing:
            message = f"Missing columns specified in '{self.columns}': {set(missing)}"
            if self.raise_if_missing:
                raise ValueError(message)
            logger.warning(message)

    def _transform_pandas(self, df: Any) -> Any:
        self._check(list(df.columns))
        joined = self._joined([df[name].to_numpy() for name in self.columns], len(df))
        out = df.drop(columns=self.columns)
        out[self.output_column_name] = _series(joined, df.index)
        return out

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        self._check(table.column_names)
        parts = []
        for name in self.columns:
            column = table.column(name)
            parts.append(to_numpy(column) if not is_tensor(column.type) or self.flatten else list(to_numpy(column)))
        joined = self._joined(parts, table.num_rows)
        return table.drop_columns(self.columns).append_column(
            self.output_column_name, to_arrow(joined, self.output_column_name)
        )

    def _joined(self, parts: list[Any], rows: int) -> np.ndarray:
        arrays = []
        for part in parts:
            array = np.asarray(part) if not isinstance(part, np.ndarray) else part
            if self.flatten and array.dtype == object and rows:
                array = np.stack([np.atleast_1d(value) for value in array])
            if self.flatten:
                array = array.reshape(rows, -1)
            arrays.append(array if self.dtype is None else array.astype(self.dtype))
        return np.column_stack(arrays)

    def __repr__(self) -> str:
        defaults = {
            "output_column_name": "concat_out",
            "columns": None,
            "dtype": None,
            "raise_if_missing": False,
            "flatten": False,
        }
        shown = [f"{name}={getattr(self, name)}" for name, value in defaults.items() if getattr(self, name) != value]
        return f"{type(self).__name__}({', '.join(shown)})"


def _series(rows: np.ndarray, index: Any) -> Any:
    import pandas as pd

    return pd.Series(list(rows), index=index, dtype=object)
