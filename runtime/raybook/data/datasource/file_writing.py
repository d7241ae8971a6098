"""Writing a file so that it is there whole or not at all.

Local files are written beside under a name that readers skip, and moved. Object stores have no move, but show a file
only when it is complete: the bytes are made in memory first, so that an error while making them closes no half a file, and
a hiccup of the store costs only sending them again.
"""

from __future__ import annotations

import posixpath
import uuid
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from pyarrow import fs as pafs

from raybook.data.datasource.path_util import compression_of, is_local
from raybook.data.datasource.retry import call_with_retry


def write_file(
    filesystem: pafs.FileSystem, path: str, fill: Callable[[pa.NativeFile], Any], open_args: dict[str, Any]
) -> int:
    """Make the file `path` with what `fill` writes into the stream it is given. Returns the bytes written before
    compression. open_args: of `open_output_stream`; the codec follows from the name if they do not say it."""
    arguments = dict(open_args)
    codec = compression_of(path)
    arguments.setdefault("compression", None if codec == "snappy" else codec)
    if is_local(filesystem):
        return call_with_retry(lambda: _write_and_move(filesystem, path, fill, arguments), f"write {path!r}")
    buffer = pa.BufferOutputStream()
    fill(buffer)
    data = buffer.getvalue()

    def send() -> int:
        with filesystem.open_output_stream(path, **arguments) as stream:
            stream.write(data)
        return data.size

    return call_with_retry(send, f"write {path!r}")


def _write_and_move(
    filesystem: pafs.FileSystem, path: str, fill: Callable[[pa.NativeFile], Any], arguments: dict[str, Any]
) -> int:
    folder, name = posixpath.split(path)
    beside = posixpath.join(folder, f".{name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with filesystem.open_output_stream(beside, **arguments) as stream:
            fill(stream)
            size = stream.tell() if arguments["compression"] is None else 0
        filesystem.move(beside, path)
    except BaseException:
        if filesystem.get_file_info(beside).type is pafs.FileType.File:
            filesystem.delete_file(beside)
        raise
    return size
