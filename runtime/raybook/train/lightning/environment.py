"""Lightning environment: tells Lightning the worker's ranks. The process group is there already."""

from __future__ import annotations

from raybook.train.lightning.library import LightningEnvironment
from raybook.train.session import get_context


class RayLightningEnvironment(LightningEnvironment):
    """The workers of a TorchTrainer, as Lightning's cluster environment."""

    def world_size(self) -> int:
        """The number of workers."""
        return get_context().get_world_size()

    def global_rank(self) -> int:
        """This worker's number among all."""
        return get_context().get_world_rank()

    def local_rank(self) -> int:
        """This worker's number on its node."""
        return get_context().get_local_rank()

    def node_rank(self) -> int:
        """This node's number."""
        return get_context().get_node_rank()

    def set_world_size(self, size: int) -> None:
        """Nothing: it is given."""

    def set_global_rank(self, rank: int) -> None:
        """Nothing: it is given."""

    def teardown(self) -> None:
        """Nothing: the group is the trainer's."""
