"""Rows scaled to length one."""

from __future__ import annotations

from typing import Any

import numpy as np

from raybook.data.preprocessor import SerializablePreprocessorBase
from raybook.data.preprocessors.utils import set_columns
from raybook.data.preprocessors.version_support import SerializablePreprocessor


@SerializablePreprocessor(version=1, identifier="io.ray.preprocessors.normalizer")
class Normalizer(SerializablePreprocessorBase):
    """Divides each row's values of these columns by their norm: "l1" (sum of absolute values), "l2" (Euclidean) or "max"
    (greatest absolute value). ValueError for another norm."""

    _is_fittable = False
    _SHOWN = ("columns", "norm", "output_columns")
    _norm_fns = {
        "l1": lambda values: np.abs(values).sum(axis=1),
        "l2": lambda values: np.sqrt(np.power(values, 2).sum(axis=1)),
        "max": lambda values: np.max(np.abs(values), axis=1),
    }

    def __init__(self, columns: list[str], norm: str = "l2", *, output_columns: list[str] | None = None) -> None:
        super().__init__()
        if norm not in self._norm_fns:
            raise ValueError(f"Norm {norm} is not supported. Supported values are: {list(self._norm_fns)}")
        self.columns, self.norm = columns, norm
        self.output_columns = self._derive_and_validate_output_columns(columns, output_columns)

    def _transform_pandas(self, df: Any) -> Any:
        values = df.loc[:, self.columns]
        scaled = values.div(self._norm_fns[self.norm](values), axis=0)
        return set_columns(df, {out: scaled[name] for name, out in zip(self.columns, self.output_columns, strict=True)})
