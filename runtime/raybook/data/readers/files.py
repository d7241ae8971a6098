"""Files of text, bytes, images, arrays, records, samples, videos and sound. Paths and common arguments as in `tabular`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybook.data.datasource.binary_datasource import BinaryDatasource
from raybook.data.datasource.image_datasource import ImageDatasource
from raybook.data.datasource.numpy_datasource import NumpyDatasource
from raybook.data.datasource.text_datasource import TextDatasource
from raybook.data.datasource.tfrecords_datasource import TFRecordDatasource
from raybook.data.datasource.video_datasource import AudioDatasource, VideoDatasource
from raybook.data.datasource.webdataset_datasource import WebDatasetDatasource
from raybook.data.readers.options import ReadOptions, reader

if TYPE_CHECKING:
    from raybook.data.dataset import Dataset
    from raybook.data.datasource.file_based_datasource import FileShuffleConfig
    from raybook.data.datasource.partitioning import Partitioning, PathPartitionFilter


@reader
def read_text(
    paths: str | list[str],
    *,
    encoding: str = "utf-8",
    drop_empty_lines: bool = True,
    filesystem: Any = None,
    arrow_open_stream_args: dict[str, Any] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: str | FileShuffleConfig | None = None,
    file_extensions: list[str] | None = None,
    options: ReadOptions,
) -> Dataset:
    """A dataset of lines, in the column `text`. LookupError for an unknown encoding."""
    return options.read(
        TextDatasource(
            paths,
            encoding=encoding,
            drop_empty_lines=drop_empty_lines,
            filesystem=filesystem,
            open_stream_args=arrow_open_stream_args,
            partition_filter=partition_filter,
            partitioning=partitioning,
            include_paths=include_paths,
            ignore_missing_paths=ignore_missing_paths,
            shuffle=shuffle,
            file_extensions=file_extensions,
        )
    )


@reader
def read_binary_files(
    paths: str | list[str],
    *,
    include_paths: bool = False,
    filesystem: Any = None,
    arrow_open_stream_args: dict[str, Any] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = None,
    ignore_missing_paths: bool = False,
    shuffle: str | FileShuffleConfig | None = None,
    file_extensions: list[str] | None = None,
    options: ReadOptions,
) -> Dataset:
    """A dataset of files, a row each, in the column `bytes`. Compressed ones by name are decompressed."""
    return options.read(
        BinaryDatasource(
            paths,
            filesystem=filesystem,
            open_stream_args=arrow_open_stream_args,
            partition_filter=partition_filter,
            partitioning=partitioning,
            include_paths=include_paths,
            ignore_missing_paths=ignore_missing_paths,
            shuffle=shuffle,
            file_extensions=file_extensions,
        )
    )


@reader
def read_images(
    paths: str | list[str],
    *,
    filesystem: Any = None,
    arrow_open_file_args: dict[str, Any] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = None,
    size: tuple[int, int] | None = None,
    mode: str | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: str | FileShuffleConfig | None = None,
    file_extensions: list[str] | None = ImageDatasource._FILE_EXTENSIONS,
    options: ReadOptions,
) -> Dataset:
    """A dataset of images, in the column `image`: arrays of (height, width, channels), or (height, width) in grey.

    size: (height, width) to resize to; ValueError unless two positive numbers. mode: to convert to ("RGB", "L"). Images of
    one shape are a tensor column; of several, each row has its own array. Needs pillow.
    """
    return options.read(
        ImageDatasource(
            paths,
            size=size,
            mode=mode,
            filesystem=filesystem,
            open_stream_args=arrow_open_file_args,
            partition_filter=partition_filter,
            partitioning=partitioning,
            include_paths=include_paths,
            ignore_missing_paths=ignore_missing_paths,
            shuffle=shuffle,
            file_extensions=file_extensions,
        )
    )


@reader
def read_numpy(
    paths: str | list[str],
    *,
    filesystem: Any = None,
    arrow_open_stream_args: dict[str, Any] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    shuffle: str | FileShuffleConfig | None = None,
    file_extensions: list[str] | None = NumpyDatasource._FILE_EXTENSIONS,
    allow_pickle: bool = False,
    options: ReadOptions,
    **numpy_load_args: Any,
) -> Dataset:
    """A dataset of ``.npy`` files, rows along the first axis, in the column `data`.

    allow_pickle: load arrays of objects, which can run code of whoever wrote them. numpy_load_args: of `numpy.load`.
    """
    return options.read(
        NumpyDatasource(
            paths,
            numpy_load_args=numpy_load_args,
            allow_pickle=allow_pickle,
            filesystem=filesystem,
            open_stream_args=arrow_open_stream_args,
            partition_filter=partition_filter,
            partitioning=partitioning,
            include_paths=include_paths,
            ignore_missing_paths=ignore_missing_paths,
            shuffle=shuffle,
            file_extensions=file_extensions,
        )
    )


@reader
def read_tfrecords(
    paths: str | list[str],
    *,
    filesystem: Any = None,
    arrow_open_stream_args: dict[str, Any] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    tf_schema: Any = None,
    shuffle: str | FileShuffleConfig | None = None,
    file_extensions: list[str] | None = None,
    tfx_read_options: Any = None,
    options: ReadOptions,
) -> Dataset:
    """A dataset of TFRecord files of `tf.train.Example`, a column a feature.

    Without tf_schema a feature that has one value in every row is that value, else a list. tf_schema: a tensorflow_metadata
    Schema; then all are lists of the told type. Needs no TensorFlow; tfx_read_options is without effect.
    """
    return options.read(
        TFRecordDatasource(
            paths,
            tf_schema=tf_schema,
            filesystem=filesystem,
            open_stream_args=arrow_open_stream_args,
            partition_filter=partition_filter,
            include_paths=include_paths,
            ignore_missing_paths=ignore_missing_paths,
            shuffle=shuffle,
            file_extensions=file_extensions,
        )
    )


@reader
def read_webdataset(
    paths: str | list[str],
    *,
    filesystem: Any = None,
    arrow_open_stream_args: dict[str, Any] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    decoder: Any = True,
    fileselect: Any = None,
    filerename: Any = None,
    suffixes: Any = None,
    verbose_open: bool = False,
    shuffle: str | FileShuffleConfig | None = None,
    include_paths: bool = False,
    file_extensions: list[str] | None = None,
    expand_json: bool = False,
    options: ReadOptions,
) -> Dataset:
    """A dataset of WebDataset archives: a row a sample, a column an extension, and `__key__` and `__url__`.

    decoder: True the default by extension, None bytes as they are, a function from a sample to a sample, or a list of
    those. fileselect, suffixes: lists of patterns or functions that say which members count. filerename: a function on
    members' names. expand_json: fields of the member `json` become columns.
    """
    return options.read(
        WebDatasetDatasource(
            paths,
            decoder=decoder,
            fileselect=fileselect,
            filerename=filerename,
            suffixes=suffixes,
            verbose_open=verbose_open,
            expand_json=expand_json,
            filesystem=filesystem,
            open_stream_args=arrow_open_stream_args,
            partition_filter=partition_filter,
            shuffle=shuffle,
            include_paths=include_paths,
            file_extensions=file_extensions,
        )
    )


@reader
def read_videos(
    paths: str | list[str],
    *,
    filesystem: Any = None,
    arrow_open_stream_args: dict[str, Any] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = None,
    include_paths: bool = False,
    include_timestamps: bool = False,
    fps: int | None = None,
    resize: tuple[int, int] | None = None,
    ignore_missing_paths: bool = False,
    file_extensions: list[str] | None = VideoDatasource._FILE_EXTENSIONS,
    shuffle: str | None = None,
    options: ReadOptions,
) -> Dataset:
    """A dataset of frames, in the columns `frame` and `frame_index`. fps: frames a second to take. Needs decord."""
    return options.read(
        VideoDatasource(
            paths,
            include_timestamps=include_timestamps,
            fps=fps,
            resize=resize,
            filesystem=filesystem,
            open_stream_args=arrow_open_stream_args,
            partition_filter=partition_filter,
            partitioning=partitioning,
            include_paths=include_paths,
            ignore_missing_paths=ignore_missing_paths,
            file_extensions=file_extensions,
            shuffle=shuffle,
        )
    )


@reader
def read_audio(
    paths: str | list[str],
    *,
    filesystem: Any = None,
    arrow_open_stream_args: dict[str, Any] | None = None,
    partition_filter: PathPartitionFilter | None = None,
    partitioning: Partitioning | None = None,
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    file_extensions: list[str] | None = AudioDatasource._FILE_EXTENSIONS,
    shuffle: str | None = None,
    options: ReadOptions,
) -> Dataset:
    """A dataset of sounds, in the columns `amplitude` (channels, samples) and `sample_rate`. Needs soundfile."""
    return options.read(
        AudioDatasource(
            paths,
            filesystem=filesystem,
            open_stream_args=arrow_open_stream_args,
            partition_filter=partition_filter,
            partitioning=partitioning,
            include_paths=include_paths,
            ignore_missing_paths=ignore_missing_paths,
            file_extensions=file_extensions,
            shuffle=shuffle,
        )
    )
