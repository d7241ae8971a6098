"""Request: what a body of ``POST /api/jobs/`` may say. Anything else is a TypeError or ValueError, before all else."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass
from typing import Any

ID_CHARACTERS = "".join(sorted(set(string.ascii_letters + string.digits) - set("Il0o1O")))
"""Without those that people mix up."""
ID_LENGTH_MAX = 200


@dataclass
class SubmitRequest:
    """A checked submission."""

    entrypoint: str
    submission_id: str
    runtime_env: dict[str, Any]
    metadata: dict[str, str]
    num_cpus: float | None
    num_gpus: float | None
    memory: int | None
    resources: dict[str, float] | None
    label_selector: dict[str, str] | None


def new_submission_id() -> str:
    """``raysubmit_`` and 16 random characters."""
    return "raysubmit_" + "".join(secrets.choice(ID_CHARACTERS) for _ in range(16))


def parse_request(body: Any) -> SubmitRequest:
    """The record of a decoded body."""
    if not isinstance(body, dict):
        raise TypeError(f"The body must be a JSON object, got {type(body).__name__}.")
    known = {
        "entrypoint", "submission_id", "job_id", "runtime_env", "metadata", "entrypoint_num_cpus", "entrypoint_num_gpus",
        "entrypoint_memory", "entrypoint_resources", "entrypoint_label_selector", "virtual_cluster_id",
    }  # fmt: skip
    unknown = sorted(set(body) - known)
    if unknown:
        raise ValueError(
            f"The body has fields that no submission has: {', '.join(unknown)}. Known: {', '.join(sorted(known))}."
        )
    entrypoint = body.get("entrypoint")
    if not isinstance(entrypoint, str) or not entrypoint.strip():
        raise TypeError(f"entrypoint must be a string that is not empty, got {entrypoint!r}.")
    submission = body.get("submission_id") or body.get("job_id") or new_submission_id()
    check_submission_id(submission)
    runtime_env = body.get("runtime_env")
    if runtime_env is not None and not _is_dict_of(runtime_env, object):
        raise TypeError(f"runtime_env must be a dict with strings as keys, got {runtime_env!r}.")
    metadata = body.get("metadata")
    if metadata is not None and not _is_dict_of(metadata, str):
        raise TypeError(f"metadata must be a dict of strings, got {metadata!r}.")
    resources = body.get("entrypoint_resources")
    if resources is not None and not _is_dict_of(resources, (int, float)):
        raise TypeError(f"entrypoint_resources must be a dict of numbers, got {resources!r}.")
    selector = body.get("entrypoint_label_selector")
    if selector is not None and not _is_dict_of(selector, str):
        raise TypeError(f"entrypoint_label_selector must be a dict of strings, got {selector!r}.")
    return SubmitRequest(
        entrypoint,
        submission,
        dict(runtime_env or {}),
        dict(metadata or {}),
        _amount(body, "entrypoint_num_cpus"),
        _amount(body, "entrypoint_num_gpus"),
        int(_amount(body, "entrypoint_memory") or 0) or None,
        resources,
        selector,
    )


def check_submission_id(name: Any) -> None:
    """It becomes a part of file names and addresses. TypeError, ValueError."""
    if not isinstance(name, str):
        raise TypeError(f"submission_id must be a string, got {name!r}.")
    allowed = set(string.ascii_letters + string.digits + "-_.")
    if not name or len(name) > ID_LENGTH_MAX or not set(name) <= allowed or name.startswith("."):
        raise ValueError(
            f"submission_id {name!r} must have 1 to {ID_LENGTH_MAX} letters, digits, '-', '_' or '.', and not begin "
            "with a dot."
        )


def _amount(body: dict[str, Any], name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise TypeError(f"{name} must be a number that is not negative, got {value!r}.")
    return value


def _is_dict_of(value: Any, kind: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(key, str) and isinstance(item, kind) and not (kind is not object and isinstance(item, bool))
        for key, item in value.items()
    )
