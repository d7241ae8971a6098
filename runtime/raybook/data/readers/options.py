"""What all `read_*` functions take: into how many pieces a read is cut, and what its tasks need.

Written once here, and shown in every function's signature: ``read_csv?`` lists them all.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from raybook.data.from_api import read_datasource

if TYPE_CHECKING:
    from raybook.data.dataset import Dataset
    from raybook.data.datasource import Datasource


@dataclass(frozen=True)
class ReadOptions:
    """override_num_blocks: blocks to cut the read into; None: as sizes suggest. concurrency: tasks at the same time, at
    most. num_cpus, num_gpus, memory (bytes), resources, accelerator_type, label_selector, fallback_strategy, max_calls,
    runtime_env: of each task, as in `remote`; ray_remote_args: more of those. parallelism: the older name of
    override_num_blocks."""

    parallelism: int = -1
    num_cpus: float | None = None
    num_gpus: float | None = None
    memory: float | None = None
    concurrency: int | None = None
    override_num_blocks: int | None = None
    label_selector: dict[str, str] | None = None
    fallback_strategy: list[dict[str, Any]] | None = None
    max_calls: int | None = None
    resources: dict[str, float] | None = None
    accelerator_type: str | None = None
    runtime_env: dict[str, Any] | None = None
    ray_remote_args: dict[str, Any] | None = None
    more: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name in ("concurrency", "override_num_blocks"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value <= 0):
                raise ValueError(f"{name} must be a positive integer or None, got {value!r}.")

    def read(self, datasource: Datasource) -> Dataset:
        """The dataset of this source; nothing runs yet."""
        told = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "more"}
        return read_datasource(datasource, **{**told, **self.more})


_NAMES = tuple(one.name for one in fields(ReadOptions) if one.name != "more")


def reader(function: Callable[..., Dataset]) -> Callable[..., Dataset]:
    """Decorator: the function's `options` argument becomes the fields of `ReadOptions`, as keyword arguments."""

    @functools.wraps(function)
    def read(*args: Any, **kwargs: Any) -> Dataset:
        told = {name: kwargs.pop(name) for name in _NAMES if name in kwargs}
        return function(*args, options=ReadOptions(**told), **kwargs)

    signature = inspect.signature(function, eval_str=False)
    kept = [one for one in signature.parameters.values() if one.name != "options"]
    shared = [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type)
        for one in fields(ReadOptions)
        if one.name != "more"
    ]
    tail = [one for one in kept if one.kind is inspect.Parameter.VAR_KEYWORD]
    head = [one for one in kept if one.kind is not inspect.Parameter.VAR_KEYWORD]
    read.__signature__ = signature.replace(parameters=[*head, *shared, *tail])  # type: ignore[attr-defined]
    return read
