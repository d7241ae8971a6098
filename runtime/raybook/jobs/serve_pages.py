"""Serve pages: what KubeRay's operator asks at the head about applications, answered by ``raybook.serve``.

Loaded at the first question. Source: Ray's REST of Serve (`ServeInstanceDetails`, `ServeDeploySchema`).
"""

from __future__ import annotations

import json
import tempfile
from typing import Any

NOTHING_SERVED: dict[str, Any] = {
    "controller_info": {},
    "proxy_location": None,
    "http_options": None,
    "grpc_options": None,
    "proxies": {},
    "deploy_mode": "MULTI_APP",
    "applications": {},
    "target_capacity": None,
}
"""What Ray answers before anything was deployed."""


def details() -> dict[str, Any]:
    """Applications, deployments, replicas and proxies, as JSON."""
    from raybook import serve

    found = json.loads(json.dumps(serve.details(), default=str))
    return {**NOTHING_SERVED, **found}


def deploy(config: dict[str, Any]) -> None:
    """Make the cluster serve what a config says and nothing else; returns when it is sent. ValueError for what is none."""
    from raybook import serve

    serve.parse_config(config)
    # Code comes with each application's runtime_env; nothing is looked for beside this process.
    serve.deploy_config(config, False, [tempfile.gettempdir()])


def delete() -> None:
    """End Serve with everything in it."""
    from raybook import serve

    serve.shutdown()
