"""Filesystem: the files of this machine and of any pyarrow or fsspec filesystem, behind the few verbs that runs need.

Knows paths and bytes; does not know what they mean. `None` stands for this machine's own files: those are handled
without pyarrow, whose import takes a fifth of a second that a run in a local folder need not wait for.
Invariant: `write_bytes` and `publish` never show a reader a part, where the filesystem can rename (object stores show a
written object whole or not at all; a folder of theirs is a prefix, so who lists one must ask the run's records).
"""

from __future__ import annotations

import os
import posixpath
import secrets
import shutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

PARTIAL_PREFIX = ".partial-"
# Large writes keep the number of requests down on object stores.
COPY_CHUNK_BYTES = 64 * 1024 * 1024


def resolve(path: str | os.PathLike[str], filesystem: Any | None = None) -> tuple[FileSystem | None, str]:
    """Return (filesystem, path without its scheme). filesystem: what the user gave; then path has no scheme.

    None as filesystem stands for this machine's files. Raises ValueError for a scheme that neither pyarrow nor an
    installed fsspec knows.
    """
    text = os.fspath(path)
    if filesystem is not None:
        return (None if is_local(filesystem) else _as_arrow(filesystem)), text
    if text.startswith("file://"):
        return None, text[len("file://") :] or "/"
    if "://" not in text:
        return None, text
    return _from_uri(text)


def arrow_filesystem(filesystem: FileSystem | None) -> FileSystem:
    """Return the filesystem as pyarrow has it, also that of this machine. Imports pyarrow."""
    if filesystem is not None:
        return filesystem
    import pyarrow.fs

    return pyarrow.fs.LocalFileSystem()


def is_local(filesystem: Any | None) -> bool:
    """Ask whether this is the filesystem of the machine itself. Imports nothing."""
    return filesystem is None or type(filesystem).__name__ == "LocalFileSystem"


def _as_arrow(filesystem: Any) -> FileSystem:
    import pyarrow.fs

    if isinstance(filesystem, pyarrow.fs.FileSystem):
        return filesystem
    if hasattr(filesystem, "protocol") and hasattr(filesystem, "ls"):  # An fsspec filesystem.
        return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(filesystem))
    raise TypeError(f"A filesystem is one of pyarrow.fs or fsspec, not {filesystem!r}.")


def _from_uri(uri: str) -> tuple[FileSystem, str]:
    import pyarrow
    import pyarrow.fs

    try:
        return pyarrow.fs.FileSystem.from_uri(uri)
    except pyarrow.ArrowInvalid as refusal:
        scheme = uri.partition("://")[0]
        try:
            import fsspec

            filesystem, path = fsspec.core.url_to_fs(uri)
        except (ImportError, ValueError) as error:
            raise ValueError(
                f"{uri!r} is on {scheme!r} storage, which neither pyarrow ({refusal}) nor fsspec ({error}) can open. "
                "Give a path or URI that one of them knows, or pass the filesystem itself (storage_filesystem=)."
            ) from error
        return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(filesystem)), path


def exists(filesystem: FileSystem | None, path: str) -> bool:
    """Ask whether there is a file or folder at path."""
    if filesystem is None:
        return os.path.exists(path)
    import pyarrow.fs

    return filesystem.get_file_info(path).type != pyarrow.fs.FileType.NotFound


def make_folder(filesystem: FileSystem | None, path: str) -> None:
    """Make the folder and its parents; one that is there already is fine."""
    if filesystem is None:
        os.makedirs(path, exist_ok=True)
    else:
        filesystem.create_dir(path, recursive=True)


def names_in(filesystem: FileSystem | None, path: str) -> list[str]:
    """Return the sorted names in a folder, [] if there is no such folder."""
    if filesystem is None:
        return sorted(os.listdir(path)) if os.path.isdir(path) else []
    import pyarrow.fs

    found = filesystem.get_file_info(pyarrow.fs.FileSelector(path, allow_not_found=True))
    return sorted(info.base_name for info in found)


def read_bytes(filesystem: FileSystem | None, path: str) -> bytes:
    """Return a file's content. Raises FileNotFoundError."""
    if filesystem is None:
        with open(path, "rb") as file:
            return file.read()
    with filesystem.open_input_stream(path) as stream:
        return stream.read()


def write_bytes(filesystem: FileSystem | None, path: str, data: bytes) -> None:
    """Replace a file in one step: written aside, then renamed. The folder must exist."""
    folder, name = posixpath.split(path)
    aside = posixpath.join(folder, f"{PARTIAL_PREFIX}{name}.{secrets.token_hex(4)}")
    if filesystem is None:
        try:
            with open(aside, "wb") as file:
                file.write(data)
            os.replace(aside, path)
        except OSError:
            if os.path.exists(aside):
                os.unlink(aside)
            raise
        return
    if _renames(filesystem):
        with filesystem.open_output_stream(aside) as stream:
            stream.write(data)
        try:
            filesystem.move(aside, path)
        except OSError:  # Some refuse to move onto a file that is there.
            filesystem.delete_file(path)
            filesystem.move(aside, path)
        return
    with filesystem.open_output_stream(path) as stream:
        stream.write(data)


def copy_folder(
    source_filesystem: FileSystem | None, source: str, target_filesystem: FileSystem | None, target: str
) -> None:
    """Copy what is in folder source into folder target, which is made. Raises FileNotFoundError, OSError."""
    if source_filesystem is None and target_filesystem is None:
        if not os.path.isdir(source):
            raise FileNotFoundError(f"There is no folder {source!r} to copy.")
        shutil.copytree(source, target, dirs_exist_ok=True)
        return
    import pyarrow.fs

    local = pyarrow.fs.LocalFileSystem()
    make_folder(target_filesystem, target)
    if source_filesystem is not None and source_filesystem.type_name.startswith("py::"):
        _copy_file_by_file(source_filesystem, source, target_filesystem or local, target)
        return
    pyarrow.fs.copy_files(
        source,
        target,
        source_filesystem=source_filesystem or local,
        destination_filesystem=target_filesystem or local,
        chunk_size=COPY_CHUNK_BYTES,
        # Threads together with multi-part uploads have hung in pyarrow's S3 client.
        use_threads=getattr(target_filesystem, "type_name", "") != "s3",
    )


def _copy_file_by_file(source_filesystem: FileSystem, source: str, target_filesystem: FileSystem, target: str) -> None:
    """For filesystems of fsspec: some name paths from a root that pyarrow's own copy takes for another place."""
    import pyarrow.fs

    for info in source_filesystem.get_file_info(pyarrow.fs.FileSelector(source, recursive=True)):
        path = posixpath.join(target, posixpath.relpath(info.path.lstrip("/"), source.strip("/")))
        if info.type == pyarrow.fs.FileType.Directory:
            target_filesystem.create_dir(path, recursive=True)
            continue
        target_filesystem.create_dir(posixpath.dirname(path), recursive=True)
        with (
            source_filesystem.open_input_stream(info.path) as read,
            target_filesystem.open_output_stream(path) as write,
        ):
            while chunk := read.read(COPY_CHUNK_BYTES):
                write.write(chunk)


def publish(filesystem: FileSystem | None, aside: str, path: str) -> None:
    """Give a folder that was written aside its name, in one step where the filesystem can rename. Replaces a leftover."""
    if filesystem is None:
        if os.path.exists(path):
            delete(filesystem, path)
        os.rename(aside, path)
        return
    if exists(filesystem, path):
        filesystem.delete_dir(path)
    filesystem.move(aside, path)


def can_publish(filesystem: FileSystem | None) -> bool:
    """Ask whether `publish` works here; else write to the final name, and let the run's records say what is whole."""
    return filesystem is None or _renames(filesystem)


def _renames(filesystem: FileSystem) -> bool:
    """Object stores have no folders to rename."""
    name = filesystem.type_name
    return name not in ("s3", "gcs", "abfs") and not name.startswith(("py::fsspec+s3", "py::fsspec+g", "py::fsspec+ab"))


def delete(filesystem: FileSystem | None, path: str) -> None:
    """Delete a file or folder; a folder here vanishes at once, by a rename. What is gone already is fine."""
    if filesystem is None:
        if not os.path.isdir(path) or os.path.islink(path):
            if os.path.lexists(path):
                os.unlink(path)
            return
        folder, name = os.path.split(path.rstrip("/"))
        aside = os.path.join(folder, f"{PARTIAL_PREFIX}{name}-deleted-{secrets.token_hex(4)}")
        try:
            os.rename(path, aside)
        except FileNotFoundError:
            return
        shutil.rmtree(aside, ignore_errors=True)
        return
    import pyarrow.fs

    found = filesystem.get_file_info(path).type
    if found == pyarrow.fs.FileType.Directory:
        filesystem.delete_dir(path)
    elif found != pyarrow.fs.FileType.NotFound:
        filesystem.delete_file(path)
