"""Changes: what has to be written so that an object at the server is as it was rendered, and nothing when it is.

The operator and the autoscaler own some of what is there: how many workers a group has is theirs while the autoscaler
runs, and is kept. Whatever else differs is the manifest's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

APPLIED = "raybook.dev/applied"
"""Annotation: a digest of the manifest as it was rendered; who has it was made by `raybook k8s`."""
_KEPT = ("replicas", "scaleStrategy")
_CLUSTER_PATHS = {
    "RayCluster": (),
    "RayJob": ("rayClusterSpec",),
    "RayService": ("rayClusterConfig",),
    "RayCronJob": ("jobTemplate", "rayClusterSpec"),
}


def marked(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with its digest in an annotation."""
    metadata = dict(manifest["metadata"])
    metadata["annotations"] = {**(metadata.get("annotations") or {}), APPLIED: digest(manifest)}
    return {**manifest, "metadata": metadata}


def digest(manifest: Mapping[str, Any]) -> str:
    """Of everything in it."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:32]


def is_ours(live: Mapping[str, Any]) -> bool:
    """Whether `raybook k8s` made it."""
    return APPLIED in ((live.get("metadata") or {}).get("annotations") or {})


def replacement(live: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """What ``live`` should become; None when it is as it should be."""
    wanted = marked(_with_kept_sizes(live, manifest))
    # The mark is of what was rendered: how many workers the autoscaler has made is no change of ours.
    wanted["metadata"]["annotations"][APPLIED] = digest(manifest)
    if _contains(live, wanted):
        return None
    metadata = {**live["metadata"], **wanted["metadata"]}
    for key in ("labels", "annotations"):
        metadata[key] = {**(live["metadata"].get(key) or {}), **(wanted["metadata"].get(key) or {})}
    return {**live, **wanted, "metadata": metadata}


def patch_of(live: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What makes ``new`` of ``live``, as a merge patch (RFC 7386), bound to the version that was read: a change by somebody
    else in between is refused by the server and not undone by us."""
    patch = _merge_patch(live, new)
    metadata = {**patch.get("metadata", {}), "resourceVersion": live["metadata"].get("resourceVersion")}
    return {**patch, "metadata": {key: value for key, value in metadata.items() if value is not None}}


def _merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        was = old.get(key)
        if isinstance(was, Mapping) and isinstance(value, Mapping):
            inner = _merge_patch(was, value)
            if inner:
                patch[key] = inner
        elif key not in old or was != value:
            patch[key] = value
    return patch


def _contains(live: Any, wanted: Any) -> bool:
    """Whether everything wanted is there. The server may add fields, never items of a list."""
    if isinstance(wanted, Mapping):
        if not isinstance(live, Mapping):
            return not wanted and live is None
        # The server drops what is empty.
        return all(_contains(live.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        if not wanted and live is None:
            return True
        return isinstance(live, list) and len(live) == len(wanted) and all(map(_contains, live, wanted))
    return bool(live == wanted) or (live is None and wanted in ("", False, 0))


def _with_kept_sizes(live: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    path = _CLUSTER_PATHS.get(str(manifest.get("kind", "")))
    if path is None:
        return dict(manifest)
    tree = json.loads(json.dumps(manifest))
    spec, old = tree.get("spec") or {}, live.get("spec") or {}
    for key in path:
        spec, old = spec.get(key) or {}, old.get(key) or {}
    if not spec.get("enableInTreeAutoscaling"):
        return dict(tree)
    sizes = {group.get("groupName"): group for group in old.get("workerGroupSpecs") or []}
    for group in spec.get("workerGroupSpecs") or []:
        was = sizes.get(group["groupName"], {})
        for key in _KEPT:
            if key in was:
                group[key] = was[key]
        group["replicas"] = min(max(group.get("replicas", 0), group["minReplicas"]), group["maxReplicas"])
    return dict(tree)
