"""WebDataset archives: tar files in which neighbouring members of one base name are a sample, a column an extension.

Members are decoded by extension: text, class numbers, JSON, images, arrays. Pickles and torch files can run code of whoever
wrote them, and are refused unless RAYBOOK_DATA_WEBDATASET_ALLOW_UNSAFE_DESERIALIZATION (or Ray's name of it) is set.
"""

from __future__ import annotations

import fnmatch
import io
import json
import os
import pickle
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from raybook.data.datasource.optional import require

UNSAFE_VARIABLES = (
    "RAYBOOK_DATA_WEBDATASET_ALLOW_UNSAFE_DESERIALIZATION",
    "RAY_DATA_WEBDATASET_ALLOW_UNSAFE_DESERIALIZATION",
)
IMAGES = frozenset({"jpg", "jpeg", "png", "ppm", "pgm", "pbm", "pnm"})
_NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")

Sample = dict[str, Any]
Stages = Any
"""None, a function, True or a format of the default one, or a list of those."""


def apply_stages(stages: Stages, value: Any, default: Callable[..., Any] | None = None) -> Any:
    """The value through each stage in turn."""
    if stages is None:
        return value
    for stage in stages if isinstance(stages, list) else [stages]:
        function = stage if callable(stage) or default is None else partial(default, format=stage)
        value = function(value)
    return value


def is_wanted(name: str, patterns: Any) -> bool:
    """Whether a suffix passes: patterns are None, a function, or a list of suffixes and wildcards."""
    if patterns is None:
        return True
    if callable(patterns):
        return bool(patterns(name))
    for pattern in patterns:
        if "*" in pattern or "?" in pattern:
            if fnmatch.fnmatch("." + name, pattern) or fnmatch.fnmatch(name, pattern):
                return True
        elif pattern in (name, "." + name):
            return True
    return False


def group_samples(members: Iterable[tuple[str, bytes]], url: str, suffixes: Any = None) -> Iterator[Sample]:
    """Samples of (name, bytes) in the order of the archive. ValueError when a sample's members are not side by side, or
    when a name comes twice."""
    current: Sample | None = None
    seen: set[str] = set()
    for name, value in members:
        match = _NAME.match(name)
        if match is None:
            continue
        key, suffix = match.groups()
        if current is None or key != current["__key__"]:
            if current is not None:
                seen.add(current["__key__"])
                yield current
            if key in seen:
                raise ValueError(
                    f"WebDataset tar entries for key '{key}' are not contiguous in the archive (tar is {url}). Members of "
                    "one sample (the base name before the first '.') must be adjacent. Make the archive anew with its "
                    "entries sorted by name: tar --sort=name ..."
                )
            current = {"__key__": key, "__url__": url}
        if suffix in current:
            raise ValueError(f"{name}: duplicate file name in tar file {url}")
        if is_wanted(suffix, suffixes):
            current[suffix] = value
    if current is not None:
        yield current


def decode(sample: Sample, format: Any = True) -> Sample:
    """The default decoder. format: "PIL" for images as Pillow's, anything else for arrays."""
    return {key: value if key.startswith("__") else _decoded(key, value, format) for key, value in sample.items()}


def _decoded(key: str, value: bytes, format: Any) -> Any:
    extension = key.rpartition(".")[2].lower()
    if extension in ("txt", "text"):
        return value.decode()
    if extension in ("cls", "cls2"):
        return int(value.decode())
    if extension in IMAGES:
        image = require("PIL.Image", "pillow", f"Decoding .{extension}").open(io.BytesIO(value))
        return image if format == "PIL" else np.asarray(image)
    if extension == "json":
        return json.loads(value)
    if extension == "npy":
        return np.load(io.BytesIO(value))
    if extension == "mp":
        return require("msgpack", "msgpack", "Decoding .mp").unpackb(value, raw=False)
    if extension in ("pt", "pth", "pickle", "pkl"):
        return _unpickled(key, extension, value)
    return value


def _unpickled(key: str, extension: str, value: bytes) -> Any:
    if not any(os.environ.get(name, "0").lower() in ("1", "true") for name in UNSAFE_VARIABLES):
        raise ValueError(
            f"Refusing to load WebDataset member {key!r}: .{extension} files can run code of whoever wrote them. Pass a "
            f"decoder of your own, or set {UNSAFE_VARIABLES[0]}=1 for sources that you trust."
        )
    if extension in ("pt", "pth"):
        return require("torch", "torch", f"Decoding .{extension}").load(io.BytesIO(value), weights_only=False)
    return pickle.loads(value)


def encode(sample: Sample, format: Any = True) -> Sample:
    """The default encoder: values as the bytes that their extension means."""
    return {key: value if key.startswith("__") else _encoded(key, value) for key, value in sample.items()}


def _encoded(key: str, value: Any) -> Any:
    extension = key.rpartition(".")[2].lower()
    if value is None or isinstance(value, bytes):
        return value
    if extension in ("txt", "text"):
        return str(value).encode()
    if extension in ("cls", "cls2"):
        return str(value).encode()
    if extension == "json":
        return json.dumps(value, default=lambda item: item.tolist() if hasattr(item, "tolist") else str(item)).encode()
    if extension == "mp":
        return require("msgpack", "msgpack", "Encoding .mp").dumps(value)
    stream = io.BytesIO()
    if extension in IMAGES:
        image = value
        if isinstance(value, np.ndarray):
            image = require("PIL.Image", "pillow", f"Encoding .{extension}").fromarray(value)
        image.save(stream, format={"jpg": "jpeg"}.get(extension, extension))
    elif extension == "npy":
        np.save(stream, np.asarray(value))
    elif extension in ("pt", "pth"):
        require("torch", "torch", f"Encoding .{extension}").save(value, stream)
    elif extension in ("pickle", "pkl"):
        pickle.dump(value, stream)
    else:
        return value
    return stream.getvalue()
