"""Videos and sound by decord and soundfile, where they are installed: a row a frame, and a row a file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from raybook.data.batches import from_columns, from_rows
from raybook.data.block import Block
from raybook.data.datasource.file_based_datasource import FileBasedDatasource
from raybook.data.datasource.optional import require

FRAMES_AT_ONCE = 32


class VideoDatasource(FileBasedDatasource):
    """Columns `frame` (height, width, channels) and `frame_index`, and with include_timestamps `frame_timestamp` in
    seconds (begin, end). fps: frames a second to take; None: all. resize: (width, height)."""

    _FILE_EXTENSIONS = [
        "mp4", "mkv", "mov", "avi", "wmv", "flv", "webm", "m4v", "3gp", "mpeg", "mpg", "ts", "ogv", "rm", "rmvb", "vob",
    ]  # fmt: skip

    def __init__(
        self,
        paths: Any,
        include_timestamps: bool = False,
        fps: int | None = None,
        resize: tuple[int, int] | None = None,
        **file_args: Any,
    ) -> None:
        require("decord", "decord", "Reading videos")
        super().__init__(paths, **file_args)
        self.include_timestamps, self.fps, self.resize = include_timestamps, fps, resize

    def _read_stream(self, f: pa.NativeFile, path: str) -> Iterator[Block]:
        import decord

        size = {} if self.resize is None else {"width": self.resize[0], "height": self.resize[1]}
        reader = decord.VideoReader(io.BytesIO(f.readall()), **size)
        step = 1 if self.fps is None else max(1, round(reader.get_avg_fps() / self.fps))
        indexes = list(range(0, len(reader), step))
        for start in range(0, len(indexes), FRAMES_AT_ONCE):
            some = indexes[start : start + FRAMES_AT_ONCE]
            columns: dict[str, Any] = {"frame": reader.get_batch(some).asnumpy(), "frame_index": pa.array(some)}
            if self.include_timestamps:
                columns["frame_timestamp"] = reader.get_frame_timestamp(some)
            yield from_columns(columns)


class AudioDatasource(FileBasedDatasource):
    """Columns `amplitude` (channels, samples) as float32 and `sample_rate` in hertz."""

    _FILE_EXTENSIONS = [
        "mp3",
        "wav",
        "aac",
        "flac",
        "ogg",
        "m4a",
        "wma",
        "alac",
        "aiff",
        "pcm",
        "amr",
        "opus",
        "ra",
        "rm",
    ]

    def __init__(self, paths: Any, **file_args: Any) -> None:
        require("soundfile", "soundfile", "Reading sound")
        super().__init__(paths, **file_args)

    def _read_stream(self, f: pa.NativeFile, path: str) -> Iterator[Block]:
        import soundfile

        amplitude, rate = soundfile.read(io.BytesIO(f.readall()), always_2d=True, dtype="float32")
        yield from_rows([{"amplitude": amplitude.T, "sample_rate": rate}])
