"""Logical plans: what a dataset is, as a tree of immutable nodes. Decides nothing; knows no table, no task and no ref.

Payloads (functions, expressions, datasources) are opaque here. What the optimizer must know of them stands in fields of
the nodes: which columns a filter reads, whether a transform keeps the number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Resources:
    """What each task or actor of an operator asks for, and how many there may be.

    compute: a strategy object. remote_args: options of the task or actor. remote_args_fn: called for each task.
    """

    compute: Any = None
    remote_args: dict[str, Any] = field(default_factory=dict)
    remote_args_fn: Any = None

    @property
    def is_plain(self) -> bool:
        return not self.remote_args and self.remote_args_fn is None


@dataclass(frozen=True, eq=False)
class Node:
    """A step. inputs: what it reads, in order."""

    inputs: tuple[Node, ...] = ()

    @property
    def name(self) -> str:
        return type(self).__name__

    def with_inputs(self, *inputs: Node) -> Node:
        return replace(self, inputs=inputs)

    def walk(self) -> Iterator[Node]:
        """This node and all below it, nearest first."""
        yield self
        for one in self.inputs:
            yield from one.walk()

    @property
    def keeps_rows(self) -> bool:
        """Whether each row of its one input becomes exactly one row, in place."""
        return False

    @property
    def keeps_schema(self) -> bool:
        """Whether its rows have the columns of its one input."""
        return isinstance(self, (Limit, Repartition, RandomShuffle, RandomizeBlocks, Sort)) or (
            isinstance(self, Map) and (self.predicate is not None or self.kind in ("Filter", "RandomSample"))
        )


@dataclass(frozen=True, eq=False)
class InputData(Node):
    """Blocks that are in the store already. bundles: refs with their metadata."""

    bundles: tuple[Any, ...] = ()
    schema: Any = None
    label: str = "InputData"

    @property
    def name(self) -> str:
        return self.label


@dataclass(frozen=True, eq=False)
class Read(Node):
    """datasource: makes the read tasks. parallelism: blocks wanted, -1: as the size suggests. row_limit: no task need
    yield more."""

    datasource: Any = None
    label: str = ""
    parallelism: int = -1
    resources: Resources = field(default_factory=Resources)
    row_limit: int | None = None
    notes: tuple[str, ...] = ()
    """What was pushed into it, for `explain`."""

    @property
    def name(self) -> str:
        return f"Read{self.label}"


@dataclass(frozen=True, eq=False)
class Map(Node):
    """Rows in, rows out, block by block. transform: opaque; it makes blocks of blocks.

    kind: the word of `explain` ("Map", "MapBatches", "Filter", ...). columns: for a projection the columns that stay, in
    their order. predicate, predicate_columns: for a filter that is an expression.
    """

    transform: Any = None
    kind: str = "Map"
    label: str = ""
    resources: Resources = field(default_factory=Resources)
    keeps_row_count: bool = False
    rows_per_task_min: int | None = None
    bytes_per_task_min: int | None = None
    columns: tuple[str, ...] | None = None
    predicate: Any = None
    predicate_columns: frozenset[str] = frozenset()
    is_deterministic: bool = True
    has_user_code: bool = True
    """Whether running it may do more than make rows: then it runs even if only their number is wanted."""
    may_fuse: bool = True

    @property
    def name(self) -> str:
        return f"{self.kind}({self.label})" if self.label else self.kind

    @property
    def keeps_rows(self) -> bool:
        return self.keeps_row_count


@dataclass(frozen=True, eq=False)
class Limit(Node):
    limit: int = 0

    @property
    def name(self) -> str:
        return f"Limit[limit={self.limit}]"


@dataclass(frozen=True, eq=False)
class Union(Node):
    """All rows of each input after the other."""


@dataclass(frozen=True, eq=False)
class Zip(Node):
    """Rows of all inputs side by side."""


@dataclass(frozen=True, eq=False)
class Mix(Node):
    """Blocks of all inputs in turns, by weights."""

    weights: tuple[float, ...] = ()
    stopping: str = ""


@dataclass(frozen=True, eq=False)
class Repartition(Node):
    """num_blocks, or target_rows a block; keys: rows with equal keys go to one block; sort: by those keys."""

    num_blocks: int | None = None
    target_rows: int | None = None
    strict: bool = False
    shuffle: bool = False
    keys: tuple[str, ...] = ()
    sort: bool = False

    @property
    def name(self) -> str:
        return "StreamingRepartition" if self.target_rows else "Repartition"

    @property
    def keeps_rows(self) -> bool:
        return not (self.shuffle or self.keys)


@dataclass(frozen=True, eq=False)
class RandomShuffle(Node):
    seed: Any = None
    num_blocks: int | None = None
    remote_args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class RandomizeBlocks(Node):
    seed: Any = None

    @property
    def name(self) -> str:
        return "RandomizeBlockOrder"


@dataclass(frozen=True, eq=False)
class Sort(Node):
    keys: tuple[str, ...] = ()
    descending: tuple[bool, ...] = ()
    boundaries: tuple[Any, ...] | None = None


@dataclass(frozen=True, eq=False)
class Aggregate(Node):
    """keys: () for one row over all. aggregations: opaque. needed: columns it reads, None: all of them."""

    keys: tuple[str, ...] = ()
    aggregations: tuple[Any, ...] = ()
    num_partitions: int | None = None
    needed: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class MapGroups(Node):
    """transform: opaque, gets blocks whose rows with equal keys stand together and none of them elsewhere."""

    keys: tuple[str, ...] = ()
    transform: Any = None
    label: str = ""
    num_partitions: int | None = None
    resources: Resources = field(default_factory=Resources)

    @property
    def name(self) -> str:
        return f"MapGroups({self.label})" if self.label else "MapGroups"


@dataclass(frozen=True, eq=False)
class Join(Node):
    kind: str = "inner"
    left_on: tuple[str, ...] = ()
    right_on: tuple[str, ...] = ()
    left_suffix: str | None = None
    right_suffix: str | None = None
    num_partitions: int = 1
    remote_args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Write(Node):
    """sink: opaque. One row a task comes out: what the sink returned."""

    sink: Any = None
    label: str = ""
    resources: Resources = field(default_factory=Resources)
    rows_per_task_min: int | None = None
    bytes_per_task_min: int | None = None

    @property
    def name(self) -> str:
        return f"Write{self.label}" if self.label else "Write"


def render(node: Node, with_kinds: bool = False) -> str:
    """The tree as lines, the last step first; with_kinds: as `explain` prints it, ``Read[ReadRange]``."""
    lines: list[str] = []

    def visit(one: Node, prefix: str, lead: str) -> None:
        notes = f" [{', '.join(one.notes)}]" if isinstance(one, Read) and one.notes else ""
        name = f"{_kind_of(one)}[{one.name}]" if with_kinds else one.name
        lines.append(f"{prefix}{lead}{name}{notes}")
        below = prefix + ("   " if lead else "")
        for child in one.inputs:
            visit(child, below, "+- ")

    visit(node, "", "")
    return "\n".join(lines)


def _kind_of(node: Node) -> str:
    """What Ray calls a step of this kind."""
    if isinstance(node, Map):
        kind = node.name.partition("(")[0]
        return "MapRows" if kind == "Map" else kind
    return type(node).__name__
