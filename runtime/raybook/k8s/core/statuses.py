"""Statuses: what KubeRay's objects and their pods say of themselves, in a few words for people and programs.

Reads plain dicts as the API server returns them, also manifests that were never applied; whatever is missing is missing,
and nothing here raises for it. Source: the status fields of `ray.io/v1`, and the reasons that the kubelet and the
scheduler give.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

KINDS = ("RayCluster", "RayJob", "RayService", "RayCronJob")
READY, PENDING, FAILED, SUSPENDED, COMPLETE, ABSENT = "ready", "pending", "failed", "suspended", "complete", "absent"

_JOB_STATES = {
    "Complete": COMPLETE,
    "Failed": FAILED,
    "ValidationFailed": FAILED,
    "Suspended": SUSPENDED,
    "Suspending": SUSPENDED,
    "Running": READY,
}
_IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName"})
_CRASH_REASONS = frozenset({"CrashLoopBackOff", "Error", "RunContainerError", "StartError", "ContainerCannotRun"})
NO_COMMAND_EXIT = 127
"""A shell's answer for a command that it does not find."""
IS_HEAD, GROUP, NODE_TYPE = "head", "ray.io/group", "ray.io/node-type"


class Part(msgspec.Struct, frozen=True):
    """One cluster behind a service or job. role: "active", "pending", or ""."""

    name: str
    role: str
    state: str


class Report(msgspec.Struct, frozen=True):
    """One object. state: a constant of this module. said: why, as the operator has it. waiting: why pods are not there yet,
    a line each. result: of a job, as Ray has it ("SUCCEEDED")."""

    kind: str
    name: str
    namespace: str
    state: str
    said: str = ""
    workers_ready: int = 0
    workers_wanted: int = 0
    workers_max: int = 0
    dashboard: str = ""
    result: str = ""
    job_id: str = ""
    parts: list[Part] = []
    waiting: list[str] = []

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be expected."""
        return self.state in (FAILED, COMPLETE)

    @property
    def head_service(self) -> str:
        """Name of the service before the head; "" while nobody knows it."""
        name = self.parts[0].name if self.parts else self.name if self.kind == "RayCluster" else ""
        return f"{name}-head-svc" if name else ""


def report_of(thing: Mapping[str, Any], pods: Iterable[Mapping[str, Any]] = ()) -> Report:
    """What an object says. pods: of its clusters. ValueError for what is none of KubeRay's kinds."""
    kind = thing.get("kind", "")
    if kind not in KINDS:
        raise ValueError(f"{kind or 'an object without a kind'} is none of {', '.join(KINDS)}.")
    metadata = _dict(thing, "metadata")
    common = {"kind": kind, "name": str(metadata.get("name", "")), "namespace": str(metadata.get("namespace", ""))}
    common["waiting"] = waits_of(pods)
    spec, status = _dict(thing, "spec"), _dict(thing, "status")
    if metadata.get("deletionTimestamp"):
        common["waiting"] = ["It is being deleted.", *common["waiting"]]
    return _READERS[kind](spec, status, common)


def waits_of(pods: Iterable[Mapping[str, Any]]) -> list[str]:
    """Why pods are not ready, one line a reason; pods with the same reason are counted."""
    found: dict[str, list[str]] = {}
    for pod in pods:
        reason = _wait_of(pod)
        if reason:
            found.setdefault(reason, []).append(_title(pod))
    return [f"{_several(names)}: {reason}" for reason, names in found.items()]


def _cluster(spec: Mapping[str, Any], status: Mapping[str, Any], common: dict[str, Any]) -> Report:
    state = {"ready": READY, "failed": FAILED, "suspended": SUSPENDED}.get(str(status.get("state", "")), PENDING)
    if spec.get("suspend") and state != SUSPENDED:
        common["waiting"] = ["It is being suspended.", *common["waiting"]]
    said = str(status.get("reason", ""))
    for condition in status.get("conditions") or ():
        is_bad = condition.get("type") == "ReplicaFailure" and condition.get("status") == "True"
        is_unready = state != READY and condition.get("type") == "HeadPodReady" and condition.get("status") == "False"
        if is_bad or (is_unready and not said):
            said = str(condition.get("message") or condition.get("reason", ""))
    groups = spec.get("workerGroupSpecs") or []
    wanted = status.get("desiredWorkerReplicas", sum(_size(group, "replicas") for group in groups))
    return Report(
        state=state,
        said=said,
        workers_ready=int(status.get("readyWorkerReplicas", 0)),
        workers_wanted=int(wanted),
        workers_max=sum(_size(group, "maxReplicas") for group in groups),
        **common,
    )


def _job(spec: Mapping[str, Any], status: Mapping[str, Any], common: dict[str, Any]) -> Report:
    deployment = str(status.get("jobDeploymentStatus", ""))
    result = str(status.get("jobStatus", ""))
    state = _JOB_STATES.get(deployment, PENDING)
    if state == COMPLETE and result not in ("SUCCEEDED", ""):
        state = FAILED
    inner = _cluster(_dict(spec, "rayClusterSpec"), _dict(status, "rayClusterStatus"), dict(common))
    name = str(status.get("rayClusterName", ""))
    said = ": ".join(part for part in (str(status.get("reason", "")), str(status.get("message", ""))) if part)
    return Report(
        state=state,
        said=said or ("" if state != PENDING else deployment),
        workers_ready=inner.workers_ready,
        workers_wanted=inner.workers_wanted,
        workers_max=inner.workers_max,
        dashboard=str(status.get("dashboardURL", "")),
        result=result,
        job_id=str(status.get("jobId", "")),
        parts=[Part(name, "", inner.state)] if name else [],
        **common,
    )


def _service(spec: Mapping[str, Any], status: Mapping[str, Any], common: dict[str, Any]) -> Report:
    parts, said = [], []
    for role in ("active", "pending"):
        half = _dict(status, f"{role}ServiceStatus")
        name = str(half.get("rayClusterName", ""))
        if not name:
            continue
        cluster = _cluster({}, _dict(half, "rayClusterStatus"), {"kind": "RayCluster", "name": name, "namespace": ""})
        parts.append(Part(name, role, cluster.state))
        for application, told in (half.get("applicationStatuses") or {}).items():
            words = f"{role} {application}: {told.get('status', '')}"
            said.append(words + (f" ({told['message']})" if told.get("message") else ""))
    conditions = {one.get("type"): one for one in status.get("conditions") or ()}
    is_ready = conditions.get("Ready", {}).get("status") == "True" or status.get("serviceStatus") == "Running"
    message = conditions.get("Ready", {}).get("message", "") if not is_ready else ""
    inner = _cluster(_dict(spec, "rayClusterConfig"), {}, dict(common))
    state = SUSPENDED if spec.get("suspend") else READY if is_ready else PENDING
    return Report(
        state=state,
        said="; ".join([*([message] if message else []), *said]),
        workers_wanted=inner.workers_wanted,
        workers_max=inner.workers_max,
        parts=parts,
        **common,
    )


def _cron_job(spec: Mapping[str, Any], status: Mapping[str, Any], common: dict[str, Any]) -> Report:
    last = str(status.get("lastScheduleTime", ""))
    said = f"at {spec.get('schedule', '')}, " + (f"last at {last}" if last else "never yet")
    return Report(state=SUSPENDED if spec.get("suspend") else READY, said=said, **common)


_READERS = {"RayCluster": _cluster, "RayJob": _job, "RayService": _service, "RayCronJob": _cron_job}


def _wait_of(pod: Mapping[str, Any]) -> str:
    """Why this pod is not ready; "" for one that is, or that has ended well."""
    status = _dict(pod, "status")
    phase = str(status.get("phase", "Pending"))
    conditions = {one.get("type"): one for one in status.get("conditions") or ()}
    if phase == "Succeeded" or conditions.get("Ready", {}).get("status") == "True":
        return ""
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return f"no node takes it: {scheduled.get('message') or scheduled.get('reason', '')}"
    for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        reason = _container_wait(one)
        if reason:
            return reason
    if phase == "Failed":
        return f"failed: {status.get('reason', '')} {status.get('message', '')}".strip()
    return "its containers are being made" if phase == "Pending" else "its probes do not answer yet"


def _container_wait(container: Mapping[str, Any]) -> str:
    state, last = _dict(container, "state"), _dict(container, "lastState")
    waiting = _dict(state, "waiting")
    ended = _dict(state, "terminated") or _dict(last, "terminated")
    reason = str(waiting.get("reason", "") or ended.get("reason", ""))
    image = container.get("image", "")
    if reason in _IMAGE_REASONS:
        return f"image {image} cannot be had ({reason}: {waiting.get('message', '')})"
    if ended.get("reason") == "OOMKilled":
        return "its container was killed for memory (OOMKilled); ask for more memory"
    if ended.get("exitCode") == NO_COMMAND_EXIT or "executable file not found" in str(ended.get("message", "")):
        return f"image {image} has no command `ray`: it is neither Ray's nor one with raybook in it"
    if reason in _CRASH_REASONS:
        return f"its container ends again and again ({reason}, exit code {ended.get('exitCode', '?')})"
    if reason and reason not in ("ContainerCreating", "PodInitializing", "Completed"):
        return f"{reason}: {waiting.get('message', '')}".rstrip(": ")
    return ""


def _title(pod: Mapping[str, Any]) -> str:
    labels = _dict(_dict(pod, "metadata"), "labels")
    if labels.get(NODE_TYPE) == IS_HEAD:
        return "the head"
    return f"a pod of {labels[GROUP]}" if labels.get(GROUP) else str(_dict(pod, "metadata").get("name", "a pod"))


def _several(names: Sequence[str]) -> str:
    first = names[0]
    if len(names) == 1:
        return first
    return f"{len(names)} pods ({', '.join(dict.fromkeys(name.removeprefix('a pod of ') for name in names))})"


def _dict(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = holder.get(key)
    return value if isinstance(value, Mapping) else {}


def _size(group: Mapping[str, Any], key: str) -> int:
    value = group.get(key)
    return value if isinstance(value, int) else 0
