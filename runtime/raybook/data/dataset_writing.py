"""Writing to files and systems: the `write_*` methods, each a sink for `write_datasink`."""

from __future__ import annotations

from raybook.data.dataset_base import DatasetBase


class DatasetWriting(DatasetBase):
    """Part of Dataset."""
