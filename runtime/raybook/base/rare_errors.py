"""Errors of Ray's for parts that raybook does not have: they are never raised here, and ``except`` clauses name them."""

from raybook.base.errors import RayError, RaySystemError


class AsyncioActorExit(RayError):
    """Ray ends async actors by it."""


class OufOfBandObjectRefSerializationException(RayError):
    """A ref was pickled outside of a task, which raybook allows."""


class PlasmaObjectNotAvailable(RayError):
    """Within Ray's object store."""


class StreamingGeneratorReplayInconsistentError(RaySystemError):
    """A generator that ran again gave other items."""
