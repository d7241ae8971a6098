"""A `tf.data.Dataset` over batches. TensorFlow is imported here, when somebody asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from raybook.data.datasource.optional import require
from raybook.data.schema import Schema


def tf_dataset(batches: Iterable[Any], schema: Schema | None, columns: list[Any], specs: list[Any]) -> Any:
    """Tuples of one part for each of `columns`: the tensor of a column, or a dict for a list of them. specs: what
    TensorFlow is told of each part; where one is missing, the first batch tells. ValueError for unknown columns."""
    tf = require("tensorflow", "tensorflow", "to_tf")
    known = schema.names if schema is not None else []
    for part in columns:
        for name in [part] if isinstance(part, str) else part:
            if name not in known:
                raise ValueError(
                    f"You specified '{name}' in `feature_columns`, `label_columns`, or `additional_columns`, but there's "
                    f"no column named '{name}' in the dataset. Valid column names are: {set(known)}."
                )

    def parts_of(batch: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(batch[part] if isinstance(part, str) else {name: batch[name] for name in part} for part in columns)

    def make() -> Iterator[Any]:
        for batch in batches:
            yield parts_of(batch)

    told = list(specs[: len(columns)])
    if any(spec is None for spec in told):
        found = tf.nest.map_structure(
            lambda value: tf.TensorSpec(shape=(None, *value.shape[1:]), dtype=value.dtype), next(make())
        )
        told = [spec if spec is not None else part for spec, part in zip(told, found, strict=True)]
    made = tf.data.Dataset.from_generator(make, output_signature=tuple(told))
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return made.with_options(options)
