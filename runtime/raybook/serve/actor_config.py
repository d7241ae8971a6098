"""Actor config: options of actors beside the replicas: those that a deployment's replicas share, and the controller."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator

from raybook.serve.import_path import import_attr, load_pickled, pickle_by_value


class DeploymentActorConfig(BaseModel):
    """An actor that all replicas of a deployment share: the controller starts it before them, replaces it when it dies, and
    ends it with the deployment. actor_class: a class with ``@remote``, or its import path. Replicas find it with
    ``serve.get_deployment_actor(name)``."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    _serialized_actor_class: bytes = PrivateAttr(default=b"")

    name: str
    actor_class: Any
    init_args: tuple[Any, ...] = ()
    init_kwargs: dict[str, Any] = Field(default_factory=dict)
    actor_options: dict[str, Any] = Field(default_factory=dict)

    def __init__(self, **fields: Any) -> None:
        serialized = fields.pop("_serialized_actor_class", None)
        super().__init__(**fields)
        if serialized:
            self._serialized_actor_class = serialized
        elif not isinstance(self.actor_class, str):
            plain = getattr(self.actor_class, "__ray_actor_class__", None)
            if plain is None:
                raise ValueError(
                    f"actor_class of the deployment actor {self.name!r} must be a class with @remote or an import path, got "
                    f"{self.actor_class!r}."
                )
            self._serialized_actor_class = pickle_by_value(self.actor_class)
            self.actor_class = f"{plain.__module__}:{plain.__qualname__}"

    def get_actor_class(self) -> Any:
        """The class with ``@remote``. ImportError."""
        if self._serialized_actor_class:
            return load_pickled(self._serialized_actor_class, "the deployment actor class")
        return import_attr(self.actor_class)


class ControllerOptions(BaseModel):
    """Of the controller's actor. runtime_env: ``env_vars`` alone."""

    model_config = ConfigDict(extra="forbid")

    runtime_env: dict[str, Any] | None = None

    @field_validator("runtime_env")
    @classmethod
    def _check_environment(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is None:
            return None
        others = sorted(set(value) - {"env_vars"})
        if others:
            raise ValueError(
                f"ControllerOptions.runtime_env only supports ['env_vars']; got disallowed keys {others}. An environment of "
                "replicas belongs to their deployment's ray_actor_options."
            )
        variables = value.get("env_vars", {})
        if not isinstance(variables, dict):
            raise ValueError(f"runtime_env.env_vars must be a dict[str, str], got {type(variables).__name__}.")
        for name, text in variables.items():
            if not isinstance(name, str) or not name:
                raise ValueError(f"env_vars key must be a non-empty str, got {name!r}.")
            if not isinstance(text, str):
                raise ValueError(f"env_vars[{name!r}] must be str (got {type(text).__name__}); coerce explicitly.")
        return value
