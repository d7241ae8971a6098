"""What KubeRay's users and operator agree on, as data beside the checkout; tests that need it are skipped without it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

CHECKOUT = Path(__file__).parents[3]
PLURALS = {"RayCluster": "rayclusters", "RayJob": "rayjobs", "RayService": "rayservices", "RayCronJob": "raycronjobs"}
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def kuberay_folder() -> Path:
    for parent in CHECKOUT.parents[:2]:
        if (parent / "shared" / "kuberay" / "crd").is_dir():
            return parent / "shared" / "kuberay"
    pytest.skip("KubeRay's CRDs (../shared/kuberay) are not here.")


@pytest.fixture(scope="session")
def samples() -> Path:
    return kuberay_folder() / "samples"


@pytest.fixture(scope="session")
def assert_valid() -> Callable[[dict[str, Any]], None]:
    """Fails for a manifest that the CRD's schema refuses, or of which the server would drop a field."""
    folder = kuberay_folder() / "crd"

    @cache
    def schema_of(kind: str) -> jsonschema.Draft7Validator:
        crd = yaml.load((folder / f"ray.io_{PLURALS[kind]}.yaml").read_text(), LOADER)
        (schema,) = [one["schema"]["openAPIV3Schema"] for one in crd["spec"]["versions"] if one["name"] == "v1"]
        return jsonschema.Draft7Validator(closed(schema))

    def check(manifest: dict[str, Any]) -> None:
        validator = schema_of(manifest["kind"])
        errors = [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(manifest)]
        assert not errors, "\n".join(errors)

    return check


def closed(schema: Any) -> Any:
    """The schema, refusing what Kubernetes would silently drop."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    tree = {key: closed(value) if key != "enum" else value for key, value in schema.items()}
    is_known = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if is_known and "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        tree["additionalProperties"] = False
    return tree
