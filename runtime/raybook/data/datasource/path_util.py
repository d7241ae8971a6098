"""Paths: which filesystem a path means, and which files are under it.

A path is a local one, or a URI of what pyarrow knows (s3, gs, hdfs, abfs) or fsspec knows (http, https and whatever is
installed). All paths of a read are on one filesystem. Knows nothing of formats.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote, unquote, urlparse

import pyarrow as pa
from pyarrow import fs as pafs

from raybook.data.datasource.retry import call_with_retry

NATIVE_SCHEMES = frozenset({"file", "s3", "s3a", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss", "mock"})
"""What `pyarrow.fs.FileSystem.from_uri` understands."""

COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4", ".br": "brotli", ".snappy": "snappy"}
"""By the last suffix of a file's name."""


def normalize_paths(paths: Any) -> list[str]:
    """The paths as strings. ValueError for none at all or for what is no path."""
    if isinstance(paths, (str, pathlib.PurePath)):
        return [str(paths)]
    if not isinstance(paths, (list, tuple)) or any(not isinstance(path, (str, pathlib.PurePath)) for path in paths):
        kind = type(paths).__name__
        raise ValueError(f"paths must be a str, a pathlib.Path or a list of those, got {kind}: {paths!r:.200}")
    if not paths:
        raise ValueError("Must provide at least one path: the list of paths is empty.")
    return [str(path) for path in paths]


def wrap_filesystem(filesystem: Any) -> pafs.FileSystem | None:
    """A pyarrow filesystem as it is, an fsspec one wrapped. TypeError for anything else."""
    if filesystem is None or isinstance(filesystem, pafs.FileSystem):
        return filesystem
    try:
        import fsspec
    except ImportError:
        fsspec = None
    if fsspec is None or not isinstance(filesystem, fsspec.spec.AbstractFileSystem):
        raise TypeError(
            "filesystem must be a pyarrow.fs.FileSystem or an fsspec.spec.AbstractFileSystem, "
            f"got: {type(filesystem).__name__}"
        )
    return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem))


def resolve_paths(paths: Any, filesystem: Any = None) -> tuple[list[str], pafs.FileSystem]:
    """The paths as the filesystem wants them (no scheme), and the filesystem: the given one, or what the first path
    names. ValueError for paths of two filesystems, ImportError when a scheme needs a package that is missing."""
    strings = normalize_paths(paths)
    given = wrap_filesystem(filesystem)
    if given is not None:
        return [_strip_scheme(path, given) for path in strings], given
    found: list[str] = []
    chosen: pafs.FileSystem | None = None
    first_scheme = _scheme_of(strings[0])
    for path in strings:
        if _scheme_of(path) != first_scheme:
            raise ValueError(
                f"All paths of one read must be on one filesystem, and {strings[0]!r} and {path!r} are not. Read them "
                "apart, and `union` the datasets."
            )
        if chosen is None:
            chosen, resolved = _from_uri(path)
        else:
            resolved = _strip_scheme(path, chosen)
        found.append(resolved)
    assert chosen is not None
    return found, chosen


def _scheme_of(path: str) -> str:
    scheme = urlparse(path, allow_fragments=False).scheme.lower()
    return {"local": "", "file": ""}.get(scheme, scheme) if "://" in path else ""


def _from_uri(path: str) -> tuple[pafs.FileSystem, str]:
    scheme = _scheme_of(path)
    if not scheme:
        return pafs.LocalFileSystem(), _local(path)
    if scheme in NATIVE_SCHEMES:
        uri = path.replace("s3a://", "s3://", 1) if scheme == "s3a" else path
        try:
            filesystem, resolved = pafs.FileSystem.from_uri(_quoted(uri))
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path!r} is no usable URI: {error}") from error
        return filesystem, unquote(resolved)
    try:
        import fsspec
    except ImportError as error:
        raise ImportError(
            f"{path!r} needs the package fsspec to be read ({scheme} is no scheme of pyarrow's). Install it: "
            "pip install fsspec"
        ) from error
    try:
        handler = fsspec.filesystem(scheme)
    except (ImportError, ValueError) as error:
        kind = ImportError if isinstance(error, ImportError) else ValueError
        raise kind(f"No filesystem for {path!r}: {error}") from error
    wrapped = pafs.PyFileSystem(pafs.FSSpecHandler(handler))
    return wrapped, _strip_scheme(path, wrapped)


def _quoted(uri: str) -> str:
    """Blanks and the like as a URI has them; names with `%` in them are taken to be quoted already."""
    scheme, _, rest = uri.partition("://")
    path, question, query = rest.partition("?")
    if "%" not in path:
        path = quote(path, safe="/:@=,+!~*'();&$")
    return f"{scheme}://{path}{question}{query}"


def _local(path: str) -> str:
    for prefix in ("local://", "file://"):
        if path.startswith(prefix):
            path = unquote(path[len(prefix) :]) if prefix == "file://" else path[len(prefix) :]
    return os.path.abspath(os.path.expanduser(path))


def _strip_scheme(path: str, filesystem: pafs.FileSystem) -> str:
    if isinstance(filesystem, pafs.LocalFileSystem):
        return _local(path)
    if isinstance(filesystem, pafs.PyFileSystem) and isinstance(filesystem.handler, pafs.FSSpecHandler):
        # http keeps its scheme: the address is the name.
        return str(filesystem.handler.fs._strip_protocol(path))
    if isinstance(filesystem, pafs.SubTreeFileSystem) or "://" not in path:
        return path.partition("://")[2] or path
    rest = path.partition("://")[2].partition("?")[0]
    head, slash, tail = rest.partition("/")
    return head.rpartition("@")[2] + slash + tail


def is_local(filesystem: pafs.FileSystem) -> bool:
    """Whether reading has no latency that threads could hide."""
    return isinstance(filesystem, pafs.LocalFileSystem)


def is_local_scheme(paths: Any) -> bool:
    """Whether the user says that only the driver's node has the files (``local://``). ValueError if only some do."""
    told = [path.startswith("local://") for path in normalize_paths(paths)]
    if any(told) and not all(told):
        raise ValueError(f"Either all paths begin with local:// or none does: {paths}")
    return all(told)


def expand(
    paths: Sequence[str], filesystem: pafs.FileSystem, ignore_missing_paths: bool = False
) -> Iterator[tuple[str, int | None]]:
    """Files under the paths with their sizes in bytes (None: unknown): a file is itself, a folder is what is below it,
    sorted, without names that begin with ``.`` or ``_``. FileNotFoundError for a path that is not there."""
    for path in paths:
        info = call_with_retry(partial(filesystem.get_file_info, path), f"look up {path!r}")
        if info.type is pafs.FileType.File or info.type is pafs.FileType.Unknown:
            yield path, info.size
        elif info.type is pafs.FileType.Directory:
            yield from _below(path, filesystem)
        elif not ignore_missing_paths:
            raise FileNotFoundError(
                f"{path!r} is not there (looked on {filesystem.type_name}). Nothing was read. Check the path, or pass "
                "ignore_missing_paths=True to go on without it."
            )


def _below(folder: str, filesystem: pafs.FileSystem) -> Iterator[tuple[str, int | None]]:
    selector = pafs.FileSelector(folder, recursive=True)
    found = call_with_retry(lambda: filesystem.get_file_info(selector), f"list {folder!r}")
    prefix = folder.rstrip("/") + "/"
    for info in sorted(found, key=lambda one: one.path):
        if info.type is not pafs.FileType.File:
            continue
        inside = info.path[len(prefix) :] if info.path.startswith(prefix) else info.path
        if not any(part.startswith((".", "_")) for part in inside.split("/")):
            yield info.path, info.size


def has_extension(path: str, extensions: Sequence[str] | str | None) -> bool:
    """Whether the file's name ends like one of these (with or without the dot, in any case); None: any name."""
    if extensions is None:
        return True
    wanted = [extensions] if isinstance(extensions, str) else extensions
    name = path.split("?", 1)[0].lower()
    return any(name.endswith("." + extension.lower().removeprefix(".")) for extension in wanted)


def compression_of(path: str) -> str | None:
    """What a file's name says it is compressed with; None: nothing."""
    return COMPRESSIONS.get(os.path.splitext(path.split("?", 1)[0])[1].lower())


def normalize_base(base_dir: str, filesystem: Any) -> str:
    """A partitioning's base as file paths have it, with a slash at its end; empty stays empty."""
    if not base_dir:
        return ""
    resolved = resolve_paths(base_dir, filesystem)[0][0]
    return resolved.rstrip("/") + "/"


def describe(paths: Sequence[str], shown: int = 3) -> str:
    """A few of the paths, for errors."""
    listed = ", ".join(repr(path) for path in paths[:shown])
    return f"{listed} and {len(paths) - shown} more" if len(paths) > shown else listed


__all__ = [
    "compression_of",
    "describe",
    "expand",
    "has_extension",
    "is_local",
    "is_local_scheme",
    "normalize_base",
    "normalize_paths",
    "resolve_paths",
    "wrap_filesystem",
]
