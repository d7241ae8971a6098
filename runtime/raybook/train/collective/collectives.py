"""Collectives of a training function. Every worker must call them in the same order, the same number of times."""

from __future__ import annotations

import logging
from typing import TypeVar

import cloudpickle

from raybook.train.session import _worker_session

T = TypeVar("T")

logger = logging.getLogger("raybook.train")

BROADCAST_BYTES_NOTICED = 1000
"""Ray warns from here on. Through the controller travel small things: names, numbers, decisions."""


def barrier() -> None:
    """Wait until every worker is here. Raises RuntimeError outside of a worker. Cost: one round trip."""
    _worker_session("barrier").barrier()


def broadcast_from_rank_zero(data: T) -> T:
    """Wait until every worker is here; return what rank 0 brought. Cost: one round trip, the data twice.

    data: small and picklable; for tensors use torch.distributed. Raises RuntimeError outside of a worker.
    """
    session = _worker_session("broadcast_from_rank_zero")
    size = len(cloudpickle.dumps(data))
    if data is not None and size > BROADCAST_BYTES_NOTICED:
        logger.warning(
            "Data size %d bytes exceeds the maximum broadcast size of %d bytes", size, BROADCAST_BYTES_NOTICED
        )
    return session.broadcast_from_rank_zero(data)
