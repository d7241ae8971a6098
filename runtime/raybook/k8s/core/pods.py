"""Pods: templates of the head and of workers.

Rules that hold here: what is asked for is the limit; the head stands on no node that may be taken away; workers with
GPUs and workers without stand on different nodes; no two pods of Ray share a node (unless the values say so). Source: the
labels and taints that clouds and Karpenter put on nodes, named below.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raybook.k8s.core.quantities import cpu_text
from raybook.k8s.core.values import Cluster, Group, Head, Pod, Toleration

GCS_PORT, DASHBOARD_PORT, CLIENT_PORT, METRICS_PORT, SERVE_PORT, AGENT_PORT = 6379, 8265, 10001, 8080, 8000, 52365
"""What KubeRay expects of `ray start`, and where its probes knock (AGENT_PORT)."""

SPOT_LABELS = (
    ("karpenter.sh/capacity-type", "spot"),
    ("eks.amazonaws.com/capacityType", "SPOT"),
    ("cloud.google.com/gke-spot", "true"),
    ("cloud.google.com/gke-preemptible", "true"),
    ("kubernetes.azure.com/scalesetpriority", "spot"),
)
"""What says that a node may be taken back: (label, value)."""
SPOT_TAINTS = ("cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority")
GPU_LABELS = ("nvidia.com/gpu.present", "cloud.google.com/gke-accelerator", "k8s.amazonaws.com/accelerator")
"""What says that a node has GPUs."""
IS_RAY_NODE = "ray.io/is-ray-node"
"""A label that the operator puts on every pod of a cluster: "yes"."""

FILES_FOLDER = "/home/ray/job"
GRACE_S = 60
PROBE_PERIOD_S = 5
PROBE_TIMEOUT_S = 5
READY_FAILURES = 10
ALIVE_FAILURES = 24
"""Two minutes: as long as a busy node may be silent before it is started anew. KubeRay's own default is 120 tries."""


def head_template(cluster: Cluster, files: str = "") -> dict[str, Any]:
    """The head's. files: name of a ConfigMap to mount; "" for none."""
    ports = [
        _port("gcs-server", GCS_PORT),
        _port("dashboard", DASHBOARD_PORT),
        _port("client", CLIENT_PORT),
        _port("metrics", METRICS_PORT),
        _port("serve", SERVE_PORT),
    ]
    container = _container("ray-head", cluster, cluster.head, ports, files)
    container |= _probes(cluster, is_head=True)
    spec = _pod_spec(cluster, cluster.head, container, files)
    spec["affinity"] = _affinity(cluster, cluster.head, required=_NOT_SPOT)
    return _template(cluster, spec)


def worker_template(cluster: Cluster, group: Group, files: str = "") -> dict[str, Any]:
    """Of a group's workers."""
    container = _container("ray-worker", cluster, group, [_port("metrics", METRICS_PORT)], files)
    container |= _probes(cluster, is_head=False)
    container["lifecycle"] = {"preStop": {"exec": {"command": ["/bin/sh", "-c", "ray stop"]}}}
    spec = _pod_spec(cluster, group, container, files)
    # Workers ask nothing of Kubernetes: code that runs in them finds no key to it.
    spec["automountServiceAccountToken"] = False
    spec["affinity"] = _affinity(cluster, group, required=_SPOT if group.spot else _NOT_SPOT)
    return _template(cluster, spec)


def image_of(cluster: Cluster, pod: Pod) -> str:
    """The pod's own, the cluster's, or Ray's for that version (with CUDA where the pod has GPUs)."""
    if pod.image or cluster.image:
        return pod.image or cluster.image
    return f"rayproject/ray:{cluster.ray_version}" + ("-gpu" if pod.gpus else "")


def _template(cluster: Cluster, spec: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"labels": dict(cluster.labels), "annotations": dict(cluster.annotations)}, "spec": spec}


def _port(name: str, number: int) -> dict[str, Any]:
    return {"name": name, "containerPort": number}


def _container(name: str, cluster: Cluster, pod: Pod, ports: list[dict[str, Any]], files: str) -> dict[str, Any]:
    amounts: dict[str, Any] = {"cpu": cpu_text(pod.cpus), "memory": pod.memory}
    if pod.gpus:
        amounts[pod.gpu_resource] = str(pod.gpus)
    mounts = [{"name": "ray-logs", "mountPath": "/tmp/ray"}]
    if files:
        mounts.append({"name": "job-files", "mountPath": FILES_FOLDER})
    return {
        "name": name,
        "image": image_of(cluster, pod),
        "imagePullPolicy": "IfNotPresent",
        "ports": ports,
        "env": [{"name": key, "value": value} for key, value in pod.env.items()],
        "resources": {"requests": dict(amounts), "limits": dict(amounts)},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": mounts,
    }


def _pod_spec(cluster: Cluster, pod: Pod, container: dict[str, Any], files: str) -> dict[str, Any]:
    volumes: list[dict[str, Any]] = [{"name": "ray-logs", "emptyDir": {}}]
    if files:
        volumes.append({"name": "job-files", "configMap": {"name": files}})
    spec: dict[str, Any] = {
        "containers": [container],
        "volumes": volumes,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": GRACE_S,
        "nodeSelector": dict(pod.node_selector),
        "tolerations": _tolerations(pod),
    }
    if cluster.service_account and isinstance(pod, Head):
        spec["serviceAccountName"] = cluster.service_account
    if cluster.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in cluster.pull_secrets]
    return spec


def _tolerations(pod: Pod) -> list[dict[str, Any]]:
    given = list(pod.tolerations)
    if pod.gpus:
        given.append(Toleration(pod.gpu_resource, "Exists", effect="NoSchedule"))
    if isinstance(pod, Group) and pod.spot:
        given += [Toleration(taint, "Exists", effect="NoSchedule") for taint in SPOT_TAINTS]
    return [msgspec.to_builtins(toleration) | {"operator": toleration.operator} for toleration in given]


_NOT_SPOT = [[{"key": key, "operator": "NotIn", "values": [value]} for key, value in SPOT_LABELS]]
# Terms are alternatives: any provider's label will do.
_SPOT = [[{"key": key, "operator": "In", "values": [value]}] for key, value in SPOT_LABELS]


def _affinity(cluster: Cluster, pod: Pod, required: list[list[dict[str, Any]]]) -> dict[str, Any]:
    apart = [] if pod.gpus else [{"key": key, "operator": "DoesNotExist"} for key in GPU_LABELS]
    terms = [{"matchExpressions": [*term, *apart]} for term in required]
    affinity: dict[str, Any] = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    }
    if cluster.one_pod_a_node:
        others = {"labelSelector": {"matchLabels": {IS_RAY_NODE: "yes"}}, "topologyKey": "kubernetes.io/hostname"}
        affinity["podAntiAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": [others]}
    return affinity


def _probes(cluster: Cluster, is_head: bool) -> dict[str, Any]:
    if cluster.engine == "native":
        # Asked by the kubelet: the image needs no program for it, and the head's one page answers for both parts.
        port, path = (DASHBOARD_PORT, "/api/gcs_healthz") if is_head else (AGENT_PORT, "/api/local_raylet_healthz")
        how: dict[str, Any] = {"httpGet": {"port": port, "path": path}}
    else:
        tests = [_fetch(AGENT_PORT, "local_raylet_healthz")]
        if is_head:
            tests.append(_fetch(DASHBOARD_PORT, "gcs_healthz"))
        how = {"exec": {"command": ["bash", "-c", " && ".join(tests)]}}
    every = {**how, "periodSeconds": PROBE_PERIOD_S, "timeoutSeconds": PROBE_TIMEOUT_S}
    return {
        "readinessProbe": {**every, "initialDelaySeconds": 10, "failureThreshold": READY_FAILURES},
        "livenessProbe": {**every, "initialDelaySeconds": 30, "failureThreshold": ALIVE_FAILURES},
    }


def _fetch(port: int, page: str) -> str:
    return f"wget --tries 1 -T 2 -q -O- http://localhost:{port}/api/{page} | grep success"
