"""Execution options: how much of the cluster a dataset may use, and whether rows keep their order at all costs."""

from __future__ import annotations

import math
from typing import Any


class ExecutionResources:
    """Amounts of CPU, GPU, object store bytes and memory bytes. A field that is None was not said: 0 for usage,
    infinite for limits (`for_limits`)."""

    def __init__(
        self,
        cpu: float | None = None,
        gpu: float | None = None,
        object_store_memory: float | None = None,
        memory: float | None = None,
    ) -> None:
        self._cpu: float | None = None if cpu is None else round(cpu, 5)
        self._gpu: float | None = None if gpu is None else round(gpu, 5)
        self._object_store_memory: float | None = None if object_store_memory is None else round(object_store_memory)
        self._memory: float | None = None if memory is None else round(memory)

    @classmethod
    def for_limits(
        cls,
        cpu: float | None = None,
        gpu: float | None = None,
        object_store_memory: float | None = None,
        memory: float | None = None,
    ) -> ExecutionResources:
        """Limits: what is not given is infinite."""
        made = cls()
        made._cpu = math.inf if cpu is None else cpu
        made._gpu = math.inf if gpu is None else gpu
        made._object_store_memory = math.inf if object_store_memory is None else object_store_memory
        made._memory = math.inf if memory is None else memory
        return made

    @classmethod
    def zero(cls) -> ExecutionResources:
        return cls(0.0, 0.0, 0.0, 0.0)

    @classmethod
    def inf(cls) -> ExecutionResources:
        return cls.for_limits()

    @property
    def cpu(self) -> float:
        return self._cpu or 0.0

    @property
    def gpu(self) -> float:
        return self._gpu or 0.0

    @property
    def object_store_memory(self) -> float:
        return self._object_store_memory or 0

    @property
    def memory(self) -> float:
        return self._memory or 0

    def to_resource_dict(self) -> dict[str, float]:
        return {
            "CPU": self.cpu,
            "GPU": self.gpu,
            "object_store_memory": self.object_store_memory,
            "memory": self.memory,
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExecutionResources) and self.to_resource_dict() == other.to_resource_dict()

    def __hash__(self) -> int:
        return hash(tuple(self.to_resource_dict().values()))

    def __repr__(self) -> str:
        return (
            f"ExecutionResources(cpu={self.cpu}, gpu={self.gpu}, "
            f"object_store_memory={_bytes_text(self.object_store_memory)}, memory={_bytes_text(self.memory)})"
        )


def _bytes_text(amount: float) -> str:
    """Bytes in the largest unit that leaves at least one: "1.5MiB"."""
    if math.isinf(amount):
        return str(amount)
    unit = "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if amount < 1024 or unit == "PiB":
            break
        amount /= 1024
    return f"{amount:.1f}{unit}"


class ExecutionOptions:
    """resource_limits: of CPUs and GPUs that tasks of one dataset may ask for together, and of object store bytes that
    its blocks may take while they flow. preserve_order: rows come out in order even from a pool of actors (from tasks
    they do anyway). label_selector: nodes that tasks may run on."""

    def __init__(
        self,
        resource_limits: ExecutionResources | None = None,
        exclude_resources: ExecutionResources | None = None,
        preserve_order: bool = False,
        actor_locality_enabled: bool = True,
        verbose_progress: bool | None = None,
        label_selector: dict[str, str] | None = None,
        locality_with_output: Any = False,
    ) -> None:
        self.resource_limits = resource_limits or ExecutionResources.for_limits()
        self.exclude_resources = exclude_resources or ExecutionResources.zero()
        self.preserve_order = preserve_order
        self.actor_locality_enabled = actor_locality_enabled
        self.verbose_progress = True if verbose_progress is None else verbose_progress
        self.label_selector = label_selector
        self.locality_with_output = locality_with_output

    @property
    def resource_limits(self) -> ExecutionResources:
        return self._resource_limits

    @resource_limits.setter
    def resource_limits(self, value: ExecutionResources) -> None:
        self._resource_limits = ExecutionResources.for_limits(
            value._cpu, value._gpu, value._object_store_memory, value._memory
        )

    def validate(self) -> None:
        """ValueError when limits and exclusions are both said for the same resource."""
        for name in ("cpu", "gpu", "object_store_memory"):
            limit, excluded = getattr(self.resource_limits, name), getattr(self.exclude_resources, name)
            if limit != math.inf and excluded > 0:
                raise ValueError(
                    f"Setting limits and exclude_resources for {name.upper()} at the same time is an error."
                )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExecutionOptions) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (
            f"ExecutionOptions(resource_limits={self.resource_limits}, exclude_resources={self.exclude_resources}, "
            f"preserve_order={self.preserve_order}, actor_locality_enabled={self.actor_locality_enabled}, "
            f"verbose_progress={self.verbose_progress}, label_selector={self.label_selector})"
        )
