"""What all parts of Dataset stand on: its plan, its settings, and running it. Makes no decision about rows."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raybook.api import get
from raybook.data.block import Bundle, unify_schemas
from raybook.data.context import DataContext
from raybook.data.core.plan import InputData, Limit, Node, Read
from raybook.data.execution.executor import Executor
from raybook.data.execution.run import run_plan
from raybook.data.schema import Schema

if TYPE_CHECKING:
    from raybook.data.dataset import Dataset, MaterializedDataset


class DatasetBase:
    """A lazy plan. Immutable: each method makes another dataset."""

    def __init__(self, plan: Node, context: DataContext | None = None) -> None:
        self._plan = plan
        self._context = context if context is not None else DataContext.get_current().copy()
        self._schema: Schema | None = None
        self._name: str | None = None
        self._id = uuid.uuid4().hex[:12]
        self._executor: Executor | None = None
        self._row_count: int | None = None
        self._size_bytes: int | None = None

    # Made by the class that is made of all parts.

    def _derive(self, plan: Node) -> Dataset:
        raise NotImplementedError

    def _materialized(self, bundles: list[Bundle]) -> MaterializedDataset:
        raise NotImplementedError

    @property
    def context(self) -> DataContext:
        """The settings that this dataset runs with: a copy of those current when it was made."""
        return self._context

    @property
    def name(self) -> str | None:
        return self._name

    def set_name(self, name: str | None) -> None:
        """What progress and panels call it."""
        self._name = name

    def get_dataset_id(self) -> str:
        return self._id

    # Running

    def _bundles(self) -> Iterator[Bundle]:
        """Run the plan; its bundles, in order, as they come. Nothing goes on running when the iterator is dropped."""
        bundles, executor = run_plan(self._plan, self._context)
        self._executor = executor or self._executor
        rows = size = 0
        schemas: list[pa.Schema | None] = []
        for bundle in bundles:
            rows += bundle.num_rows
            size += bundle.size_bytes
            if bundle.schema is not None and not any(bundle.schema is one for one in schemas[-1:]):
                schemas.append(bundle.schema)
            yield bundle
        self._row_count, self._size_bytes = rows, size
        if self._schema is None and schemas:
            self._learn_schema(schemas)

    def _learn_schema(self, schemas: list[pa.Schema | None]) -> None:
        try:
            found = unify_schemas(schemas)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            found = next(schema for schema in schemas if schema is not None)
        if found is not None and len(found):
            self._schema = Schema(found)

    def _tables(self) -> Iterator[pa.Table]:
        """The blocks themselves, one after the other."""
        for bundle in self._bundles():
            yield get(bundle.ref)

    # What is known without running

    def _known_schema(self) -> Schema | None:
        """The schema, if nothing has to run for it."""
        if self._schema is not None:
            return self._schema
        plan = self._plan
        found: pa.Schema | None = None
        if isinstance(plan, InputData):
            found = plan.schema
            if found is None:
                try:
                    found = unify_schemas(bundle.schema for bundle in plan.bundles)
                except (pa.ArrowInvalid, pa.ArrowTypeError):
                    return None
        elif isinstance(plan, Read):
            found = plan.datasource.schema()
        elif plan.keeps_schema and len(plan.inputs) == 1:
            inner = self._derive(plan.inputs[0])._known_schema()
            return inner
        if found is not None and len(found):
            self._schema = Schema(found)
        return self._schema

    def _fetch_schema(self) -> Schema | None:
        """The schema, of the first rows if need be. Cost: what the first block costs."""
        known = self._known_schema()
        if known is not None:
            return known
        first = self._derive(Limit((self._plan,), 1))
        schemas = [bundle.schema for bundle in first._bundles()]
        if schemas:
            self._learn_schema(schemas)
        return self._schema

    def _require_columns(self, columns: list[str], what: str) -> None:
        """ValueError for a column that is known not to be there; says nothing where the schema is not known."""
        known = self._known_schema()
        if known is None:
            return
        missing = [name for name in columns if name not in known.names]
        if missing:
            raise ValueError(
                f"You specified the column {missing[0]!r} as {what}, but there's no such column in the dataset. The "
                f"dataset has columns: {known.names}"
            )

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        raise AttributeError(
            "Use `ds.count()` to compute the length of a distributed Dataset. This may be an expensive operation."
        )

    def __iter__(self) -> Any:
        raise TypeError(
            "`Dataset` objects aren't iterable. To iterate records, call `ds.iter_rows()` or `ds.iter_batches()`."
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_executor": None}
