"""Recipe of joins: both sides are cut by the hash of their keys, and Arrow joins the parts of each partition."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybook.data.block import Bundle, align, concat_blocks, unify_schemas
from raybook.data.core import plan as nodes
from raybook.data.execution.exchange import Call, Made, Stage
from raybook.data.execution.programs import Apply, ApplyMany
from raybook.data.execution.shuffle_recipes import filled, hash_parts, transpose

Steps = Generator[Stage, list[list[Made]], None]

JOIN_KINDS = {
    "inner": "inner",
    "left_outer": "left outer",
    "right_outer": "right outer",
    "full_outer": "full outer",
    "left_semi": "left semi",
    "right_semi": "right semi",
    "left_anti": "left anti",
    "right_anti": "right anti",
}
"""Ray's names to Arrow's."""
ROW = "__row__"


def join(inputs: list[list[Bundle]], node: nodes.Join) -> Steps:
    left, right = (filled(bundles) for bundles in inputs)
    schemas = [unify_schemas(bundle.schema for bundle in bundles) for bundles in (left, right)]
    _check_schemas(schemas, node)
    count = node.num_partitions
    left_parts = yield Stage(_split(left, node.left_on, count))
    right_parts = yield Stage(_split(right, node.right_on, count))
    sides = [_columns(parts, count) for parts in (left_parts, right_parts)]
    calls = []
    for index in range(count):
        bundles = [sides[0][index], sides[1][index]]
        fn = partial(join_tables, node=_plain(node), left_count=len(bundles[0]), schemas=schemas)
        calls.append(Call(Apply(fn), bundles[0] + bundles[1]))
    yield Stage(calls, is_last=True)


def _plain(node: nodes.Join) -> nodes.Join:
    """The node without what stands below it: only the join itself travels."""
    return nodes.Join(
        (), node.kind, node.left_on, node.right_on, node.left_suffix, node.right_suffix, node.num_partitions
    )


def _split(bundles: list[Bundle], keys: Sequence[str], count: int) -> list[Call]:
    if count == 1:
        return [Call(None, [bundle]) for bundle in bundles]
    program = ApplyMany(partial(hash_parts, keys=tuple(keys), count=count))
    return [Call(program, [bundle]) for bundle in bundles]


def _columns(parts: list[list[Made]], count: int) -> list[list[Bundle]]:
    return transpose(parts, count) if parts else [[] for _ in range(count)]


def _check_schemas(schemas: Sequence[pa.Schema | None], node: nodes.Join) -> None:
    """ValueError when a key is not there, or differs in type."""
    for schema, keys, side in zip(schemas, (node.left_on, node.right_on), ("left", "right"), strict=True):
        missing = [name for name in keys if schema is not None and len(schema) and name not in schema.names]
        if missing and schema is not None:
            raise ValueError(f"The {side} side of the join has no columns {missing}; it has {schema.names}.")


def join_tables(
    tables: list[pa.Table], node: nodes.Join, left_count: int, schemas: Sequence[pa.Schema | None]
) -> pa.Table:
    """One partition: Arrow's hash join, rows in order of the left side (of the right one for right joins)."""
    left, right = (
        _side(part, schema) for part, schema in zip((tables[:left_count], tables[left_count:]), schemas, strict=True)
    )
    if not left.num_columns or not right.num_columns:
        # A side of which nothing is known, not even its columns: there were no blocks.
        return left if not right.num_columns and node.kind.startswith(("left", "full")) else right.slice(0, 0)
    right = _same_key_types(left, right, node)
    both = (set(left.column_names) - set(node.left_on)) & (set(right.column_names) - set(node.right_on))
    if node.left_suffix or node.right_suffix:
        # By hand for both sides: Arrow does not see the columns that wait beside.
        left = _suffixed(left, both, node.left_suffix)
        right = _suffixed(right, both, node.right_suffix)
    odd_left, odd_right = _set_aside(left, node.left_on, "left"), _set_aside(right, node.right_on, "right")
    joined = odd_left.plain.join(
        odd_right.plain,
        list(node.left_on),
        list(node.right_on),
        join_type=JOIN_KINDS[node.kind],
        coalesce_keys=True,
        use_threads=False,
    )
    for side in (odd_left, odd_right):
        joined = side.put_back(joined)
    return joined


def _side(parts: list[pa.Table], schema: pa.Schema | None) -> pa.Table:
    whole = concat_blocks(parts) if parts else pa.table({})
    return align(whole, schema) if schema is not None and len(schema) else whole


def _same_key_types(left: pa.Table, right: pa.Table, node: nodes.Join) -> pa.Table:
    """The right side's keys in the left's types, where they differ (int32 and int64)."""
    for mine, theirs in zip(node.left_on, node.right_on, strict=True):
        kind = left.schema.field(mine).type
        index = right.schema.get_field_index(theirs)
        if not right.schema.field(index).type.equals(kind):
            try:
                right = right.set_column(index, theirs, right.column(index).cast(kind))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise ValueError(
                    f"Cannot join column {mine!r} of type {kind} with {theirs!r} of type "
                    f"{right.schema.field(index).type}: {error}. Cast one of them before."
                ) from error
    return right


class _Aside:
    """A table whose columns that Arrow cannot join (lists, tensors, structs) wait beside it, found by row number."""

    def __init__(self, table: pa.Table, odd: list[str], marker: str) -> None:
        self.odd, self.marker, self.rest = odd, marker, table
        self.plain = table
        if odd:
            self.plain = table.drop_columns(odd).append_column(marker, pa.array(np.arange(table.num_rows)))

    def put_back(self, joined: pa.Table) -> pa.Table:
        if not self.odd or self.marker not in joined.column_names:
            return joined
        rows = joined.column(self.marker)
        joined = joined.drop_columns([self.marker])
        for name in self.odd:
            column = self.rest.column(name)
            joined = joined.append_column(name, pc.take(column, rows))
        return joined


def _suffixed(table: pa.Table, names: set[str], suffix: str | None) -> pa.Table:
    if not names or not suffix:
        return table
    return table.rename_columns([f"{name}{suffix}" if name in names else name for name in table.column_names])


def _set_aside(table: pa.Table, keys: Sequence[str], side: str) -> _Aside:
    odd = [
        field.name
        for field in table.schema
        if field.name not in keys and (pa.types.is_nested(field.type) or isinstance(field.type, pa.BaseExtensionType))
    ]
    return _Aside(table, odd, f"{ROW}{side}")
