"""Where ``Queue`` was in older versions of Ray."""

from raybook.util.queue import Empty, Full, Queue

__all__ = ["Empty", "Full", "Queue"]
