"""Token counts folded into a fixed number of features by a hash."""

from __future__ import annotations

from typing import Any

import numpy as np

from raybook.data.preprocessor import SerializablePreprocessorBase
from raybook.data.preprocessors.utils import simple_hash
from raybook.data.preprocessors.version_support import SerializablePreprocessor


@SerializablePreprocessor(version=1, identifier="io.ray.preprocessors.feature_hasher")
class FeatureHasher(SerializablePreprocessorBase):
    """Each column's name is hashed to one of `num_features` places, and its values are added there: the output column has
    a vector a row. For tables with a column a token."""

    _is_fittable = False
    _SHOWN = ("columns", "num_features", "output_column")

    def __init__(self, columns: list[str], num_features: int, output_column: str) -> None:
        super().__init__()
        self.columns, self.num_features, self.output_column = columns, num_features, output_column

    def get_output_columns(self) -> list[str]:
        return [self.output_column]

    def _transform_pandas(self, df: Any) -> Any:
        import pandas as pd

        values = df.loc[:, self.columns]
        kind = np.result_type(*values.dtypes) if len(self.columns) else np.int64
        folded = np.zeros((len(df), self.num_features), kind)
        for name in self.columns:
            folded[:, simple_hash(name, self.num_features)] += values[name].to_numpy(dtype=kind)
        out = df.copy(deep=False)
        out[self.output_column] = pd.Series(list(folded), index=df.index, dtype=object)
        return out
