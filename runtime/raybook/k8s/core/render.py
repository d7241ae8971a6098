"""Render: values become the manifests that KubeRay's operator reads. Pure: the same values, the same manifests.

Bounds of autoscaling are always written, tokens are on, the GCS keeps its tables and pods are closed to strangers, unless
the values say otherwise. Source: KubeRay's CRDs (`ray.io/v1`), state of August 2026.
"""

from __future__ import annotations

import json
from typing import Any

from raybook.k8s.core.checks import check
from raybook.k8s.core.pods import (
    CLIENT_PORT,
    DASHBOARD_PORT,
    FILES_FOLDER,
    METRICS_PORT,
    SERVE_PORT,
    head_template,
    worker_template,
)
from raybook.k8s.core.values import Cluster, CronJob, FaultTolerance, Group, Job, Network, Service, Values

API_VERSION = "ray.io/v1"
MANAGED_BY = {"app.kubernetes.io/managed-by": "raybook"}
Manifest = dict[str, Any]

_SUBMISSION = {"pod": "K8sJobMode", "http": "HTTPMode", "sidecar": "SidecarMode"}
_UPGRADE = {"new-cluster": "NewCluster", "incremental": "NewClusterWithIncrementalUpgrade", "none": "None"}
_MODE = {"deny-ingress": "DenyAllIngress", "deny-all": "DenyAll"}
_SURGE = {"stepSizePercent": 10, "intervalSeconds": 30, "maxSurgePercent": 100}
_AUTOSCALER_AMOUNTS = {"cpu": "500m", "memory": "512Mi"}


def render(values: Values) -> list[Manifest]:
    """Manifests in the order in which they are to be applied; the last is the one that was asked for. ValueError that
    lists everything wrong with the values."""
    check(values)
    if isinstance(values, Cluster):
        return [_manifest("RayCluster", values, cluster_spec(values))]
    if isinstance(values, Job):
        return [*_files(values), _manifest("RayJob", values.cluster, job_spec(values))]
    if isinstance(values, Service):
        return [_manifest("RayService", values.cluster, _service_spec(values))]
    return [*_files(values.job), _manifest("RayCronJob", values.job.cluster, _cron_spec(values))]


def cluster_spec(cluster: Cluster, files: str = "") -> Manifest:
    """Of a RayCluster. files: name of a ConfigMap that every pod mounts."""
    scales = cluster.engine == "ray"
    spec: Manifest = {
        "rayVersion": cluster.ray_version,
        # The autoscaler beside the head is Ray's program; raybook's own image does not have it.
        "enableInTreeAutoscaling": scales,
        "authOptions": {"mode": "token" if cluster.token_auth else "disabled"},
        "headGroupSpec": {
            "serviceType": "ClusterIP",
            "rayStartParams": _head_params(cluster),
            "template": head_template(cluster, files),
        },
        "workerGroupSpecs": [_group_spec(cluster, group, files) for group in cluster.groups],
    }
    if cluster.head.labels:
        spec["headGroupSpec"]["labels"] = dict(cluster.head.labels)
    if scales:
        spec["autoscalerOptions"] = {
            "version": "v2",
            "upscalingMode": "Default",
            "idleTimeoutSeconds": cluster.idle_timeout_s,
            "resources": {"requests": dict(_AUTOSCALER_AMOUNTS), "limits": dict(_AUTOSCALER_AMOUNTS)},
        }
    if cluster.fault_tolerance is not None:
        tolerance = _fault_tolerance(cluster.fault_tolerance, cluster.engine)
        if tolerance:
            spec["gcsFaultToleranceOptions"] = tolerance
    if cluster.network.mode != "open":
        spec["networkPolicy"] = _network_policy(cluster.network)
    if cluster.tls:
        spec["tlsOptions"] = {"enabled": True}
    return spec


def job_spec(job: Job) -> Manifest:
    """Of a RayJob."""
    spec: Manifest = {
        "entrypoint": job.entrypoint,
        "submissionMode": _SUBMISSION[job.submission],
        "shutdownAfterJobFinishes": job.delete_cluster,
        "backoffLimit": job.retries,
        "suspend": job.suspend,
        "rayClusterSpec": cluster_spec(job.cluster, _files_name(job)),
    }
    if job.delete_cluster:
        spec["ttlSecondsAfterFinished"] = job.keep_s
    if job.deadline_s is not None:
        spec["activeDeadlineSeconds"] = job.deadline_s
    if job.runtime_env:
        # JSON is YAML, and quotes every string: a version like 1.10 stays what it is.
        spec["runtimeEnvYAML"] = json.dumps(job.runtime_env, indent=1)
    if job.entrypoint_cpus is not None:
        spec["entrypointNumCpus"] = job.entrypoint_cpus
    if job.entrypoint_gpus is not None:
        spec["entrypointNumGpus"] = job.entrypoint_gpus
    return spec


def _manifest(kind: str, cluster: Cluster, spec: Manifest) -> Manifest:
    metadata: Manifest = {
        "name": cluster.name,
        "namespace": cluster.namespace,
        "labels": {**MANAGED_BY, **cluster.labels},
    }
    if cluster.annotations:
        metadata["annotations"] = dict(cluster.annotations)
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def _head_params(cluster: Cluster) -> dict[str, str]:
    params = {"dashboard-host": "0.0.0.0"}
    if not cluster.head.runs_tasks:
        params["num-cpus"] = "0"
    return params


def _group_spec(cluster: Cluster, group: Group, files: str) -> Manifest:
    spec: Manifest = {
        "groupName": group.name,
        "replicas": group.min_workers if group.workers is None else group.workers,
        "minReplicas": group.min_workers,
        "maxReplicas": group.max_workers,
        "rayStartParams": {},
        "template": worker_template(cluster, group, files),
    }
    if group.idle_timeout_s is not None and cluster.engine == "ray":
        spec["idleTimeoutSeconds"] = group.idle_timeout_s
    if group.priority:
        spec["priority"] = group.priority
    if group.labels:
        spec["labels"] = dict(group.labels)
    return spec


def _fault_tolerance(asked: FaultTolerance, engine: str) -> Manifest:
    if asked.redis_address:
        options: Manifest = {"backend": "redis", "redisAddress": asked.redis_address}
        if asked.redis_secret:
            name, key = asked.redis_secret.split("/")
            options["redisPassword"] = {"valueFrom": {"secretKeyRef": {"name": name, "key": key}}}
        return options
    if engine == "native":
        # raybook's GCS keeps its tables in a file or in a Redis; the operator's volume is for Ray's store.
        return {}
    storage: Manifest = {"size": asked.storage}
    if asked.storage_class:
        storage["storageClassName"] = asked.storage_class
    return {"backend": "rocksdb", "storage": storage}


def _network_policy(network: Network) -> Manifest:
    friends = [{"podSelector": {}}, *(_namespace(name) for name in network.from_namespaces)]
    doors = {"from": friends, "ports": [_tcp(port) for port in (DASHBOARD_PORT, CLIENT_PORT, SERVE_PORT)]}
    served = {"from": friends, "ports": [_tcp(SERVE_PORT)]}
    watched = []
    if network.metrics_from:
        watched = [{"from": [_namespace(name) for name in network.metrics_from], "ports": [_tcp(METRICS_PORT)]}]
    head: Manifest = {"ingressRules": [doors, *watched]}
    worker: Manifest = {"ingressRules": [served, *watched]}
    if network.mode == "deny-all":
        names = {
            "to": [{**_namespace("kube-system"), "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
            "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
        }
        head["egressRules"], worker["egressRules"] = [names], [names]
        if network.api_server:
            cidr, _, port = network.api_server.rpartition(":")
            head["egressRules"] = [names, {"to": [{"ipBlock": {"cidr": cidr}}], "ports": [_tcp(int(port))]}]
    return {"mode": _MODE[network.mode], "head": head, "worker": worker}


def _namespace(name: str) -> Manifest:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _tcp(port: int) -> Manifest:
    return {"port": port, "protocol": "TCP"}


def _files_name(job: Job) -> str:
    return f"{job.cluster.name}-files" if job.files else ""


def _files(job: Job) -> list[Manifest]:
    if not job.files:
        return []
    metadata = {"name": _files_name(job), "namespace": job.cluster.namespace, "labels": dict(MANAGED_BY)}
    return [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(job.files)}]


def path_of(file: str) -> str:
    """Where a job's pods find one of its files."""
    return f"{FILES_FOLDER}/{file}"


def _service_spec(service: Service) -> Manifest:
    strategy: Manifest = {"type": _UPGRADE[service.upgrade]}
    if service.upgrade == "incremental":
        strategy["clusterUpgradeOptions"] = {"gatewayClassName": service.gateway_class, **_SURGE}
    return {
        "serveConfigV2": json.dumps({"applications": service.applications}, indent=1),
        "upgradeStrategy": strategy,
        "excludeHeadPodFromServeSvc": not service.head_serves,
        "rayClusterDeletionDelaySeconds": service.old_cluster_kept_s,
        "rayClusterConfig": cluster_spec(service.cluster),
    }


def _cron_spec(cron: CronJob) -> Manifest:
    spec: Manifest = {"schedule": cron.schedule, "suspend": cron.suspend, "jobTemplate": job_spec(cron.job)}
    if cron.time_zone:
        spec["timeZone"] = cron.time_zone
    return spec
