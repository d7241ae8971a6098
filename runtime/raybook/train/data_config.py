"""Data configuration: how the datasets given to a trainer become the workers' shards."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

TRAIN_DATASET_KEY = "train"


class DataConfig:
    """Splits all datasets, or those named, over the workers; the others are whole on every worker.

    Override `configure` for another way. enable_shard_locality: prefer blocks on the worker's own node.
    """

    def __init__(
        self,
        datasets_to_split: str | Sequence[str] = "all",
        execution_options: Any | Mapping[str, Any] | None = None,
        enable_shard_locality: bool = True,
    ) -> None:
        """execution_options: of raybook.data, for all datasets or by name. Raises TypeError for a wrong list of names."""
        if not isinstance(datasets_to_split, list) and datasets_to_split != "all":
            raise TypeError(
                "`datasets_to_split` should be a 'all' or a list of strings of dataset names. Received "
                f"{type(datasets_to_split).__name__} with value {datasets_to_split}."
            )
        self._datasets_to_split = datasets_to_split
        self._execution_options = execution_options
        self._enable_shard_locality = enable_shard_locality

    def configure(
        self,
        datasets: dict[str, Any],
        world_size: int,
        worker_handles: list[Any] | None,
        worker_node_ids: list[str] | None,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """Return, for each worker, its iterators by dataset name.

        A dataset is anything with `streaming_split(n, equal=, locality_hints=)`, and `iterator()` if it is not split.
        """
        shards: list[dict[str, Any]] = [{} for _ in range(world_size)]
        hints = worker_node_ids if self._enable_shard_locality else None
        for name, dataset in datasets.items():
            prepared = self._prepare(name, dataset)
            if self._datasets_to_split == "all" or name in self._datasets_to_split:
                splits = prepared.streaming_split(world_size, equal=True, locality_hints=hints)
            else:
                splits = [prepared.iterator() for _ in range(world_size)]
            for shard, split in zip(shards, splits, strict=True):
                shard[name] = split
        return shards

    def _prepare(self, name: str, dataset: Any) -> Any:
        if getattr(dataset, "name", "") is None and hasattr(dataset, "set_name"):
            dataset.set_name(name)
        options = self._options_of(name)
        if options is not None and hasattr(dataset, "context"):
            # The controller's own copy: what the user holds in the driver stays as it is.
            dataset.context.execution_options = copy.deepcopy(options)
        return dataset

    def _options_of(self, name: str) -> Any:
        if isinstance(self._execution_options, Mapping):
            return self._execution_options.get(name)
        return self._execution_options

    @staticmethod
    def default_ingest_options() -> Any:
        """The execution options of datasets that are given none: those of the current `raybook.data` context."""
        return copy.deepcopy(import_module("raybook.data").DataContext.get_current().execution_options)
