"""Submitted job: what a driver that the Jobs API started inherits from its submission: its runtime environment, and its
name, which it tells the cluster, so that the submission can be found by the driver's job and the other way round."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from raybook.engines.engine import Engine
from raybook.protocol.messages.gcs import KvPut

VARIABLE = "RAYBOOK_JOB_CONFIG_JSON"
"""``{"submission_id", "runtime_env", "metadata"}``, set by the job's supervisor."""
OVERRIDE_VARIABLES = ("RAYBOOK_OVERRIDE_JOB_RUNTIME_ENV", "RAY_OVERRIDE_JOB_RUNTIME_ENV")
DRIVERS = "job_submission_drivers"
"""Key-value namespace: submission id → job id of its latest driver."""


def merged_environment(own: Mapping[str, Any] | None, environ: Mapping[str, str]) -> Mapping[str, Any] | None:
    """``init``'s runtime_env on top of the submission's. ValueError when both give the same field, or the same variable,
    different values."""
    config = _config(environ)
    inherited = config.get("runtime_env") or {}
    if not inherited:
        return own
    if not own:
        return inherited
    overrides = any(environ.get(name) == "1" for name in OVERRIDE_VARIABLES)
    if not overrides:
        clashes = [name for name in own if name in inherited and name != "env_vars" and own[name] != inherited[name]]
        mine, theirs = own.get("env_vars") or {}, inherited.get("env_vars") or {}
        clashes += [f"env_vars[{name!r}]" for name in mine if name in theirs and mine[name] != theirs[name]]
        if clashes:
            raise ValueError(
                f"Failed to merge the Job's runtime env with a ray.init's runtime env because of a conflict: both give "
                f"{', '.join(clashes)}. Leave it out in one of the two, or set {OVERRIDE_VARIABLES[0]}=1 to have init's."
            )
    merged = {**inherited, **own}
    variables = {**(inherited.get("env_vars") or {}), **(own.get("env_vars") or {})}
    return {**merged, "env_vars": variables} if variables else merged


def announce(engine: Engine, environ: Mapping[str, str]) -> None:
    """Tell the cluster whose driver this is. Nothing where no submission started it."""
    submission = _config(environ).get("submission_id")
    if submission:
        engine.gcs_call("KvPut", KvPut(DRIVERS, submission.encode(), engine.job_id.hex().encode()))


def _config(environ: Mapping[str, str]) -> dict[str, Any]:
    try:
        config = json.loads(environ.get(VARIABLE) or "{}")
    except ValueError:
        raise ValueError(
            f"The environment variable {VARIABLE} is no JSON; it is set by the Jobs API, and not by users."
        ) from None
    return config if isinstance(config, dict) else {}
