"""Job environment: what a driver's runtime environment is, if others have a say in it.

A job that was submitted brings settings of its own, and a hook may change what ``init`` was given; both are named by
environment variables, as in Ray: ``RAY_JOB_CONFIG_JSON_ENV_VAR`` and ``RAY_RUNTIME_ENV_HOOK``.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from typing import Any

from raybook.base.runtime_env import merge

JOB_CONFIG_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
OVERRIDE_VARIABLE = "RAY_OVERRIDE_JOB_RUNTIME_ENV"
HOOK_VARIABLE = "RAY_RUNTIME_ENV_HOOK"


def driver_environment(given: Mapping[str, Any] | None, environ: Mapping[str, str]) -> Mapping[str, Any] | None:
    """``init``'s runtime environment on top of the job's, and what the hook makes of it. ValueError when both set the
    same field or variable, unless RAY_OVERRIDE_JOB_RUNTIME_ENV is 1; what a hook raises."""
    job_config = environ.get(JOB_CONFIG_VARIABLE)
    job = json.loads(job_config).get("runtime_env") if job_config else None
    if job:
        merged = merge(job, given, override=environ.get(OVERRIDE_VARIABLE) == "1")
        if merged is None:
            raise ValueError(
                f"Failed to merge the Job's runtime env {job} with a ray.init's runtime env {given} because of a conflict: "
                "the same field or the same environment variable is set in both. Leave it out of one of them, or set "
                f"{OVERRIDE_VARIABLE}=1 to let the driver's win."
            )
        given = merged
    hook = environ.get(HOOK_VARIABLE)
    return _named(hook)(dict(given) if given is not None else None) if hook else given


def _named(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{HOOK_VARIABLE}={path!r} does not name a function: {error}") from None
