"""Partitions in paths: ``year=2024/month=01`` (Hive) or ``2024/01`` (directories with field names given).

Decides from a file's path alone which values its rows share, and whether a filter wants them.
"""

from __future__ import annotations

import posixpath
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pyarrow as pa

from raybook.data.datasource.path_util import normalize_base, resolve_paths

PartitionDataType = type
"""int, float, str or bool."""

NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
"""What Hive and pyarrow write for a missing value."""

_ARROW_TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}


class PartitionStyle(str, Enum):
    """How values are written in paths."""

    HIVE = "hive"
    DIRECTORY = "dir"


@dataclass
class Partitioning:
    """A way to write partitions in paths.

    style: "hive" or "dir". base_dir: only what is below it counts; files elsewhere have no partition. field_names: needed
    for "dir", where they name the values in order. field_types: int, float, str or bool by name; str where not given.
    """

    style: PartitionStyle | str
    base_dir: str | None = None
    field_names: list[str] | None = None
    field_types: dict[str, PartitionDataType] | None = None
    filesystem: Any = None
    _normalized_base_dir: str | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.base_dir = self.base_dir or ""
        self.field_types = self.field_types or {}

    @property
    def normalized_base_dir(self) -> str:
        """The base as the filesystem's paths have it, with a slash at its end; "" without a base."""
        if self._normalized_base_dir is None:
            self._normalized_base_dir = normalize_base(self.base_dir or "", self.filesystem)
        return self._normalized_base_dir

    @property
    def resolved_filesystem(self) -> Any:
        """The filesystem of the base."""
        return resolve_paths(self.base_dir or ".", self.filesystem)[1]

    def to_pyarrow(self) -> Any:
        """The same as pyarrow.dataset has it. ValueError for an unknown style."""
        import pyarrow.dataset as pads

        types = self.field_types or {}
        schema = pa.schema(
            [(name, _ARROW_TYPES[types.get(name, str)]) for name in self.field_names or list(types) or []]
        )
        if self.style == PartitionStyle.HIVE:
            return pads.HivePartitioning(schema)
        if self.style == PartitionStyle.DIRECTORY:
            return pads.DirectoryPartitioning(schema)
        raise ValueError(f"Unsupported partition style: {self.style}")


class PathPartitionParser:
    """Reads the partition's values from a path: ``PathPartitionParser.of("hive")("a/year=2024/f.csv")`` is
    ``{"year": "2024"}``. Files without a partition give an empty dictionary."""

    @staticmethod
    def of(
        style: PartitionStyle | str = PartitionStyle.HIVE,
        base_dir: str | None = None,
        field_names: list[str] | None = None,
        field_types: dict[str, PartitionDataType] | None = None,
        filesystem: Any = None,
    ) -> PathPartitionParser:
        """A parser of `Partitioning` with these fields."""
        return PathPartitionParser(Partitioning(style, base_dir, field_names, field_types, filesystem))

    def __init__(self, partitioning: Partitioning) -> None:
        style = partitioning.style
        if style not in (PartitionStyle.HIVE, PartitionStyle.DIRECTORY):
            styles = [one.value for one in PartitionStyle]
            raise ValueError(f"Unsupported partition style: {style}. Supported styles: {styles}")
        if style == PartitionStyle.DIRECTORY and not partitioning.field_names:
            raise ValueError(
                "Directory partitioning requires a corresponding list of partition key field names. Please retry your "
                "request with one or more field names specified."
            )
        self._scheme = partitioning

    @property
    def scheme(self) -> Partitioning:
        return self._scheme

    def __call__(self, path: str) -> dict[str, Any]:
        """Values by field name. ValueError when the path's directories do not fit the field names or types."""
        base = self._scheme.normalized_base_dir
        if not path.startswith(base):
            return {}
        folders = [part for part in posixpath.dirname(path[len(base) :]).split("/") if part]
        values = self._hive(folders) if self._scheme.style == PartitionStyle.HIVE else self._directories(folders)
        for name, kind in (self._scheme.field_types or {}).items():
            if name in values and values[name] is not None:
                values[name] = _cast(name, values[name], kind, path)
        return values

    def _hive(self, folders: list[str]) -> dict[str, Any]:
        pairs = [folder.split("=") for folder in folders if folder.count("=") == 1]
        values = {key: _unquoted(value) for key, value in pairs}
        names = self._scheme.field_names
        if names and pairs:
            if len(pairs) != len(names):
                raise ValueError(f"Expected {len(names)} partition value(s) but found {len(pairs)}: {pairs}.")
            for (key, _), name in zip(pairs, names, strict=True):
                if key != name:
                    raise ValueError(f"Expected partition key {name} but found {key}")
        return values

    def _directories(self, folders: list[str]) -> dict[str, Any]:
        names = self._scheme.field_names or []
        if not folders:
            return {}
        if len(folders) != len(names):
            raise ValueError(f"Expected {len(names)} partition value(s) but found {len(folders)}: {folders}.")
        return {name: value for name, value in zip(names, folders, strict=True) if name is not None}


class PathPartitionFilter:
    """Keeps the files whose partition a function likes: it gets the values by name, as text unless typed, and an empty
    dictionary for files without a partition."""

    @staticmethod
    def of(
        filter_fn: Callable[[dict[str, Any]], bool],
        style: PartitionStyle | str = PartitionStyle.HIVE,
        base_dir: str | None = None,
        field_names: list[str] | None = None,
        field_types: dict[str, PartitionDataType] | None = None,
        filesystem: Any = None,
    ) -> PathPartitionFilter:
        """A filter with a parser of `Partitioning` with these fields."""
        return PathPartitionFilter(
            PathPartitionParser.of(style, base_dir, field_names, field_types, filesystem), filter_fn
        )

    def __init__(self, path_partition_parser: PathPartitionParser, filter_fn: Callable[[dict[str, Any]], bool]) -> None:
        self._parser, self._filter_fn = path_partition_parser, filter_fn

    @property
    def parser(self) -> PathPartitionParser:
        return self._parser

    def __call__(self, paths: list[str]) -> list[str]:
        """Those of the paths that pass."""
        return [path for path in paths if self.apply(path)]

    def apply(self, path: str) -> bool:
        """Whether this path passes."""
        return bool(self._filter_fn(self._parser(path)))


def partition_folder(values: dict[str, Any]) -> str:
    """The Hive path of these values: ``{"a": 1, "b": "x y"}`` is ``a=1/b=x%20y``."""
    return "/".join(f"{name}={_quoted(value)}" for name, value in values.items())


def add_partitions(table: pa.Table, values: dict[str, Any]) -> pa.Table:
    """The table with a column for each value. ValueError when the file itself has such a column with other values."""
    for name, value in values.items():
        index = table.schema.get_field_index(name)
        if index < 0:
            kind = pa.scalar(value).type if value is not None else pa.string()
            table = table.append_column(name, pa.repeat(pa.scalar(value, kind), table.num_rows))
            continue
        kind = table.schema.field(index).type
        try:
            column = pa.repeat(pa.scalar(value).cast(kind), table.num_rows)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ValueError(f"Partition value {value!r} for field {name!r} cannot be cast to type {kind}.") from error
        if not table.column(index).combine_chunks().equals(pa.chunked_array([column]).combine_chunks()):
            found = table.column(index).unique().to_pylist()
            raise ValueError(
                f"Partition column {name} exists in table data, but partition value '{value}' is different from in-data "
                f"values: {found!r:.200}."
            )
        table = table.set_column(index, name, column)
    return table


def _unquoted(value: str) -> str | None:
    return None if value == NULL_PARTITION else urllib.parse.unquote(value)


def _quoted(value: Any) -> str:
    return NULL_PARTITION if value is None else urllib.parse.quote(str(value), safe="")


def _cast(name: str, value: str, kind: type, path: str) -> Any:
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[value.lower()]
        return kind(value)
    except (ValueError, KeyError) as error:
        raise ValueError(f"Partition {name}={value} of {path!r} is no {kind.__name__}.") from error
