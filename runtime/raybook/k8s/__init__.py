"""Kubernetes: clusters, jobs and services of KubeRay's, from a few values.

    manifests = k8s.render(k8s.Cluster(name="team", groups=[k8s.Group(max_workers=8)]))
    print(k8s.manifest_text(manifests))                     for kubectl and git
    with k8s.connect() as api:                              extra raybook[k8s]
        k8s.apply(api, manifests)
        k8s.wait(api, "RayCluster", "team")

Rooms: ``core/values`` (what may be asked), ``core/checks``, ``core/render`` (pure), ``core/statuses`` (what is said),
``documents`` (YAML), ``api_client`` and ``operations`` (the API server).
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "core.values": "Cluster CronJob FaultTolerance Group Head Job Network Pod Service Toleration",
    "core.render": "render",
    "core.statuses": "Report report_of",
    "documents": "manifest_text read_documents read_tree values_of",
    "api_client": "KubernetesError connect",
    "operations": "apply delete logs scale status wait",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
