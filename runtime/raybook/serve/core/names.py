"""Names: what applications, deployments and replicas are called, and under which names their actors are found.

Source: Ray's names, which users see in `raybook list actors` and pass to get_actor.
"""

from __future__ import annotations

from dataclasses import dataclass

CONTROLLER_NAME = "SERVE_CONTROLLER_ACTOR"
NAMESPACE = "serve"
DEFAULT_APP = "default"
REPLICA_PREFIX = "SERVE_REPLICA::"
PROXY_PREFIX = "SERVE_PROXY_ACTOR"
ACTOR_PREFIX = "SERVE_DEPLOYMENT_ACTOR::"


@dataclass(frozen=True)
class DeploymentID:
    """One deployment of one application."""

    name: str
    app_name: str = DEFAULT_APP

    def to_replica_actor_class_name(self) -> str:
        """How a replica's class is shown."""
        return f"ServeReplica:{self.app_name}:{self.name}"

    def __str__(self) -> str:
        return f"Deployment(name='{self.name}', app='{self.app_name}')"

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True)
class ReplicaID:
    """One replica of one deployment."""

    unique_id: str
    deployment_id: DeploymentID

    def to_full_id_str(self) -> str:
        """The actor's name."""
        return f"{REPLICA_PREFIX}{self.deployment_id.app_name}#{self.deployment_id.name}#{self.unique_id}"

    @classmethod
    def from_full_id_str(cls, text: str) -> ReplicaID:
        """The other way. ValueError for what is no replica's name."""
        parts = text.removeprefix(REPLICA_PREFIX).split("#")
        if len(parts) != 3 or not text.startswith(REPLICA_PREFIX):
            raise ValueError(f"{text!r} is not the name of a replica: {REPLICA_PREFIX}app#deployment#id was expected.")
        return cls(parts[2], DeploymentID(parts[1], parts[0]))

    def __str__(self) -> str:
        return f"Replica(id='{self.unique_id}', deployment='{self.deployment_id.name}', app='{self.deployment_id.app_name}')"


@dataclass(frozen=True)
class DeploymentActorID:
    """An actor that the replicas of one version of a deployment share."""

    name: str
    deployment_id: DeploymentID
    code_version: str

    def to_full_id_str(self) -> str:
        """The actor's name in the cluster."""
        deployment = self.deployment_id
        return f"{ACTOR_PREFIX}{deployment.app_name}#{deployment.name}#{self.code_version}#{self.name}"

    @classmethod
    def from_full_id_str(cls, text: str) -> DeploymentActorID:
        """The other way. ValueError for what is no such name."""
        parts = text.removeprefix(ACTOR_PREFIX).split("#", 3)
        if len(parts) != 4 or not text.startswith(ACTOR_PREFIX):
            raise ValueError(f"{text!r} is not the name of a deployment's actor.")
        return cls(parts[3], DeploymentID(parts[1], parts[0]), parts[2])
