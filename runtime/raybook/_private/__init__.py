"""Names of Ray's own that its users' code and tests reach for all the same; no more than that."""

from raybook._private import worker

__all__ = ["worker"]
