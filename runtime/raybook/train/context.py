"""Train context: a worker's numbers, with the getters of Ray's `TrainContext`."""

from __future__ import annotations

from typing import Any, NoReturn

from raybook.train.storage import StorageContext


class TrainContext:
    """Facts about the worker that a training function runs in. `raybook.train.get_context()` returns it."""

    def __init__(
        self,
        experiment_name: str,
        world_size: int = 1,
        world_rank: int = 0,
        local_rank: int = 0,
        local_world_size: int = 1,
        node_rank: int = 0,
        storage: StorageContext | None = None,
    ) -> None:
        self._experiment_name = experiment_name
        self._world_size = world_size
        self._world_rank = world_rank
        self._local_rank = local_rank
        self._local_world_size = local_world_size
        self._node_rank = node_rank
        self._storage = storage

    def get_experiment_name(self) -> str:
        """Return the name of the run, which is also its folder's."""
        return self._experiment_name

    def get_world_size(self) -> int:
        """Return the number of workers that train together."""
        return self._world_size

    def get_world_rank(self) -> int:
        """Return this worker's number among all of them."""
        return self._world_rank

    def get_local_rank(self) -> int:
        """Return this worker's number among those of its node."""
        return self._local_rank

    def get_local_world_size(self) -> int:
        """Return the number of workers on this node."""
        return self._local_world_size

    def get_node_rank(self) -> int:
        """Return this node's number among the nodes that train."""
        return self._node_rank

    def get_storage(self) -> StorageContext:
        """Return where the run's files lie. NotImplementedError in local mode, where nothing is stored."""
        if self._storage is None:
            raise NotImplementedError("A run with num_workers=0 stores nothing, so it has no storage context.")
        return self._storage

    def get_metadata(self) -> dict[str, Any]:
        """Deprecated."""
        raise DeprecationWarning(
            "`get_metadata` was given up together with Trainer(metadata=...). Pass what you need in train_loop_config."
        )

    def get_trial_name(self) -> str:
        """Deprecated."""
        _no_trial("get_trial_name")

    def get_trial_id(self) -> str:
        """Deprecated."""
        _no_trial("get_trial_id")

    def get_trial_resources(self) -> Any:
        """Deprecated."""
        _no_trial("get_trial_resources")

    def get_trial_dir(self) -> str:
        """Deprecated."""
        _no_trial("get_trial_dir")


def _no_trial(name: str) -> NoReturn:
    raise DeprecationWarning(
        f"`{name}` is about trials of Tune, and this is a worker of Train. Call raybook.tune.get_context().{name}() in the "
        "trial's function, and pass the value in train_loop_config."
    )
