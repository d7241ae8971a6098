"""Deployment actors, from inside: how a replica finds an actor that its deployment's replicas share, and how that actor
learns whose it is."""

from __future__ import annotations

from dataclasses import dataclass

from raybook.api import ActorHandle, get_actor, get_runtime_context, is_initialized
from raybook.serve.context import replica_context
from raybook.serve.core.names import NAMESPACE, DeploymentActorID, DeploymentID
from raybook.serve.exceptions import RayServeException


@dataclass
class DeploymentActorContext:
    """Whose actor this is."""

    deployment_id: DeploymentID
    actor_name: str
    code_version: str | None = None

    @property
    def app_name(self) -> str:
        """The application."""
        return self.deployment_id.app_name

    @property
    def deployment(self) -> str:
        """The deployment's name."""
        return self.deployment_id.name


def get_deployment_actor(actor_name: str) -> ActorHandle:
    """A handle of one of the deployment's actors (``deployment_actors``), in a replica. RayServeException elsewhere;
    ValueError for one that there is not, or not again yet: an actor that died is replaced, and handles of the former one
    raise RayActorError."""
    context = replica_context()
    if context is None:
        raise RayServeException(
            "`serve.get_deployment_actor()` may only be called from within a Ray Serve deployment replica."
        )
    actor_id = DeploymentActorID(actor_name, context.replica_id.deployment_id, context.code_version or "")
    return get_actor(actor_id.to_full_id_str(), NAMESPACE)


def get_deployment_actor_context() -> DeploymentActorContext:
    """Whose actor this process is. RayServeException elsewhere."""
    name = get_runtime_context().get_actor_name() if is_initialized() else None
    try:
        actor_id = DeploymentActorID.from_full_id_str(name or "")
    except ValueError:
        raise RayServeException(
            "`serve.get_deployment_actor_context()` may only be called from within a Ray Serve deployment actor."
        ) from None
    return DeploymentActorContext(actor_id.deployment_id, actor_id.name, actor_id.code_version)
