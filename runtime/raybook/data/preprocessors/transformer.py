"""Power transforms, which make skewed numbers more like a bell curve."""

from __future__ import annotations

from typing import Any

import numpy as np

from raybook.data.preprocessor import SerializablePreprocessorBase
from raybook.data.preprocessors.utils import set_columns
from raybook.data.preprocessors.version_support import SerializablePreprocessor


@SerializablePreprocessor(version=1, identifier="io.ray.preprocessors.power_transformer")
class PowerTransformer(SerializablePreprocessorBase):
    """power: the exponent (lambda). method: "yeo-johnson", for all numbers, or "box-cox", for positive ones. ValueError for
    another method. Source: Yeo & Johnson 2000; Box & Cox 1964."""

    _is_fittable = False
    _valid_methods = ("yeo-johnson", "box-cox")
    _SHOWN = ("columns", "power", "method", "output_columns")

    def __init__(
        self,
        columns: list[str],
        power: float,
        method: str = "yeo-johnson",
        *,
        output_columns: list[str] | None = None,
    ) -> None:
        super().__init__()
        if method not in self._valid_methods:
            raise ValueError(f"Method {method} is not supported. Supported values are: {list(self._valid_methods)}")
        self.columns, self.power, self.method = columns, power, method
        self.output_columns = self._derive_and_validate_output_columns(columns, output_columns)

    def _transform_pandas(self, df: Any) -> Any:
        made = {}
        for name, output in zip(self.columns, self.output_columns, strict=True):
            values = df[name].to_numpy(dtype=np.float64, na_value=np.nan)
            made[output] = self._yeo_johnson(values) if self.method == "yeo-johnson" else self._box_cox(values)
        return set_columns(df, made)

    def _yeo_johnson(self, values: np.ndarray) -> np.ndarray:
        power = self.power
        result = np.full_like(values, np.nan)
        above, below = values >= 0, values < 0
        positive, negative = values[above] + 1, 1 - values[below]
        result[above] = (np.power(positive, power) - 1) / power if power != 0 else np.log(positive)
        result[below] = -(np.power(negative, 2 - power) - 1) / (2 - power) if power != 2 else -np.log(negative)
        return result

    def _box_cox(self, values: np.ndarray) -> np.ndarray:
        return (np.power(values, self.power) - 1) / self.power if self.power != 0 else np.log(values)
