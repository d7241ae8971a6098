"""Functions of one type each, under its name: ``col("s").str.upper()``, ``col("t").dt.year()``.

All of them are Arrow's compute functions on whole columns.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raybook.data.columns import to_arrow, to_numpy
from raybook.data.expression_nodes import Expr, UDFExpr, compute_call, register_namespace


class Namespace:
    def __init__(self, expr: Expr) -> None:
        self._expr = expr

    def _call(self, function: str, **options: Any) -> UDFExpr:
        return compute_call(function, self._expr, **options)


def _plain(name: str, function: str) -> Any:
    def call(self: Namespace) -> UDFExpr:
        return self._call(function)

    call.__name__, call.__doc__ = name, f"Arrow's `{function}` of each value."
    return call


def _with_pattern(name: str, function: str) -> Any:
    def call(self: Namespace, pattern: str, **options: Any) -> UDFExpr:
        return self._call(function, pattern=pattern, **options)

    call.__name__, call.__doc__ = name, f"Arrow's `{function}` of each value, with its options by keyword."
    return call


@register_namespace
class StringNamespace(Namespace):
    """Of strings (UTF-8). Lengths and positions count characters, but for `byte_len`."""

    len = _plain("len", "utf8_length")
    byte_len = _plain("byte_len", "binary_length")
    reverse = _plain("reverse", "utf8_reverse")
    starts_with = _with_pattern("starts_with", "starts_with")
    ends_with = _with_pattern("ends_with", "ends_with")
    contains = _with_pattern("contains", "match_substring")
    match = _with_pattern("match", "match_like")
    find = _with_pattern("find", "find_substring")
    count = _with_pattern("count", "count_substring")
    find_regex = _with_pattern("find_regex", "find_substring_regex")
    count_regex = _with_pattern("count_regex", "count_substring_regex")
    match_regex = _with_pattern("match_regex", "match_substring_regex")
    split = _with_pattern("split", "split_pattern")
    split_regex = _with_pattern("split_regex", "split_pattern_regex")
    extract = _with_pattern("extract", "extract_regex")

    def slice(self, start: int, stop: int | None = None, step: int = 1) -> UDFExpr:
        return self._call("utf8_slice_codeunits", start=start, stop=stop, step=step)

    def replace(self, pattern: str, replacement: str, max_replacements: int | None = None) -> UDFExpr:
        return self._call(
            "replace_substring", pattern=pattern, replacement=replacement, max_replacements=max_replacements
        )

    def replace_regex(self, pattern: str, replacement: str, max_replacements: int | None = None) -> UDFExpr:
        return self._call(
            "replace_substring_regex", pattern=pattern, replacement=replacement, max_replacements=max_replacements
        )

    def replace_slice(self, start: int, stop: int, replacement: str) -> UDFExpr:
        return self._call("utf8_replace_slice", start=start, stop=stop, replacement=replacement)

    def split_whitespace(self, **options: Any) -> UDFExpr:
        return self._call("utf8_split_whitespace", **options)

    def repeat(self, n: int) -> UDFExpr:
        return compute_call("binary_repeat", self._expr, n)

    def center(self, width: int, padding: str = " ") -> UDFExpr:
        return self._call("utf8_center", width=width, padding=padding)

    def lpad(self, width: int, padding: str = " ") -> UDFExpr:
        return self._call("utf8_lpad", width=width, padding=padding)

    def rpad(self, width: int, padding: str = " ") -> UDFExpr:
        return self._call("utf8_rpad", width=width, padding=padding)

    def pad(self, width: int, fillchar: str = " ", side: str = "right") -> UDFExpr:
        """side: "right" fills on the right, "left" on the left, "both" centres."""
        functions = {"right": "utf8_rpad", "left": "utf8_lpad", "both": "utf8_center"}
        if side not in functions:
            raise ValueError("side must be 'left', 'right', or 'both'")
        return self._call(functions[side], width=width, padding=fillchar)

    def strip(self, characters: str | None = None) -> UDFExpr:
        return self._trim("utf8_trim", characters)

    def lstrip(self, characters: str | None = None) -> UDFExpr:
        return self._trim("utf8_ltrim", characters)

    def rstrip(self, characters: str | None = None) -> UDFExpr:
        return self._trim("utf8_rtrim", characters)

    def _trim(self, function: str, characters: str | None) -> UDFExpr:
        if characters is None:
            return self._call(f"{function}_whitespace")
        return self._call(function, characters=characters)


for _name in ("upper", "lower", "capitalize", "title", "swapcase"):
    setattr(StringNamespace, _name, _plain(_name, f"utf8_{_name}"))
for _name in ("alpha", "alnum", "digit", "decimal", "numeric", "space", "lower", "upper", "title", "printable"):
    setattr(StringNamespace, f"is_{_name}", _plain(f"is_{_name}", f"utf8_is_{_name}"))
StringNamespace.is_ascii = _plain("is_ascii", "string_is_ascii")  # type: ignore[attr-defined]


@register_namespace
class ListNamespace(Namespace):
    """Of lists."""

    len = _plain("len", "list_value_length")

    def get(self, index: int) -> UDFExpr:
        """The element at `index`; negative ones count from the end; null where a list is too short."""
        return UDFExpr(partial(_list_get, index=index), (self._expr,), {})

    def slice(self, start: int | None = None, stop: int | None = None, step: int | None = None) -> UDFExpr:
        return UDFExpr(partial(_list_slice, start=start, stop=stop, step=step), (self._expr,), {})

    def sort(self, order: str = "ascending", null_placement: str = "at_end") -> UDFExpr:
        if order not in ("ascending", "descending"):
            raise ValueError("order must be 'ascending' or 'descending'")
        if null_placement not in ("at_start", "at_end"):
            raise ValueError("null_placement must be 'at_start' or 'at_end'")
        return UDFExpr(partial(_list_sort, order=order, null_placement=null_placement), (self._expr,), {})

    def flatten(self) -> UDFExpr:
        """One level less: a list of lists becomes a list."""
        return UDFExpr(_list_flatten, (self._expr,), {})

    def __getitem__(self, key: Any) -> UDFExpr:
        return self.slice(key.start, key.stop, key.step) if isinstance(key, slice) else self.get(key)


@register_namespace
class StructNamespace(Namespace):
    """Of structs."""

    def field(self, field_name: str) -> UDFExpr:
        return self._call("struct_field", indices=field_name)

    def field_by_index(self, index: int) -> UDFExpr:
        return self._call("struct_field", indices=[index])

    def __getitem__(self, field_name: str) -> UDFExpr:
        return self.field(field_name)


@register_namespace
class MapNamespace(Namespace):
    """Of Arrow's maps."""

    def keys(self) -> UDFExpr:
        return UDFExpr(partial(_map_part, part="keys"), (self._expr,), {})

    def values(self) -> UDFExpr:
        return UDFExpr(partial(_map_part, part="items"), (self._expr,), {})


@register_namespace
class DatetimeNamespace(Namespace):
    """Of dates and times."""

    def strftime(self, fmt: str) -> UDFExpr:
        return self._call("strftime", format=fmt)

    def ceil(self, unit: str) -> UDFExpr:
        return self._call("ceil_temporal", multiple=1, unit=unit)

    def floor(self, unit: str) -> UDFExpr:
        return self._call("floor_temporal", multiple=1, unit=unit)

    def round(self, unit: str) -> UDFExpr:
        return self._call("round_temporal", multiple=1, unit=unit)


for _name in ("year", "month", "day", "hour", "minute", "second"):
    setattr(DatetimeNamespace, _name, _plain(_name, _name))


@register_namespace
class ArrayNamespace(Namespace):
    """Of tensors and fixed-size lists."""

    def to_list(self) -> UDFExpr:
        return UDFExpr(_tensor_to_list, (self._expr,), {})


def _chunks(values: Any) -> list[Any]:
    return values.chunks if isinstance(values, pa.ChunkedArray) else [values]


def _list_get(values: Any, index: int) -> Any:
    if index >= 0 and pc.all(pc.greater(pc.list_value_length(values), index)).as_py():
        return pc.list_element(values, index)
    return pa.array([_item(row, index) for row in values.to_pylist()], values.type.value_type)


def _item(row: Any, index: int) -> Any:
    return row[index] if row is not None and -len(row) <= index < len(row) else None


def _list_slice(values: Any, start: int | None, stop: int | None, step: int | None) -> Any:
    piece = slice(start, stop, step)
    return pa.array(
        [None if row is None else row[piece] for row in values.to_pylist()], pa.list_(values.type.value_type)
    )


def _list_sort(values: Any, order: str, null_placement: str) -> Any:
    rows: list[Any] = []
    for row in values.to_pylist():
        if row is None:
            rows.append(None)
            continue
        missing = [None] * row.count(None)
        ordered = sorted((item for item in row if item is not None), reverse=order == "descending")
        rows.append(missing + ordered if null_placement == "at_start" else ordered + missing)
    return pa.array(rows, values.type)


def _list_flatten(values: Any) -> Any:
    rows = [
        None if row is None else [item for inner in row if inner is not None for item in inner]
        for row in values.to_pylist()
    ]
    return pa.array(rows, values.type.value_type)


def _map_part(values: Any, part: str) -> Any:
    made = []
    for chunk in _chunks(values):
        inner = getattr(chunk, part)
        kind = chunk.type.key_type if part == "keys" else chunk.type.item_type
        made.append(pa.ListArray.from_arrays(chunk.offsets, inner).cast(pa.list_(kind)))
    return pa.chunked_array(made) if made else pa.chunked_array([], pa.list_(pa.null()))


def _tensor_to_list(values: Any) -> Any:
    chunked = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
    return to_arrow([None if row is None else row.tolist() for row in to_numpy(chunked)])
