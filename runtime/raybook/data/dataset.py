"""Dataset: a lazy plan over blocks of rows, put together from its parts.

dataset_base         plan, settings, running           dataset_transforms    map, filter, columns
dataset_relations    order, groups, joins, aggregates   dataset_consumption   take, count, materialize, write_datasink
dataset_iteration    batches and rows, one after the other                    dataset_splitting   split, streaming_split
dataset_writing      write_*                            dataset_shown         repr, stats, explain
dataset_conversion   to_dask, to_spark, lineage, lookup
"""

from __future__ import annotations

from raybook.data.block import Bundle
from raybook.data.core.plan import InputData, Node
from raybook.data.dataset_consumption import DatasetConsumption
from raybook.data.dataset_conversion import DatasetConversion
from raybook.data.dataset_iteration import DatasetIteration
from raybook.data.dataset_relations import DatasetRelations
from raybook.data.dataset_shown import DatasetShown
from raybook.data.dataset_splitting import DatasetSplitting
from raybook.data.dataset_transforms import DatasetTransforms
from raybook.data.dataset_writing import DatasetWriting
from raybook.data.schema import Schema as Schema


class Dataset(
    DatasetTransforms,
    DatasetConsumption,
    DatasetRelations,
    DatasetIteration,
    DatasetSplitting,
    DatasetShown,
    DatasetWriting,
    DatasetConversion,
):
    """Rows in a plan that runs when something is taken from it, block by block, in tasks of the cluster.

    Make one with `raybook.data.range`, `from_*` or `read_*`. Methods that change rows return another dataset at once;
    `take`, `count`, `iter_batches`, `materialize` and `write_*` run the plan, each time anew.
    """

    def _derive(self, plan: Node) -> Dataset:
        return Dataset(plan, self._context)

    def _materialized(self, bundles: list[Bundle]) -> MaterializedDataset:
        return MaterializedDataset(InputData((), tuple(bundles)), self._context)


class MaterializedDataset(Dataset):
    """A dataset whose blocks are in the store; they live as long as it does."""

    def _all_bundles(self) -> tuple[Bundle, ...]:
        assert isinstance(self._plan, InputData)
        return self._plan.bundles

    def num_blocks(self) -> int:
        """Number of blocks."""
        return len(self._all_bundles())

    def materialize(self) -> MaterializedDataset:
        """Itself: it is."""
        return self

    def size_bytes(self) -> int:
        """Bytes of all blocks."""
        return sum(bundle.size_bytes for bundle in self._all_bundles())
