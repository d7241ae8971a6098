"""Pandas types: LightGBM does not take columns whose memory is Arrow's."""

from __future__ import annotations

from typing import Any


def normalize_pandas_for_lightgbm(df: Any) -> Any:
    """Return a table whose numbers and flags of Arrow are pandas' own nullable types; other columns are as they were."""
    import pandas
    import pyarrow

    wanted = {}
    for column, dtype in df.dtypes.items():
        if not isinstance(dtype, pandas.ArrowDtype):
            continue
        arrow = dtype.pyarrow_dtype
        if pyarrow.types.is_boolean(arrow):
            wanted[column] = "boolean"
        elif pyarrow.types.is_signed_integer(arrow):
            wanted[column] = f"Int{arrow.bit_width}"
        elif pyarrow.types.is_unsigned_integer(arrow):
            wanted[column] = f"UInt{arrow.bit_width}"
        elif pyarrow.types.is_floating(arrow):
            wanted[column] = f"Float{max(arrow.bit_width, 32)}"
    return df.astype(wanted) if wanted else df
