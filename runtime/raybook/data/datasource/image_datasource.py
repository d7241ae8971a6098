"""Image files, a row a file, in the column `image`: arrays of (height, width, channels), or (height, width) in grey."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from raybook.data.batches import from_columns, from_rows, to_rows
from raybook.data.block import Block, concat_blocks
from raybook.data.context import DataContext
from raybook.data.datasource.file_based_datasource import FileBasedDatasource, combined
from raybook.data.datasource.optional import require

CHANNELS = {"1": 1, "L": 1, "P": 1, "RGB": 3, "YCbCr": 3, "LAB": 3, "HSV": 3, "RGBA": 4, "CMYK": 4, "I": 4, "F": 4}
"""Bytes a pixel of Pillow's modes."""
GROWTH = 8.0
"""Bytes of an array for a byte of a compressed image, where size and mode do not say it: a JPEG's usual ratio."""


class ImageDatasource(FileBasedDatasource):
    """size: (height, width) to resize to. mode: Pillow's mode to convert to ("RGB", "L")."""

    _FILE_EXTENSIONS = ["png", "jpg", "jpeg", "tif", "tiff", "bmp", "gif"]

    def __init__(
        self, paths: Any, size: tuple[int, int] | None = None, mode: str | None = None, **file_args: Any
    ) -> None:
        require("PIL", "pillow", "Reading images")
        if size is not None and len(size) != 2:
            raise ValueError(
                f"Expected `size` to contain two integers for height and width, but got {len(size)} integers instead."
            )
        if size is not None and (size[0] < 0 or size[1] < 0 or 0 in size):
            raise ValueError(f"Expected `size` to contain positive integers, but got {size} instead.")
        super().__init__(paths, **file_args)
        self.size, self.mode = size, mode

    def _read_stream(self, f: pa.NativeFile, path: str) -> Iterator[Block]:
        from PIL import Image, UnidentifiedImageError

        data = f.readall()
        try:
            image: Image.Image = Image.open(io.BytesIO(data))
            if self.size is not None and image.size != (self.size[1], self.size[0]):
                image = image.resize((self.size[1], self.size[0]), resample=Image.Resampling.BILINEAR)
            if self.mode is not None and image.mode != self.mode:
                image = image.convert(self.mode)
            array = np.asarray(image)
        except UnidentifiedImageError as error:
            raise ValueError(f"PIL couldn't load image file at path '{path}'.") from error
        yield from_columns({"image": array[np.newaxis]})

    def _rows_per_file(self) -> int:
        return 1

    def _gather(self, blocks: Iterator[Block]) -> Iterator[Block]:
        limit = DataContext.get_current().target_max_block_size or 2**62
        pending: list[pa.Table] = []
        size = 0
        for block in blocks:
            pending.append(block)
            size += block.nbytes
            if size >= limit:
                yield _together(pending)
                pending, size = [], 0
        if pending:
            yield _together(pending)

    def _encoding_ratio(self) -> float:
        known = [size for size in self._file_sizes() if size]
        if self.size is not None and self.mode in CHANNELS and known:
            pixels = self.size[0] * self.size[1] * CHANNELS[self.mode]
            return max(pixels * len(known) / sum(known), 0.5)
        return GROWTH


def _together(blocks: list[pa.Table]) -> pa.Table:
    """Images of one shape as one tensor column, of several as a ragged one."""
    if all(block.schema.equals(blocks[0].schema) for block in blocks):
        return combined(concat_blocks(blocks))
    return from_rows([row for block in blocks for row in to_rows(block)])
