"""Kubernetes options: the flags that `%ray_cluster start --kubernetes` and `%ray_job` share. Knows no API server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from raybook_kernel.magics.arguments import ArgumentMistake, Option


def worker_bounds(text: str) -> str:
    """ "0:8", or "4" for 4:4."""
    found = re.fullmatch(r"(\d+)(?::(\d+))?", text)
    if found is None:
        raise ValueError(f"MIN:MAX workers, such as 0:8, are needed, got {text!r}.")
    if found[2] is not None and int(found[1]) > int(found[2]):
        raise ValueError(f"{text} is no range: MIN may not be more than MAX.")
    return text


def whole(text: str) -> int:
    """A number of GPUs of each worker."""
    if not text.isdigit():
        raise ValueError(f"a whole number is needed, got {text!r}.")
    return int(text)


def pair(text: str) -> str:
    """ "KEY=VALUE"."""
    if not text.partition("=")[0] or "=" not in text:
        raise ValueError(f"{text!r} is not of the form KEY=VALUE.")
    return text


PLACE_OPTIONS = (
    Option("--namespace", "NAME", "of Kubernetes; default: default", str),
    Option("--image", "IMAGE", "of every pod; default: Ray's own. Workers need raybook in it", str),
    Option("--workers", "MIN:MAX", "how few and how many workers", worker_bounds),
    Option("--gpus-per-worker", "N", "GPUs of each worker", whole),
    Option("--node-selector", "KEY=VALUE", "the workers' nodes have this label", pair),
    Option("--spot", "", "workers only on nodes that may be taken back; the head never"),
    Option("--values", "FILE", "the rest, as YAML (docs/kubernetes.md)", str),
    Option("--context", "NAME", "of the kubeconfig; default: its current one", str),
)
KUBERNETES_OPTIONS = (
    Option("--kubernetes", "", "a RayCluster of KubeRay's, which outlives this kernel"),
    *PLACE_OPTIONS,
)
_SHARED = frozenset({"name", "cpus", "memory"})
"""Options of `start` that mean the same there: of each worker."""


def kubernetes_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a line with ``--kubernetes``. ArgumentMistake for one that means nothing there."""
    known = {option.name for option in KUBERNETES_OPTIONS} | _SHARED
    refused = [_flag(name) for name in values if name not in known]
    if refused:
        raise ArgumentMistake(
            f"{', '.join(refused)}: not to be had with --kubernetes. `%ray_cluster start --help` lists all."
        )
    return dict(values)


def refuse_without_kubernetes(values: Mapping[str, Any]) -> None:
    """ArgumentMistake for an option that means something on Kubernetes alone."""
    lost = [_flag(option.name) for option in PLACE_OPTIONS if option.name in values]
    if lost:
        raise ArgumentMistake(f"{', '.join(lost)}: of a cluster on Kubernetes. Add --kubernetes, or leave it out.")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
