"""ClientBuilder: Ray's older way to connect, ``ray.client("address").namespace("x").connect()``. Use ``init``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from raybook.api import RayContext, init


class ClientBuilder:
    """What ``init`` is to be given, bit by bit."""

    def __init__(self, address: str | None) -> None:
        self._given: dict[str, Any] = {"address": address}

    def env(self, env: Mapping[str, Any]) -> ClientBuilder:
        """The runtime environment."""
        self._given["runtime_env"] = env
        return self

    def namespace(self, namespace: str) -> ClientBuilder:
        """The namespace."""
        self._given["namespace"] = namespace
        return self

    def connect(self) -> RayContext:
        """``init`` with all that; raises what it raises."""
        return init(**self._given)


def client(address: str | None = None) -> ClientBuilder:
    """Deprecated, as in Ray: call ``init(address)``."""
    warnings.warn("client() is deprecated: use init(address).", DeprecationWarning, stacklevel=2)
    return ClientBuilder(address)
