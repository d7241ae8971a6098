"""Target: what a deployment should be, as plain data: the form in which it travels and is kept in the GCS.

It knows no class of the user's, only bytes. Two targets with one `code_version` run the same code; what differs beside
is told to running replicas (`settings`), or concerns the controller alone.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Settings(msgspec.Struct):
    """What a running replica can be told without starting again."""

    user_config: Any = None
    max_ongoing_requests: int = 5
    graceful_shutdown_wait_loop_s: float = 2.0
    health_check_timeout_s: float = 30.0
    logging_config: dict[str, Any] | None = None


class ScalingLimits(msgspec.Struct):
    """An autoscaling_config in whole milliseconds."""

    min_replicas: int = 1
    max_replicas: int = 1
    initial_replicas: int | None = None
    target_ongoing_requests: float = 2.0
    look_back_ms: int = 30_000
    upscale_delay_ms: int = 30_000
    downscale_delay_ms: int = 600_000
    downscale_to_zero_delay_ms: int | None = None
    upscaling_factor: float = 1.0
    downscaling_factor: float = 1.0
    aggregation: str = "mean"
    metrics_interval_ms: int = 10_000
    policy: bytes = b""
    """The pickled policy; empty: Serve's own."""
    policy_name: str = ""
    policy_kwargs: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    """What the user wrote, for a policy that looks at its config."""

    @property
    def start(self) -> int:
        """How many replicas a new deployment has."""
        return self.min_replicas if self.initial_replicas is None else self.initial_replicas


class ActorTarget(msgspec.Struct):
    """An actor that a deployment's replicas share."""

    name: str
    code: bytes
    """Pickled: (class with @remote, args, kwargs)."""
    options: dict[str, Any] = {}


class DeploymentTarget(msgspec.Struct):
    """Everything the controller needs to know of one deployment."""

    name: str
    app_name: str
    code_version: str
    blob_key: bytes
    """Under which key of the GCS the pickled class and its arguments are."""
    is_ingress: bool = False
    is_routed: bool = False
    """Whether HTTP requests come to it: the ingress of an application that has a prefix."""
    ingress_kind: str = ""
    """Of an ingress: "asgi" or "request"."""
    num_replicas: int = 1
    settings: Settings = msgspec.field(default_factory=Settings)
    scaling: ScalingLimits | None = None
    max_queued_requests: int = -1
    backpressure_status: int = 503
    retry_after_s: float | None = None
    graceful_shutdown_timeout_ms: int = 20_000
    health_check_period_ms: int = 10_000
    health_check_timeout_ms: int = 30_000
    constructor_retries_max: int = 20
    rolling_update_fraction: float = 0.2
    max_surge_percent: int = 0
    max_replicas_per_node: int | None = None
    actor_options: dict[str, Any] = {}
    bundles: list[dict[str, float]] | None = None
    bundle_strategy: str = "PACK"
    bundle_labels: list[dict[str, str]] | None = None
    router: str = ""
    """Import path of a request router class; empty: power of two choices."""
    router_kwargs: dict[str, Any] = {}
    actors: list[ActorTarget] = []
    children: list[str] = []
    """Deployments whose handles it was given."""
    shown_config: dict[str, Any] = {}
    """What the user set, for status and the panel."""


class ApplicationTarget(msgspec.Struct):
    """One application: its deployments, and where HTTP finds it."""

    name: str
    route_prefix: str | None
    ingress: str
    deployments: dict[str, DeploymentTarget]
    deployed_s: float = 0.0
    source: str = "imperative"
    docs_path: str | None = None
    config: dict[str, Any] | None = None


class ServeState(msgspec.Struct):
    """What survives the controller: written to the GCS whenever it changes."""

    applications: dict[str, ApplicationTarget] = {}
    replicas: dict[str, ReplicaRecord] = {}
    """By full id: those that may be alive."""
    http: dict[str, Any] = {}
    grpc: dict[str, Any] = {}
    proxy_location: str = "EveryNode"
    targets: dict[str, int] = {}
    """Replica counts that the autoscaler chose, by `app#deployment`."""
    actors: list[str] = []
    """Full ids of deployments' actors that may be alive."""


class ReplicaRecord(msgspec.Struct):
    """A replica that was started."""

    unique_id: str
    app_name: str
    deployment: str
    code_version: str
    rank: int = 0
    started_s: float = 0.0
    group_id: bytes = b""
