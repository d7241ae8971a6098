"""Operations: make it so, wait for it, see it, scale it, read its logs, delete it.

Everything may be repeated: what is there is not made twice, what is gone is not missed. Waiting follows the server's stream
of changes and takes it up again when it is cut off; what pods wait for is said once, when it changes.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from raybook.k8s.api_client import Api, Conflict, KubernetesError, NotThere
from raybook.k8s.core.changes import is_ours, marked, patch_of, replacement
from raybook.k8s.core.pods import DASHBOARD_PORT
from raybook.k8s.core.statuses import FAILED, KINDS, READY, Report, report_of

CREATED, CHANGED, UNCHANGED = "created", "changed", "unchanged"
ATTEMPTS = 5
"""Of a change, when somebody else changes the same object meanwhile: the operator writes a status every few seconds."""
LOOK_S = 3.0
"""How often pods are looked at while nothing is told."""
CLUSTER_LABEL, TYPE_LABEL, OWNER_LABEL = "ray.io/cluster", "ray.io/node-type", "ray.io/originated-from-cr-name"
HEAD_CONTAINER = "ray-head"
TOKEN_KEY = "auth_token"


def apply(api: Api, manifests: Sequence[Mapping[str, Any]], take_over: bool = False) -> list[str]:
    """Create what is missing, change what differs; for each "created", "changed" or "unchanged".

    KubernetesError; what was written before it stays, and applying again goes on there. An object of that name which was
    not made by raybook is left alone unless ``take_over``."""
    return [_apply(api, manifest, take_over) for manifest in manifests]


def _apply(api: Api, manifest: Mapping[str, Any], take_over: bool) -> str:
    metadata = manifest["metadata"]
    kind, name, namespace = manifest["kind"], metadata["name"], metadata.get("namespace", "default")
    last: KubernetesError | None = None
    for _ in range(ATTEMPTS):
        try:
            live = api.get(kind, name, namespace)
        except NotThere:
            try:
                api.create(marked(manifest))
            except Conflict as error:
                last = error
                continue
            return CREATED
        if not is_ours(live) and not take_over:
            raise KubernetesError(
                f"{kind} {name} in namespace {namespace} exists already and was not made by raybook; it was left alone. "
                "Choose another name, or take it over (--take-over)."
            )
        changed = replacement(live, manifest)
        if changed is None:
            return UNCHANGED
        try:
            api.patch(kind, name, namespace, patch_of(live, changed))
        except Conflict as error:
            last = error
            continue
        return CHANGED
    assert last is not None
    raise last


def status(api: Api, kind: str, name: str | None, namespace: str) -> list[Report]:
    """Of one, or of all in the namespace. KubernetesError when the one is not there."""
    things = [api.get(kind, name, namespace)] if name else api.find(kind, namespace)
    return [_report(api, thing) for thing in things]


def wait(
    api: Api,
    kind: str,
    name: str,
    namespace: str = "default",
    timeout_s: float = 600.0,
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Block until a cluster or service is ready, or a job is over, or it has failed; its report.

    say: gets a line for each news. TimeoutError with what pods wait for."""
    end = time.monotonic() + timeout_s
    said: list[str] = []
    while True:
        report = _report(api, api.get(kind, name, namespace))
        if _is_reached(report):
            return report
        news = [f"{kind} {name}: {report.state}", *report.waiting, *([report.said] if report.said else [])]
        for line in news:
            if line not in said:
                say(line)
        said = news
        left = end - time.monotonic()
        if left <= 0:
            reasons = "; ".join([*report.waiting, report.said]).strip("; .") or "its pods do not say why"
            raise TimeoutError(
                f"{kind} {name} is not ready after {timeout_s:g} s: {reasons}. It was left there; wait again, or delete it."
            )
        _until_news(api, report, min(LOOK_S, left))


def _until_news(api: Api, old: Report, limit_s: float) -> None:
    """Return when the object's report has changed, or after ``limit_s``; a stream that ends early is not waited out at a
    gallop."""
    began = time.monotonic()
    for thing in api.watch(old.kind, old.name, old.namespace or "default", limit_s):
        new = report_of(thing)
        if (new.state, new.said, new.workers_ready, new.result) != (
            old.state, old.said, old.workers_ready, old.result,
        ) or time.monotonic() - began > limit_s:  # fmt: skip
            return
    rest = limit_s - (time.monotonic() - began)
    if rest > 0:
        time.sleep(min(rest, 0.2))


def _is_reached(report: Report) -> bool:
    if report.is_over or report.state == "suspended":
        return True
    return report.kind != "RayJob" and report.state == READY


def scale(api: Api, name: str, workers: int, group: str | None = None, namespace: str = "default") -> None:
    """Ask for so many workers in a group of a cluster. ValueError outside its bounds, or for a group it has not."""
    last: KubernetesError | None = None
    for _ in range(ATTEMPTS):
        live = api.get("RayCluster", name, namespace)
        groups = live["spec"].get("workerGroupSpecs") or []
        names = [one["groupName"] for one in groups]
        if group is None and len(groups) != 1:
            raise ValueError(f"RayCluster {name} has groups {', '.join(names) or 'none'}; say which.")
        chosen = [one for one in groups if group in (None, one["groupName"])]
        if not chosen:
            raise ValueError(f"RayCluster {name} has no group {group!r}; it has {', '.join(names) or 'none'}.")
        least, most = chosen[0].get("minReplicas", 0), chosen[0]["maxReplicas"]
        if not least <= workers <= most:
            raise ValueError(
                f"{workers} workers are not within the bounds of {chosen[0]['groupName']}, {least} to {most}."
            )
        if chosen[0].get("replicas") == workers:
            return
        resized = [{**one, "replicas": workers} if one is chosen[0] else one for one in groups]
        new = {**live, "spec": {**live["spec"], "workerGroupSpecs": resized}}
        try:
            api.patch("RayCluster", name, namespace, patch_of(live, new))
        except Conflict as error:
            last = error
            continue
        return
    assert last is not None
    raise last


def delete(api: Api, kind: str, name: str, namespace: str = "default", timeout_s: float = 600.0) -> bool:
    """Delete it with its files; whether it was there. timeout_s: wait so long until its pods are gone, 0: do not wait.
    TimeoutError."""
    clusters = [name]
    was_there = True
    try:
        thing = api.get(kind, name, namespace)
        clusters += [part.name for part in report_of(thing).parts]
        api.delete(kind, name, namespace)
    except NotThere:
        was_there = False
    try:
        files = api.get("ConfigMap", f"{name}-files", namespace)
        if is_ours(files):
            api.delete("ConfigMap", f"{name}-files", namespace)
    except NotThere:
        pass
    end = time.monotonic() + timeout_s
    while timeout_s:
        left = _pods_of(api, clusters, namespace)
        if not left and not _is_there(api, kind, name, namespace):
            break
        if time.monotonic() > end:
            raise TimeoutError(f"{kind} {name} is deleted, and {len(left)} of its pods are still ending.")
        time.sleep(0.2)
    return was_there


def logs(
    api: Api, kind: str, name: str, namespace: str = "default", follow: bool = False, tail: int | None = None
) -> Iterator[str]:
    """Lines of a cluster's or service's head, or of what a job has printed. KubernetesError when there is neither."""
    report = report_of(api.get(kind, name, namespace))
    if kind == "RayJob":
        yield from _job_lines(api, report, namespace, follow, tail)
        return
    cluster = report.parts[0].name if report.parts else name
    heads = api.find("Pod", namespace, {CLUSTER_LABEL: cluster, TYPE_LABEL: "head"})
    if not heads:
        raise KubernetesError(f"{kind} {name} has no head yet, and nothing was written.")
    yield from api.pod_log(heads[0]["metadata"]["name"], namespace, HEAD_CONTAINER, follow, tail)


def _job_lines(api: Api, report: Report, namespace: str, follow: bool, tail: int | None) -> Iterator[str]:
    """Asked of the dashboard by way of the API server: no port of the cluster need be open."""
    shown = 0
    while True:
        is_over = report.is_over
        if report.parts and report.job_id:
            cluster = report.parts[0].name
            page = f"api/jobs/{report.job_id}/logs"
            try:
                found = api.through_service(
                    f"{cluster}-head-svc", namespace, DASHBOARD_PORT, page, _token(api, cluster, namespace)
                )
            except NotThere:
                found = {"logs": ""}
            lines = found.get("logs", "").splitlines()
            if shown == 0 and tail is not None:
                shown = max(len(lines) - tail, 0)
            yield from lines[shown:]
            shown = max(shown, len(lines))
        elif not follow:
            raise KubernetesError(
                f"RayJob {report.name} has not begun, and nothing was written: {report.said or report.state}."
            )
        if not follow or is_over:
            return
        time.sleep(LOOK_S)
        report = report_of(api.get("RayJob", report.name, namespace))


def _token(api: Api, cluster: str, namespace: str) -> dict[str, str]:
    """As a header that the API server hands on; none for a cluster without one."""
    try:
        secret = api.get("Secret", cluster, namespace)
    except NotThere:
        return {}
    token = base64.b64decode((secret.get("data") or {}).get(TOKEN_KEY, "")).decode()
    return {"X-Ray-Authorization": f"Bearer {token}"} if token else {}


def _report(api: Api, thing: dict[str, Any]) -> Report:
    first = report_of(thing)
    names = [part.name for part in first.parts] or ([first.name] if first.kind == "RayCluster" else [])
    if first.state == FAILED or not names:
        return first
    return report_of(thing, _pods_of(api, names, first.namespace or "default"))


def _pods_of(api: Api, clusters: Sequence[str], namespace: str) -> list[dict[str, Any]]:
    pods: list[dict[str, Any]] = []
    for cluster in dict.fromkeys(clusters):
        pods += api.find("Pod", namespace, {CLUSTER_LABEL: cluster})
    return pods


def _is_there(api: Api, kind: str, name: str, namespace: str) -> bool:
    assert kind in KINDS
    try:
        api.get(kind, name, namespace)
    except NotThere:
        return False
    return True
