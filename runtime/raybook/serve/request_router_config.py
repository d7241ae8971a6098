"""RequestRouterConfig: which class chooses replicas, and how often it looks at them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, Field, PositiveFloat, PrivateAttr, field_validator

from raybook.serve.import_path import import_attr, load_pickled, pickle_by_value

DEFAULT_ROUTER = "ray.serve._private.request_router:PowerOfTwoChoicesRequestRouter"


class RequestRouterConfig(BaseModel):
    """Which class chooses replicas (a RequestRouter, or its import path; by default two replicas are drawn and the less
    loaded one is taken). request_router_kwargs: for its ``initialize_state``, plain data. request_routing_stats_*: how often
    the deployment's ``record_routing_stats`` is called, and how long it may take. *backoff*: the pauses between two looks
    at replicas of which none could take a request."""

    _serialized_request_router_cls: bytes = PrivateAttr(default=b"")

    request_router_class: str | Callable[..., Any] = DEFAULT_ROUTER
    request_router_kwargs: dict[str, Any] = Field(default_factory=dict)
    request_routing_stats_period_s: PositiveFloat = 10.0
    request_routing_stats_timeout_s: PositiveFloat = 30.0
    initial_backoff_s: PositiveFloat = 0.025
    backoff_multiplier: PositiveFloat = 2.0
    max_backoff_s: PositiveFloat = 0.5

    @field_validator("request_router_kwargs")
    @classmethod
    def _check_kwargs(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(value)
        except TypeError as error:
            raise ValueError(f"request_router_kwargs is not JSON-serializable: {error}.") from None
        return value

    def __init__(self, **fields: Any) -> None:
        serialized = fields.pop("_serialized_request_router_cls", None)
        super().__init__(**fields)
        router = self.request_router_class
        if serialized:
            self._serialized_request_router_cls = serialized
        elif callable(router):
            self._serialized_request_router_cls = pickle_by_value(router)
        elif not self.is_default_request_router():
            self._serialized_request_router_cls = pickle_by_value(import_attr(router))
        if callable(router):
            self.request_router_class = f"{router.__module__}.{router.__name__}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RequestRouterConfig) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash(json.dumps(self.model_dump(), sort_keys=True))

    def is_default_request_router(self) -> bool:
        """Whether Serve's own chooses."""
        return self.request_router_class == DEFAULT_ROUTER

    def get_serialized_request_router_cls(self) -> bytes:
        """The class, pickled; empty for Serve's own."""
        return self._serialized_request_router_cls

    def set_serialized_request_router_cls(self, serialized_request_router_cls: bytes) -> None:
        """Change it."""
        self._serialized_request_router_cls = serialized_request_router_cls

    @classmethod
    def from_serialized_request_router_cls(
        cls, request_router_config: dict[str, Any], serialized_request_router_cls: bytes
    ) -> RequestRouterConfig:
        """A config of a class that need not be importable here."""
        return cls(**request_router_config, _serialized_request_router_cls=serialized_request_router_cls)

    def get_request_router_class(self) -> Any:
        """The class itself. ImportError."""
        if self._serialized_request_router_cls:
            return load_pickled(self._serialized_request_router_cls, "the request router")
        return import_attr(str(self.request_router_class))
