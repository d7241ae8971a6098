"""Config: the classes in which options are written: HTTPOptions, AutoscalingConfig and their kin, checked by pydantic.

They are what users make and compare; what travels to the controller are the plain records of `core/target`.
Source: Ray's fields, defaults and checks.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from enum import Enum
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from raybook.serve.actor_config import ControllerOptions, DeploymentActorConfig
from raybook.serve.autoscaling_context import AutoscalingContext
from raybook.serve.gang import GangPlacementStrategy, GangRuntimeFailurePolicy, GangSchedulingConfig
from raybook.serve.import_path import import_attr, load_pickled, pickle_by_value
from raybook.serve.request_router_config import RequestRouterConfig

__all__ = [
    "AggregationFunction", "AutoscalingConfig", "AutoscalingContext", "AutoscalingPolicy", "BackpressureConfig",
    "ControllerOptions", "DeploymentActorConfig", "DeploymentMode", "GangPlacementStrategy", "GangRuntimeFailurePolicy",
    "GangSchedulingConfig", "HTTPOptions", "ProxyLocation", "RequestRouterConfig", "gRPCOptions",
]  # fmt: skip

DEFAULT_HTTP_HOST = "127.0.0.1"
DEFAULT_HTTP_PORT = 8000
DEFAULT_GRPC_PORT = 9000
DEFAULT_KEEP_ALIVE_S = 90
DEFAULT_POLICY = "ray.serve.autoscaling_policy:default_autoscaling_policy"
DEFAULT_METRICS_INTERVAL_S = 10.0


class AggregationFunction(str, Enum):
    """How the window of samples becomes one number."""

    MEAN = "mean"
    MAX = "max"
    MIN = "min"


class AutoscalingPolicy(BaseModel):
    """Who decides. policy_function: a function (or class, made with policy_kwargs) that gets an AutoscalingContext and
    returns (number of replicas, its own state), or its import path."""

    _serialized_policy_def: bytes = PrivateAttr(default=b"")

    policy_function: str | Callable[..., Any] = DEFAULT_POLICY
    policy_kwargs: dict[str, Any] = Field(default_factory=dict)

    @field_validator("policy_kwargs")
    @classmethod
    def _check_kwargs(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(value)
        except TypeError as error:
            raise ValueError(f"policy_kwargs is not JSON-serializable: {error}.") from None
        return value

    def __init__(self, **fields: Any) -> None:
        serialized = fields.pop("_serialized_policy_def", None)
        super().__init__(**fields)
        if serialized:
            self._serialized_policy_def = serialized
        self.serialize_policy()

    def serialize_policy(self) -> None:
        """Turn the function into its import path, and keep it pickled beside."""
        policy = self.policy_function
        if not self._serialized_policy_def and not self.is_default_policy_function():
            self._serialized_policy_def = pickle_by_value(policy if callable(policy) else import_attr(policy))
        if callable(policy):
            self.policy_function = f"{policy.__module__}.{policy.__name__}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AutoscalingPolicy):
            return NotImplemented
        return (self.policy_function, self.policy_kwargs) == (other.policy_function, other.policy_kwargs)

    def __hash__(self) -> int:
        return hash((self.policy_function, json.dumps(self.policy_kwargs, sort_keys=True)))

    def is_default_policy_function(self) -> bool:
        """Whether Serve's own decides."""
        return self.policy_function == DEFAULT_POLICY

    def get_serialized_policy_def(self) -> bytes:
        """The policy, pickled; empty for Serve's own."""
        return self._serialized_policy_def

    def get_policy(self) -> Callable[..., Any]:
        """The policy itself."""
        if self._serialized_policy_def:
            return load_pickled(self._serialized_policy_def, "the autoscaling policy")
        return import_attr(str(self.policy_function))

    def set_serialized_policy_def(self, serialized_policy_def: bytes) -> None:
        """Change it."""
        self._serialized_policy_def = serialized_policy_def

    @classmethod
    def from_serialized_policy_def(
        cls, policy_config: dict[str, Any], serialized_policy_def: bytes
    ) -> AutoscalingPolicy:
        """A config of a policy that need not be importable here."""
        return cls(**policy_config, _serialized_policy_def=serialized_policy_def)


class AutoscalingConfig(BaseModel):
    """How the number of replicas follows the load: between min_replicas and max_replicas, so that each has about
    target_ongoing_requests (running and queued, averaged over look_back_period_s); up after the load has asked for it
    for upscale_delay_s, down after downscale_delay_s."""

    min_replicas: NonNegativeInt = 1
    initial_replicas: NonNegativeInt | None = None
    max_replicas: PositiveInt = 1
    target_ongoing_requests: PositiveFloat | None = 2.0
    metrics_interval_s: PositiveFloat = DEFAULT_METRICS_INTERVAL_S
    look_back_period_s: PositiveFloat = 30.0
    smoothing_factor: PositiveFloat = 1.0
    upscale_smoothing_factor: PositiveFloat | None = None
    downscale_smoothing_factor: PositiveFloat | None = None
    upscaling_factor: PositiveFloat | None = None
    downscaling_factor: PositiveFloat | None = None
    downscale_delay_s: NonNegativeFloat = 600.0
    downscale_to_zero_delay_s: NonNegativeFloat | None = None
    upscale_delay_s: NonNegativeFloat = 30.0
    aggregation_function: str | AggregationFunction = AggregationFunction.MEAN
    policy: AutoscalingPolicy = Field(default_factory=AutoscalingPolicy)

    @model_validator(mode="after")
    def _check_bounds(self) -> AutoscalingConfig:
        least, most, first = self.min_replicas, self.max_replicas, self.initial_replicas
        if most < least:
            raise ValueError(f"max_replicas ({most}) must be greater than or equal to min_replicas ({least})!")
        if first is not None and first < least:
            raise ValueError(f"min_replicas ({least}) must be less than or equal to initial_replicas ({first})!")
        if first is not None and first > most:
            raise ValueError(f"max_replicas ({most}) must be greater than or equal to initial_replicas ({first})!")
        return self

    @field_validator("metrics_interval_s")
    @classmethod
    def _warn_of_interval(cls, value: float) -> float:
        if value != DEFAULT_METRICS_INTERVAL_S:
            warnings.warn("`metrics_interval_s` in AutoscalingConfig is deprecated.", DeprecationWarning, stacklevel=2)
        return value

    @field_validator("look_back_period_s")
    @classmethod
    def _warn_of_window(cls, value: float, info: ValidationInfo) -> float:
        interval_s = info.data.get("metrics_interval_s", DEFAULT_METRICS_INTERVAL_S)
        if value <= interval_s:
            warnings.warn(
                f"`look_back_period_s` ({value}) must be greater than `metrics_interval_s` ({interval_s}): with Ray, its "
                "window may hold no sample.",
                FutureWarning,
                stacklevel=2,
            )
        return value

    @field_validator("aggregation_function")
    @classmethod
    def _check_aggregation(cls, value: str | AggregationFunction) -> AggregationFunction:
        return value if isinstance(value, AggregationFunction) else AggregationFunction(str(value).lower())

    @classmethod
    def default(cls) -> AutoscalingConfig:
        """What ``num_replicas="auto"`` means."""
        return cls(target_ongoing_requests=2.0, min_replicas=1, max_replicas=100)

    def get_upscaling_factor(self) -> float:
        """The one that counts of the three that may be given."""
        return self.upscaling_factor or self.upscale_smoothing_factor or self.smoothing_factor

    def get_downscaling_factor(self) -> float:
        """The one that counts of the three that may be given."""
        return self.downscaling_factor or self.downscale_smoothing_factor or self.smoothing_factor

    def get_target_ongoing_requests(self) -> float | None:
        """As given."""
        return self.target_ongoing_requests


class BackpressureConfig(BaseModel):
    """What HTTP clients get when the queue is full: 503 or 429, with a Retry-After header if wanted."""

    model_config = ConfigDict(extra="forbid")

    status_code: Literal[503, 429] = 503
    retry_after_s: NonNegativeFloat | None = Field(default=None, allow_inf_nan=False)


class ProxyLocation(str, Enum):
    """Where proxies run: nowhere, on the head node, on each node with a replica."""

    Disabled = "Disabled"
    HeadOnly = "HeadOnly"
    EveryNode = "EveryNode"

    @classmethod
    def _normalize(cls, location: Any) -> ProxyLocation | None:
        if location is None or isinstance(location, cls):
            return location
        if isinstance(location, str):
            return cls.Disabled if location == "NoServer" else cls(location)
        raise TypeError(f"Must be a `ProxyLocation` or str, got: {type(location)}.")


class DeploymentMode(str, Enum):
    """An older name of ProxyLocation's."""

    NoServer = "NoServer"
    HeadOnly = "HeadOnly"
    EveryNode = "EveryNode"


class HTTPOptions(BaseModel):
    """Of the proxies: where they listen, how long a request may take (request_timeout_s; None: for ever), how long an idle
    connection is kept, TLS files. host None: no HTTP."""

    model_config = ConfigDict(validate_assignment=True, arbitrary_types_allowed=True)

    host: str | None = DEFAULT_HTTP_HOST
    port: int = DEFAULT_HTTP_PORT
    middlewares: list[Any] = []
    location: ProxyLocation | None = None
    num_cpus: int = 0
    root_url: str = ""
    root_path: str = ""
    request_timeout_s: float | None = None
    keep_alive_timeout_s: int = DEFAULT_KEEP_ALIVE_S
    ssl_keyfile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile_password: str | None = None
    ssl_ca_certs: str | None = None

    @field_validator("location", mode="before")
    @classmethod
    def _location(cls, value: Any) -> ProxyLocation | None:
        if value is not None:
            warnings.warn(
                "`location` in HTTPOptions is deprecated. Use the `proxy_location` argument of `serve.start`.",
                DeprecationWarning,
                stacklevel=2,
            )
        return ProxyLocation._normalize(value)

    @model_validator(mode="after")
    def _no_host_no_server(self) -> HTTPOptions:
        if self.host is None:
            object.__setattr__(self, "location", ProxyLocation.Disabled)
        if (self.ssl_certfile is None) != (self.ssl_keyfile is None):
            raise ValueError("Both ssl_keyfile and ssl_certfile must be provided together to enable HTTPS.")
        return self

    @field_validator("middlewares")
    @classmethod
    def _no_middlewares(cls, value: list[Any]) -> list[Any]:
        if value:
            raise ValueError("`middlewares` in HTTPOptions has been removed. Add them to your FastAPI application.")
        return value

    @field_validator("num_cpus")
    @classmethod
    def _no_cpus(cls, value: int) -> int:
        if value:
            raise ValueError("`num_cpus` in HTTPOptions has been removed: proxies reserve no CPU.")
        return value


class gRPCOptions(BaseModel):
    """Of gRPC ingress. grpc_servicer_functions: import paths of generated ``add_...Servicer_to_server`` functions;
    without any, there is no gRPC server."""

    port: int = DEFAULT_GRPC_PORT
    grpc_servicer_functions: list[str] = []
    request_timeout_s: float | None = None
    enable_reflection: bool = True

    @property
    def grpc_servicer_func_callable(self) -> list[Callable[..., Any]]:
        """The functions themselves. ModuleNotFoundError, ValueError for a path that names none."""
        found = []
        for path in self.grpc_servicer_functions:
            try:
                function = import_attr(path)
            except (ImportError, AttributeError) as error:
                raise ModuleNotFoundError(
                    f"{path} can't be imported! Please make sure there are no typo in those functions. Or you might want "
                    "to rebuild service definitions if .proto file is changed."
                ) from error
            if not callable(function):
                raise ValueError(f"{path} is not a callable function! Please make sure it is imported correctly.")
            found.append(function)
        return found
