"""Schema: names and types of a dataset's columns."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


class Schema:
    """names: columns in order. types: Arrow's types. base_schema: Arrow's schema."""

    def __init__(self, base_schema: pa.Schema, *, data_context: Any = None) -> None:
        self.base_schema = base_schema

    @property
    def names(self) -> list[str]:
        return list(self.base_schema.names)

    @property
    def types(self) -> list[Any]:
        return [shown_type(kind) for kind in self.base_schema.types]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and other.base_schema.equals(self.base_schema)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        width = max([len(name) for name in self.names] + [len("Column")]) + 2
        lines = [f"{'Column':<{width}}Type", f"{'------':<{width}}----"]
        lines += [f"{name:<{width}}{kind}" for name, kind in zip(self.names, self.types, strict=True)]
        return "\n".join(line.rstrip() for line in lines)


def shown_type(kind: pa.DataType) -> Any:
    """What `types` shows: Arrow's type itself."""
    return kind
