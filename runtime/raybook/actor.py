"""raybook.actor: where Ray's users find actor classes, handles and ``exit_actor``. Defined in ``api/actor``."""

from raybook.api.actor import ActorClass, exit_actor
from raybook.api.actor_handle import ActorHandle, ActorMethod

__all__ = ["ActorClass", "ActorHandle", "ActorMethod", "exit_actor"]
