"""Backends by name: Gloo and NCCL, and those that users register. Every process registers its own."""

from __future__ import annotations

from raybook.api.context import current_runtime
from raybook.util.collective.collective_group.base_collective_group import BaseGroup
from raybook.util.collective.collective_group.torch_collective_group import TorchGlooGroup, TorchNcclGroup
from raybook.util.collective.types import Backend

BUILT_IN: dict[str, type[BaseGroup]] = {"GLOO": TorchGlooGroup, "TORCH_GLOO": TorchGlooGroup, "NCCL": TorchNcclGroup}


def register_collective_backend(name: str, group_cls: type[BaseGroup]) -> None:
    """Make ``backend=name`` mean groups of this class, in this process. TypeError for what is no BaseGroup, ValueError
    for a name that is taken."""
    if not (isinstance(group_cls, type) and issubclass(group_cls, BaseGroup)):
        raise TypeError(f"{group_cls} is not a subclass of BaseGroup")
    upper = name.upper()
    if upper in backends():
        raise ValueError(f"Backend {upper} already registered")
    backends()[upper] = group_cls
    if not hasattr(Backend, upper):
        setattr(Backend, upper, upper)


def backends() -> dict[str, type[BaseGroup]]:
    """By name."""
    return current_runtime.lasting.setdefault("collective_backends", dict(BUILT_IN))


def is_backend_available(backend: str) -> bool:
    """Whether it is registered, and can work in this process."""
    group_cls = backends().get(backend.upper())
    return group_cls is not None and group_cls.check_backend_availability()


def backend_class(backend: str) -> type[BaseGroup]:
    """RuntimeError that says what is missing when the backend cannot work here."""
    upper = backend.upper()
    group_cls = backends().get(upper)
    if group_cls is None:
        raise RuntimeError(
            f"Backend {upper} is not registered. Use one of {sorted(backends())}, or register_collective_backend('{upper}', "
            "YourGroup) in every process."
        )
    if not group_cls.check_backend_availability():
        needs = {"NCCL": "torch with CUDA, and a GPU"}.get(upper, "torch: pip install 'raybook[train]'")
        raise RuntimeError(f"Backend {upper} is registered but not available: it needs {needs}.")
    return group_cls
