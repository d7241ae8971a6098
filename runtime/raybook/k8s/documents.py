"""Documents: values and manifests as the text of files, which people read, keep in git and give to kubectl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from raybook.k8s.core.values import Cluster, CronJob, Job, Service, Values

SHAPES: dict[str, type[Values]] = {"cluster": Cluster, "job": Job, "service": Service, "cronjob": CronJob}


def values_of(kind: str, tree: Mapping[str, Any]) -> Values:
    """The record of a tree as YAML has it. kind: a key of ``SHAPES``. ValueError that names the path of what is wrong."""
    try:
        return msgspec.convert(dict(tree), SHAPES[kind])
    except msgspec.ValidationError as error:
        raise ValueError(f"These are no values of a {kind}: {error}") from None


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with what ``over`` says otherwise, dicts merged key by key; lists are taken whole."""
    tree = dict(base)
    for key, value in over.items():
        old = tree.get(key)
        tree[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return tree


def read_tree(path: str | Path) -> dict[str, Any]:
    """A file of values. OSError; ValueError for what is no YAML, or is no mapping."""
    documents = read_documents(Path(path).read_text(), str(path))
    if len(documents) != 1:
        raise ValueError(f"{path} holds {len(documents)} documents; a file of values holds one.")
    return documents[0]


def read_documents(text: str, where: str) -> list[dict[str, Any]]:
    """The mappings of a YAML text. ValueError, with the place, for what is none."""
    yaml = _yaml()
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is no YAML: {error}") from None
    for document in documents:
        if not isinstance(document, dict):
            raise ValueError(f"{where} holds a {type(document).__name__} where a mapping is expected.")
    return documents


def manifest_text(manifests: Sequence[Mapping[str, Any]]) -> str:
    """YAML for ``kubectl apply -f -``, in order, keys as they were written."""
    yaml = _yaml()
    return "---\n".join(yaml.safe_dump(dict(one), sort_keys=False, width=120) for one in manifests)


def _yaml() -> Any:
    try:
        import yaml
    except ImportError:
        raise ImportError("Manifests are YAML: pip install 'raybook[k8s]'.") from None
    return yaml
