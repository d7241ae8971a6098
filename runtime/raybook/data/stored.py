"""Blocks of the driver's own, put into the store."""

from __future__ import annotations

import pyarrow as pa

from raybook.api import put
from raybook.data.block import Bundle, metadata_of


def bundle_of(table: pa.Table) -> Bundle:
    """Put a table into the store."""
    return Bundle(put(table), metadata_of(table), table.schema)
