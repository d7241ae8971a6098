"""raybook.actor: where Ray's users find actor classes, handles and ``exit_actor``. Defined in ``api/actor``."""

from raybook.api.actor import ActorClass, ActorClassInheritanceException, exit_actor, method
from raybook.api.actor_handle import ActorHandle, ActorMethod

DEFAULT_MAX_CONCURRENCY_ASYNC = 1000
"""Calls that an async actor runs at once, unless told otherwise."""


ActorProxy = ActorHandle
"""What annotations of handles name: ``ActorProxy[Counter]``."""

__all__ = [
    "DEFAULT_MAX_CONCURRENCY_ASYNC",
    "ActorClass",
    "ActorClassInheritanceException",
    "ActorHandle",
    "ActorMethod",
    "ActorProxy",
    "exit_actor",
    "method",
]
