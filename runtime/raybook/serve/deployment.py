"""Deployment and Application: a class or function with options, and one or more of them bound to arguments.

They hold what the user said, checked; `build_app` turns an application into targets. ``deployment`` is the decorator.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from raybook.serve.config import BackpressureConfig
from raybook.serve.deployment_config import DeploymentConfig, changed_config
from raybook.serve.deployment_options import DeploymentOptions, given_options, signature_of
from raybook.serve.handle_options import DEFAULT

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Application:
    """Deployments bound to arguments, with the one that gets the requests on top. Run it with ``serve.run``; or pass it
    to another ``bind``, which then is given a handle of it."""

    def __init__(self, bound_deployment: Deployment) -> None:
        self._bound_deployment = bound_deployment

    def __repr__(self) -> str:
        return f"Application(ingress='{self._bound_deployment.name}')"


class Deployment:
    """What ``@serve.deployment`` makes of a class or function."""

    def __init__(
        self,
        name: str,
        definition: Any,
        config: DeploymentConfig,
        init_args: tuple = (),
        init_kwargs: dict[str, Any] | None = None,
        chosen: frozenset[str] = frozenset(),
        *,
        _internal: bool = False,
    ) -> None:
        if not _internal:
            raise RuntimeError(
                "The Deployment constructor should not be called directly. Use `@serve.deployment` instead."
            )
        if not isinstance(name, str):
            raise TypeError("name must be a string.")
        if "#" in name:
            raise ValueError(
                f"Deployment names must not contain the '#' character, which replicas' ids use. Got: {name}."
            )
        if inspect.isfunction(definition) and (init_args or init_kwargs):
            which = "init_args" if init_args else "init_kwargs"
            raise ValueError(f"{which} not supported for function deployments.")
        self._name = name
        self._definition = definition
        self._deployment_config = config
        self._init_args = init_args
        self._init_kwargs = init_kwargs or {}
        self._chosen = chosen
        """Options that the user gave: a config file changes the others."""

    @property
    def name(self) -> str:
        """Unique within its application."""
        return self._name

    @property
    def version(self) -> None:
        """None: Serve finds out itself what is new."""
        return None

    @property
    def func_or_class(self) -> Any:
        """What was decorated."""
        return self._definition

    @property
    def num_replicas(self) -> int | None:
        """As given."""
        return self._deployment_config.num_replicas

    @property
    def user_config(self) -> Any:
        """As given."""
        return self._deployment_config.user_config

    @property
    def max_ongoing_requests(self) -> int:
        """How many requests a replica gets at once."""
        return self._deployment_config.max_ongoing_requests

    @property
    def max_queued_requests(self) -> int:
        """How many requests may wait with each caller; -1: any number."""
        return self._deployment_config.max_queued_requests

    @property
    def backpressure_config(self) -> BackpressureConfig:
        """What HTTP clients get when the queue is full."""
        return self._deployment_config.backpressure_config

    @property
    def ray_actor_options(self) -> dict[str, Any] | None:
        """Resources and environment of each replica."""
        options = self._deployment_config.ray_actor_options
        return {"num_cpus": 1, **(options or {})}

    @property
    def init_args(self) -> tuple:
        """What ``bind`` got."""
        return self._init_args

    @property
    def init_kwargs(self) -> dict[str, Any]:
        """What ``bind`` got."""
        return self._init_kwargs

    @property
    def logging_config(self) -> dict[str, Any] | None:
        """As given."""
        return self._deployment_config.logging_config

    def set_logging_config(self, logging_config: dict[str, Any]) -> None:
        """Change it."""
        self._deployment_config.logging_config = logging_config

    def __call__(self) -> NoReturn:
        raise RuntimeError("Deployments cannot be constructed directly. Use `serve.run(deployment.bind(...))` instead.")

    def bind(self, *args: Any, **kwargs: Any) -> Application:
        """An application of this deployment with these arguments of its constructor; those that are applications
        themselves arrive as handles."""
        bound = Deployment(
            self._name, self._definition, self._deployment_config, args, kwargs, self._chosen, _internal=True
        )
        return Application(bound)

    def options(
        self, func_or_class: Callable[..., Any] | None = None, *positional: Any, **options: Unpack[DeploymentOptions]
    ) -> Deployment:
        """A copy with other options; see ``serve.deployment``. ValueError, TypeError."""
        given = given_options("Deployment.options()", _COPY_SIGNATURE, (self, func_or_class, *positional), options)
        for key in ("self", "func_or_class", "_internal"):
            given.pop(key, None)
        name = given.pop("name", self._name)
        init_args, init_kwargs = given.pop("_init_args", self._init_args), given.pop("_init_kwargs", self._init_kwargs)
        return Deployment(
            name,
            func_or_class or self._definition,
            changed_config(self._deployment_config, given),
            init_args,
            init_kwargs,
            self._chosen | given.keys(),
            _internal=True,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Deployment):
            return NotImplemented
        return (self._name, self._deployment_config, self._init_args, self._init_kwargs, self._definition) == (
            other._name, other._deployment_config, other._init_args, other._init_kwargs, other._definition
        )  # fmt: skip

    __hash__ = object.__hash__

    def __str__(self) -> str:
        return f"Deployment(name={self._name})"

    def __repr__(self) -> str:
        return str(self)


def deployment(
    _func_or_class: Callable[..., Any] | None = None, *positional: Any, **options: Unpack[DeploymentOptions]
) -> Any:
    """Make a Deployment of a class or function: ``@serve.deployment``, or ``@serve.deployment(num_replicas=2, ...)``.

    name: unique in its application; the class's or function's, by default. num_replicas: a count, or "auto" for
    autoscaling with its defaults (1 to 100). ray_actor_options: resources (num_cpus, 1 by default; num_gpus, also a
    fraction; ...) and runtime_env of each replica. user_config: plain data for the class's ``reconfigure``, changed
    without a restart. max_ongoing_requests (5): requests that one replica gets at once. max_queued_requests (-1, any):
    requests that may wait with each caller before more are refused. autoscaling_config: see AutoscalingConfig.
    graceful_shutdown_*: how long a replica may finish what it has (looked at every 2 s, 20 s at most). health_check_*: how
    often ``check_health`` is called (10 s), and how long it may take (30 s). rolling_update_percentage (0.2): how many
    replicas an update replaces at a time. ValueError and TypeError for options that are wrong or contradict each other.
    """
    given = given_options("@serve.deployment", _SIGNATURE, (_func_or_class, *positional), options)
    given.pop("_func_or_class", None)
    name = given.pop("name", DEFAULT.VALUE)
    config = changed_config(DeploymentConfig(), given)

    def decorate(definition: Any) -> Deployment:
        if not callable(definition):
            raise TypeError("@serve.deployment must be called on a class or function.")
        chosen = definition.__name__ if name is DEFAULT.VALUE else name
        return Deployment(chosen, definition, config, chosen=frozenset(given), _internal=True)

    return decorate(_func_or_class) if callable(_func_or_class) else decorate


_SIGNATURE = signature_of("_func_or_class")
_COPY_SIGNATURE = signature_of("self", "func_or_class", last=("_init_args", "_init_kwargs", "_internal"))
# What editors and `help` show: every option by name.
deployment.__signature__ = _SIGNATURE  # type: ignore[attr-defined]
Deployment.options.__signature__ = _COPY_SIGNATURE  # type: ignore[attr-defined]
