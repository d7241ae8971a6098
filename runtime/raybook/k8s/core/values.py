"""Values: what is asked of Kubernetes, in few words; ``render`` makes KubeRay's manifests of them.

These are records that a YAML file holds as it stands (``raybook k8s render --values FILE``); fields that nobody knows are
refused with their path. Amounts of CPUs are numbers, of memory quantities ("16Gi"); times are seconds.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

RAY_VERSION = "2.60.0"
"""Whose API raybook speaks; of Ray's images unless another is named."""


class Toleration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A taint that pods put up with, as Kubernetes has it."""

    key: str = ""
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    tolerationSeconds: int | None = None


class Pod(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the head and every worker have. What is asked for is also the limit, so that no pod is a surprise to another.

    image: "" for the cluster's. labels: of the node, which tasks may ask for.
    """

    cpus: float = 4
    memory: str = "16Gi"
    gpus: int = 0
    gpu_resource: str = "nvidia.com/gpu"
    image: str = ""
    node_selector: dict[str, str] = {}
    tolerations: list[Toleration] = []
    labels: dict[str, str] = {}
    env: dict[str, str] = {}


class Head(Pod, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The pod that everybody depends on: never on a node that may be taken away. runs_tasks: whether its CPUs count."""

    cpus: float = 2
    memory: str = "8Gi"
    runs_tasks: bool = False


class Group(Pod, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Workers of one size. workers: how many at first (``min_workers`` unless given); the autoscaler moves them within the
    bounds. spot: only on nodes that the provider may take back. priority: groups with more are filled first."""

    name: str = "workers"
    min_workers: int = 0
    max_workers: int = 4
    workers: int | None = None
    spot: bool = False
    idle_timeout_s: int | None = None
    priority: int = 0


class FaultTolerance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the GCS keeps its tables, so that a head that dies is followed by one that knows everything.

    storage: size of a volume for Ray's embedded store, unless redis_address is given. redis_secret: "NAME/KEY" of its
    password."""

    storage: str = "10Gi"
    storage_class: str = ""
    redis_address: str = ""
    redis_secret: str = ""


class Network(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may speak with the pods. Those of one cluster always may.

    mode: "deny-ingress": nobody else but pods of the namespace and of ``from_namespaces``, at the doors (dashboard, clients,
    serving); "deny-all": outbound only names and ``api_server`` ("CIDR:PORT", which the autoscaler needs); "open": all.
    metrics_from: namespaces whose Prometheus reads /metrics.
    """

    mode: Literal["deny-ingress", "deny-all", "open"] = "deny-ingress"
    from_namespaces: list[str] = []
    metrics_from: list[str] = []
    api_server: str = ""


class Cluster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cluster. engine: "ray" runs Ray's images, "native" an image of raybook's (``image`` is needed then).

    fault_tolerance None: a head that dies takes the cluster's memory with it. one_pod_a_node: no two pods of Ray share a
    node, whatever cluster they are of. pull_secrets: names of secrets for the registry.
    """

    name: str = "raybook"
    namespace: str = "default"
    engine: Literal["ray", "native"] = "ray"
    image: str = ""
    ray_version: str = RAY_VERSION
    head: Head = Head()
    groups: list[Group] = msgspec.field(default_factory=lambda: [Group()])
    idle_timeout_s: int = 60
    fault_tolerance: FaultTolerance | None = FaultTolerance()
    token_auth: bool = True
    tls: bool = False
    one_pod_a_node: bool = True
    network: Network = Network()
    service_account: str = ""
    pull_secrets: list[str] = []
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A command on a cluster of its own, which goes when the command is over. files: name → text, which the pods find in
    ``/home/ray/job``. retries: clusters made anew after a failure. submission: "pod": the operator makes a pod that submits
    it; "http": the operator submits it; "sidecar": a container beside the head does."""

    cluster: Cluster = Cluster()
    entrypoint: str = ""
    runtime_env: dict[str, Any] = {}
    files: dict[str, str] = {}
    entrypoint_cpus: float | None = None
    entrypoint_gpus: float | None = None
    delete_cluster: bool = True
    keep_s: int = 60
    deadline_s: int | None = None
    retries: int = 0
    submission: Literal["pod", "http", "sidecar"] = "http"
    suspend: bool = False


class Service(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Applications that are served. applications: as in a config file of ``serve deploy``. upgrade: "new-cluster": a second
    cluster takes over when it is ready; "incremental": by and by, through ``gateway_class``; "none": in place."""

    cluster: Cluster = Cluster()
    applications: list[dict[str, Any]] = []
    upgrade: Literal["new-cluster", "incremental", "none"] = "new-cluster"
    gateway_class: str = ""
    head_serves: bool = False
    old_cluster_kept_s: int = 60


class CronJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job at times. schedule: five fields of cron. time_zone: as in "Europe/Berlin"; "" for the operator's."""

    job: Job = Job()
    schedule: str = ""
    time_zone: str = ""
    suspend: bool = False


Values = Cluster | Job | Service | CronJob
