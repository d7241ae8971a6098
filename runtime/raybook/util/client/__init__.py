"""Client: whether this process drives its cluster from outside, for code that asks Ray's client module.

``ray`` is what such code looks at; everything else of a thin client is plain ``raybook``.
"""

from __future__ import annotations

import warnings
from typing import Any

from raybook.api import RayContext, current_session, init, is_initialized, shutdown

CLIENT_SCHEME = "ray://"


class ClientView:
    """A view; it holds nothing."""

    def is_connected(self) -> bool:
        """Whether this process is a thin client of a running cluster."""
        return is_initialized() and current_session() is not None

    def disconnect(self) -> None:
        """Leave the cluster, if this is a thin client."""
        if self.is_connected():
            shutdown()


ray = ClientView()


def num_connected_contexts() -> int:
    """How many clusters this process is a thin client of: at most one."""
    return int(ray.is_connected())


def connect(
    conn_str: str,
    secure: bool = False,
    metadata: list[tuple[str, str]] | None = None,
    connection_retries: int | None = None,
    job_config: Any = None,
    namespace: str | None = None,
    *,
    ignore_version: bool = False,
    ray_init_kwargs: dict[str, Any] | None = None,
) -> RayContext:
    """Deprecated, as in Ray: ``init("ray://HOST:PORT")``. Raises what that raises, and RuntimeError where this process is
    connected already. secure, metadata, connection_retries, ignore_version: accepted; connections prove the cluster's
    token, are made again while there is hope, and versions are compared in any case."""
    warnings.warn("connect() is deprecated: use init('ray://HOST:PORT').", DeprecationWarning, stacklevel=2)
    address = conn_str if conn_str.startswith(CLIENT_SCHEME) else CLIENT_SCHEME + conn_str
    options: dict[str, Any] = {"namespace": namespace, "job_config": job_config, **(ray_init_kwargs or {})}
    return init(address, **{name: value for name, value in options.items() if value is not None})


def disconnect() -> None:
    """Leave the cluster, if this process is a thin client; deprecated, as in Ray: ``shutdown()``."""
    ray.disconnect()
