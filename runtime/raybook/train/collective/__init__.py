"""What all workers of a run do together, besides `report`: small things, by way of the controller (not for tensors)."""

from raybook.train.collective.collectives import barrier, broadcast_from_rank_zero

__all__ = ["barrier", "broadcast_from_rank_zero"]
