"""Keys: hashing rows into partitions, finding where rows belong among boundaries, and where runs of equal keys end.

Equal keys have equal hashes whatever the width of their integers, in all blocks and on all nodes; nulls are equal to each
other, and NaN to NaN. Arrow sorts and takes; what it has no kernel for (hashing) numpy does on whole columns.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybook.data.columns import to_list
from raybook.data.expression_evaluation import column_of

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_NULL_HASH = np.uint64(0x5BD1E9955BD1E995)


def hash_rows(table: pa.Table, keys: Sequence[str]) -> np.ndarray:
    """A 64-bit hash of each row's keys. Cost: about 5 ns a number; a string costs its hash once for each distinct one
    in the block."""
    mixed = np.zeros(table.num_rows, np.uint64)
    with np.errstate(over="ignore"):
        for name in keys:
            mixed = (mixed ^ _hash_column(column_of(table, name))) * _MULTIPLIER
            mixed ^= mixed >> np.uint64(29)
    return mixed


def _hash_column(column: pa.ChunkedArray) -> np.ndarray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    nulls = column.null_count
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        wide = column.cast(pa.uint64() if pa.types.is_uint64(kind) else pa.int64())
        values = _filled(wide, 0).view(np.uint64)
    elif pa.types.is_floating(kind):
        floats = _filled(column.cast(pa.float64()), 0.0) + 0.0  # -0.0 becomes 0.0
        floats = np.where(np.isnan(floats), np.nan, floats)
        values = floats.view(np.uint64)
    elif pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        width = pa.int32() if kind.bit_width == 32 else pa.int64()
        values = _filled(column.cast(width).cast(pa.int64()), 0).view(np.uint64)
    else:
        return _hash_distinct(column)
    with np.errstate(over="ignore"):
        hashed = (values ^ (values >> np.uint64(32))) * _MULTIPLIER
    if nulls:
        hashed = np.where(pc.is_null(column).to_numpy(), _NULL_HASH, hashed)
    return hashed


def _filled(column: pa.ChunkedArray, value: Any) -> np.ndarray:
    return (column.fill_null(value) if column.null_count else column).to_numpy()


def _hash_distinct(column: pa.ChunkedArray) -> np.ndarray:
    """Of values without a number of their own: each distinct one is hashed once."""
    try:
        encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return np.array([_hash_value(value) for value in to_list(column)], np.uint64)
    parts = encoded.chunks if isinstance(encoded, pa.ChunkedArray) else [encoded]
    found = [
        np.array([_hash_value(value) for value in part.dictionary.to_pylist()], np.uint64)[part.indices.to_numpy()]
        if len(part)
        else np.zeros(0, np.uint64)
        for part in parts
    ]
    return np.concatenate(found) if found else np.zeros(0, np.uint64)


def _hash_value(value: Any) -> int:
    if value is None:
        return int(_NULL_HASH)
    data = value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else repr(value).encode()
    return zlib.crc32(data) | zlib.crc32(data, 0x9747B28C) << 32


def split_by(table: pa.Table, ids: np.ndarray, parts: int) -> list[pa.Table]:
    """The rows of each partition, in their order. ids: each row's partition. Cost: one stable sort of small integers
    and one copy of the rows."""
    if parts == 1:
        return [table]
    small = ids.astype(np.uint8 if parts <= 256 else np.uint16 if parts <= 65536 else np.uint32)
    order = np.argsort(small, kind="stable")
    ends = np.cumsum(np.bincount(small, minlength=parts))
    ordered = table.combine_chunks().take(pa.array(order))
    return [
        ordered.slice(int(end - count), int(count)) for end, count in zip(ends, np.diff(ends, prepend=0), strict=True)
    ]


def hash_split(table: pa.Table, keys: Sequence[str], parts: int) -> list[pa.Table]:
    """The rows of each partition by the hash of their keys."""
    if parts == 1 or not table.num_rows:
        return [table] + [table.slice(0, 0)] * (parts - 1)
    return split_by(table, (hash_rows(table, keys) >> np.uint64(33)) % np.uint64(parts), parts)


# Order


def sort_table(table: pa.Table, keys: Sequence[str], descending: Sequence[bool]) -> pa.Table:
    """Rows in order of the keys, equal ones as they were; nulls last. KeyError for a column that is not there."""
    if table.num_rows <= 1 or not keys:
        return table
    for name in keys:
        column_of(table, name)
    orders = [(name, "descending" if down else "ascending") for name, down in zip(keys, descending, strict=True)]
    plain = _sortable(table, keys)
    if len(orders) == 1 and plain is table and isinstance(table.column(keys[0]), pa.ChunkedArray):
        column = table.column(keys[0]).combine_chunks()
        indices = pc.array_sort_indices(column, order=orders[0][1])
    else:
        indices = pc.sort_indices(plain, sort_keys=orders)
    return table.take(indices)


def _sortable(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Dictionary columns by their values: Arrow sorts them by index otherwise, or not at all."""
    for name in keys:
        index = table.schema.get_field_index(name)
        kind = table.schema.field(index).type
        if pa.types.is_dictionary(kind):
            table = table.set_column(index, name, table.column(index).cast(kind.value_type))
    return table


class Position:
    """A row's keys, ordered as the sort orders them: descending where it does, nulls last, NaN before nulls."""

    __slots__ = ("descending", "values")

    def __init__(self, values: Sequence[Any], descending: Sequence[bool]) -> None:
        self.values, self.descending = values, descending

    def __lt__(self, other: Position) -> bool:
        for mine, theirs, down in zip(self.values, other.values, self.descending, strict=True):
            mine_rank, their_rank = _rank(mine), _rank(theirs)
            if mine_rank != their_rank:
                return mine_rank < their_rank
            if mine_rank or mine == theirs:
                continue
            return theirs < mine if down else mine < theirs
        return False


def _rank(value: Any) -> int:
    if value is None:
        return 2
    return 1 if isinstance(value, float) and value != value else 0


def range_split(
    table: pa.Table, keys: Sequence[str], descending: Sequence[bool], boundaries: pa.Table
) -> list[pa.Table]:
    """The rows of each range: before the first boundary, from it to the second, ... A row equal to a boundary goes
    after it. boundaries: a table of the keys, in the order of the sort."""
    parts = boundaries.num_rows + 1
    if parts == 1 or not table.num_rows:
        return [table] + [table.slice(0, 0)] * (parts - 1)
    if len(keys) == 1:
        column, bounds = column_of(table, keys[0]), boundaries.column(0)
        if _is_plain_number(column) and not bounds.null_count and column.type.equals(bounds.type):
            values, limits = _as_numbers(column), _as_numbers(bounds)
            if descending[0]:
                ids = len(limits) - np.searchsorted(limits[::-1], values, side="left")
            else:
                ids = np.searchsorted(limits, values, side="right")
            return split_by(table, ids, parts)
    ordered = sort_table(table, keys, descending)
    columns = [column_of(ordered, name) for name in keys]
    positions = [
        Position(values, descending) for values in zip(*(c.to_pylist() for c in boundaries.columns), strict=True)
    ]
    cuts = [0]
    for limit in positions:
        low, high = cuts[-1], ordered.num_rows
        while low < high:
            middle = (low + high) // 2
            row = Position([column[middle].as_py() for column in columns], descending)
            if row < limit:
                low = middle + 1
            else:
                high = middle
        cuts.append(low)
    cuts.append(ordered.num_rows)
    return [ordered.slice(start, end - start) for start, end in zip(cuts[:-1], cuts[1:], strict=True)]


def _is_plain_number(column: pa.ChunkedArray) -> bool:
    kind = column.type
    if column.null_count:
        return False
    if pa.types.is_integer(kind) or (pa.types.is_temporal(kind) and not pa.types.is_interval(kind)):
        return True
    return pa.types.is_floating(kind) and not pa.types.is_float16(kind) and not _has_nan(column)


def _has_nan(column: pa.ChunkedArray) -> bool:
    return bool(pc.any(pc.is_nan(column)).as_py())


def _as_numbers(column: pa.ChunkedArray) -> np.ndarray:
    kind = column.type
    if pa.types.is_temporal(kind):
        column = column.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    return column.to_numpy()


# Runs of equal keys


def group_bounds(ordered: pa.Table, keys: Sequence[str]) -> np.ndarray:
    """Positions where a new run of equal keys begins, and the end; the table is ordered by them. Nulls are equal to
    nulls, NaN to NaN."""
    rows = ordered.num_rows
    if not rows:
        return np.zeros(1, np.int64)
    changes = np.zeros(rows - 1, bool)
    for name in keys:
        changes |= _changes(column_of(ordered, name))
    return np.concatenate([[0], np.flatnonzero(changes) + 1, [rows]])


def _changes(column: pa.ChunkedArray) -> np.ndarray:
    if len(column) < 2:
        return np.zeros(0, bool)
    one = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if pa.types.is_dictionary(one.type):
        one = one.cast(one.type.value_type)
    before, after = one.slice(0, len(one) - 1), one.slice(1)
    try:
        different = pc.not_equal(before, after)
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError):
        values = to_list(pa.chunked_array([one]))
        return np.array([a != b for a, b in zip(values[:-1], values[1:], strict=True)], bool)
    if pa.types.is_floating(one.type):
        both = pc.and_(pc.is_nan(before), pc.is_nan(after))
        different = pc.and_(different, pc.invert(both))
    if one.null_count:
        null_changes = pc.xor(before.is_null(), after.is_null())
        different = pc.or_(different.fill_null(False), null_changes)
    return different.to_numpy(zero_copy_only=False)
