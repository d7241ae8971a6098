"""Checks: everything that is wrong with values, each with its path, before a manifest of them exists.

A cluster that Kubernetes accepts and that never starts costs an afternoon; what can be known here is said here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from raybook.k8s.core.quantities import amount_of
from raybook.k8s.core.values import Cluster, CronJob, FaultTolerance, Group, Job, Network, Pod, Service, Values

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_FILE = re.compile(r"[-._a-zA-Z0-9]+")
_ENDPOINT = re.compile(r"[0-9a-fA-F:.]+/[0-9]{1,3}:[0-9]{1,5}")
CLUSTER_NAME_MAX = 63
OWNER_NAME_MAX = 47
"""Of jobs and services, from which the operator makes names of clusters. Source: KubeRay's validation."""
CRON_NAME_MAX = 35
"""Jobs of a schedule are called after it and the time."""
NAMESPACE_MAX = 63
FILES_BYTES_MAX = 1_000_000
"""A ConfigMap holds 1 MiB with all that is around the text."""
EMBEDDED_STORE_SINCE = (2, 56)
TOKENS_SINCE = (2, 52)
SECONDS_MAX = 2**31 - 1


def check(values: Values) -> None:
    """ValueError that lists everything wrong, a line each."""
    problems = list(problems_of(values))
    if problems:
        raise ValueError("These values cannot be rendered; nothing was made:\n  " + "\n  ".join(problems))


def problems_of(values: Values) -> Iterator[str]:
    """As ``path: what is wrong``."""
    if isinstance(values, Cluster):
        yield from _cluster(values, "", CLUSTER_NAME_MAX)
    elif isinstance(values, Job):
        yield from _job(values, "", OWNER_NAME_MAX)
    elif isinstance(values, Service):
        yield from _service(values)
    else:
        yield from _cron_job(values)


def _cluster(cluster: Cluster, path: str, name_max: int) -> Iterator[str]:
    if len(cluster.name) > name_max or not _NAME.fullmatch(cluster.name):
        yield (
            f"{path}name: {cluster.name!r} is not of at most {name_max} lower-case letters, digits and dashes that begin "
            "with a letter"
        )
    if len(cluster.namespace) > NAMESPACE_MAX or not _NAMESPACE.fullmatch(cluster.namespace):
        yield f"{path}namespace: {cluster.namespace!r} is no name of a namespace"
    version = _version(cluster.ray_version)
    if version is None:
        yield f"{path}ray_version: {cluster.ray_version!r} is not of the form 2.60.0"
    if cluster.engine == "native" and not cluster.image:
        yield f"{path}image: engine native needs an image with raybook in it; docker/Dockerfile makes one"
    if cluster.token_auth and version is not None and version < TOKENS_SINCE:
        yield f"{path}token_auth: Ray knows tokens since 2.52, and ray_version is {cluster.ray_version}"
    if not 1 <= cluster.idle_timeout_s <= SECONDS_MAX:
        yield f"{path}idle_timeout_s: {cluster.idle_timeout_s} is not from 1 on"
    yield from _pod(cluster.head, f"{path}head.")
    names = [group.name for group in cluster.groups]
    for index, group in enumerate(cluster.groups):
        yield from _group(group, f"{path}groups[{index}].")
        if group.name in names[:index]:
            yield f"{path}groups[{index}].name: there is a group called {group.name!r} already"
    if cluster.head.gpus and not cluster.head.runs_tasks:
        yield f"{path}head.gpus: a head that runs no tasks has no use for a GPU; set runs_tasks, or leave it out"
    if cluster.fault_tolerance is not None:
        yield from _fault_tolerance(cluster.fault_tolerance, version, cluster.engine, f"{path}fault_tolerance.")
    yield from _network(cluster.network, cluster.engine == "ray", f"{path}network.")


def _pod(pod: Pod, path: str) -> Iterator[str]:
    if not pod.cpus > 0:
        yield f"{path}cpus: {pod.cpus:g} is not more than 0"
    yield from _size(pod.memory, f"{path}memory")
    if pod.gpus < 0:
        yield f"{path}gpus: {pod.gpus} is less than 0"
    if pod.gpus and not pod.gpu_resource:
        yield f"{path}gpu_resource: GPUs need the name of their resource, as in nvidia.com/gpu"


def _group(group: Group, path: str) -> Iterator[str]:
    yield from _pod(group, path)
    if len(group.name) > NAMESPACE_MAX or not _NAME.fullmatch(group.name):
        yield f"{path}name: {group.name!r} is not of lower-case letters, digits and dashes"
    if group.min_workers < 0:
        yield f"{path}min_workers: {group.min_workers} is less than 0"
    if group.max_workers < max(group.min_workers, 1):
        yield f"{path}max_workers: {group.max_workers} is less than {max(group.min_workers, 1)}"
    elif group.workers is not None and not group.min_workers <= group.workers <= group.max_workers:
        yield f"{path}workers: {group.workers} is not from {group.min_workers} to {group.max_workers}"
    if group.idle_timeout_s is not None and not 1 <= group.idle_timeout_s <= SECONDS_MAX:
        yield f"{path}idle_timeout_s: {group.idle_timeout_s} is not from 1 on"


def _size(text: str, path: str) -> Iterator[str]:
    try:
        if amount_of(text) <= 0:
            yield f"{path}: {text!r} is not more than 0"
    except ValueError as error:
        yield f"{path}: {error}"


def _fault_tolerance(asked: FaultTolerance, version: tuple[int, int] | None, engine: str, path: str) -> Iterator[str]:
    if asked.redis_address:
        if asked.redis_secret and asked.redis_secret.count("/") != 1:
            yield f"{path}redis_secret: {asked.redis_secret!r} is not of the form NAME/KEY"
        return
    yield from _size(asked.storage, f"{path}storage")
    if engine == "ray" and version is not None and version < EMBEDDED_STORE_SINCE:
        yield f"{path}storage: Ray has a store of its own since 2.56; give a redis_address, or a newer ray_version"


def _network(network: Network, has_autoscaler: bool, path: str) -> Iterator[str]:
    if network.api_server and not _ENDPOINT.fullmatch(network.api_server):
        yield f"{path}api_server: {network.api_server!r} is not of the form CIDR:PORT, as in 10.0.0.1/32:6443"
    if network.mode == "deny-all" and has_autoscaler and not network.api_server:
        yield (
            f"{path}api_server: under deny-all the autoscaler reaches Kubernetes only where you say, as in 10.0.0.1/32:6443 "
            "(kubectl get endpointslices -n default -l kubernetes.io/service-name=kubernetes)"
        )


def _job(job: Job, path: str, name_max: int) -> Iterator[str]:
    yield from _cluster(job.cluster, f"{path}cluster.", name_max)
    if not job.entrypoint.strip():
        yield f"{path}entrypoint: a job needs a command"
    for name in job.files:
        if not _FILE.fullmatch(name):
            yield f"{path}files: {name!r} is not a plain file name"
    size_bytes = sum(len(text.encode()) for text in job.files.values())
    if size_bytes > FILES_BYTES_MAX:
        yield f"{path}files: {size_bytes:,} bytes are more than the {FILES_BYTES_MAX:,} that travel with a job"
    if job.retries < 0:
        yield f"{path}retries: {job.retries} is less than 0"
    if job.keep_s < 0:
        yield f"{path}keep_s: {job.keep_s} is less than 0"
    if job.deadline_s is not None and job.deadline_s < 1:
        yield f"{path}deadline_s: {job.deadline_s} is not from 1 on"
    if job.suspend and not job.delete_cluster:
        yield f"{path}suspend: the operator suspends only jobs whose cluster is deleted afterwards (delete_cluster)"


def _service(service: Service) -> Iterator[str]:
    yield from _cluster(service.cluster, "cluster.", OWNER_NAME_MAX)
    if not service.applications:
        yield "applications: a service needs at least one"
    for index, application in enumerate(service.applications):
        if not isinstance(application.get("import_path"), str):
            yield f"applications[{index}].import_path: an application needs one, as in module:app"
    if service.upgrade == "incremental" and not service.gateway_class:
        yield "gateway_class: an incremental upgrade moves the traffic through a gateway, whose class it needs"
    if service.old_cluster_kept_s < 0:
        yield f"old_cluster_kept_s: {service.old_cluster_kept_s} is less than 0"


def _cron_job(cron: CronJob) -> Iterator[str]:
    yield from _job(cron.job, "job.", CRON_NAME_MAX)
    if len(cron.schedule.split()) != 5 and not re.fullmatch(r"@(yearly|monthly|weekly|daily|hourly)", cron.schedule):
        yield f"schedule: {cron.schedule!r} is not five fields of cron, as in '0 3 * * *'"


def _version(text: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"([0-9]+)\.([0-9]+)\.[0-9a-z.]+", text)
    return (int(match[1]), int(match[2])) if match else None
