"""Validation: a function that looks at each checkpoint, in a task of its own, while training goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from raybook.ml.checkpoint import Checkpoint


class ValidationFn(Protocol):
    """Takes a checkpoint and returns metrics, which join those reported with it."""

    def __call__(self, checkpoint: Checkpoint, **kwargs: Any) -> dict[str, Any]: ...


@dataclass
class ValidationTaskConfig:
    """One validation. fn_kwargs: keywords for the function. timeout_s: None for no limit."""

    fn_kwargs: dict[str, Any] | None = None
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        if self.fn_kwargs is None:
            self.fn_kwargs = {}
        if self.timeout_s is not None and self.timeout_s <= 0:
            # Ray raises this type.
            raise AssertionError(f"The `timeout_s` should be None or greater than zero, actual value: {self.timeout_s}")


class ValidationConfig:
    """How checkpoints of a run are validated: fn, its default task_config, and options of the task it runs in."""

    def __init__(
        self,
        fn: ValidationFn,
        task_config: ValidationTaskConfig | None = None,
        ray_remote_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.fn = fn
        self.task_config = task_config if task_config is not None else ValidationTaskConfig()
        self.ray_remote_kwargs = ray_remote_kwargs if ray_remote_kwargs is not None else {}

    def task_for(self, wish: bool | ValidationTaskConfig) -> ValidationTaskConfig:
        """Return what one `report(validation=wish)` asks for, with the defaults of this record."""
        if not isinstance(wish, ValidationTaskConfig):
            return self.task_config
        return ValidationTaskConfig(
            {**(self.task_config.fn_kwargs or {}), **(wish.fn_kwargs or {})},
            wish.timeout_s if wish.timeout_s is not None else self.task_config.timeout_s,
        )
