"""raybook.actor: where Ray's users find actor classes, handles and ``exit_actor``. Defined in ``api/actor``."""

from raybook.api.actor import ActorClass, exit_actor, method
from raybook.api.actor_handle import ActorHandle, ActorMethod

DEFAULT_MAX_CONCURRENCY_ASYNC = 1000
"""Calls that an async actor runs at once, unless told otherwise."""


class ActorClassInheritanceException(TypeError):
    """Of Ray's name; inheriting from an actor class raises a TypeError here."""


__all__ = [
    "DEFAULT_MAX_CONCURRENCY_ASYNC",
    "ActorClass",
    "ActorClassInheritanceException",
    "ActorHandle",
    "ActorMethod",
    "exit_actor",
    "method",
]
