"""Arguments on their way to a task: top-level references become slots, and slots become values.

``split`` runs where a task is submitted, ``join`` where it runs. A reference inside a container stays a reference.
"""

from __future__ import annotations

from typing import Any

from raybook.base.specs import RefInfo
from raybook.protocol.messages.worker import ArgRef
from raybook.protocol.serialization import SerializationContext, serialize

NO_ARGUMENTS = serialize(((), {}), SerializationContext()).to_bytes()
"""What most calls carry: it is neither made anew nor read."""


class ArgSlot:
    """Stands for the argument that the slot of this number will fill."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __reduce__(self) -> tuple[Any, ...]:
        return ArgSlot, (self.index,)


def split(
    args: tuple[Any, ...], kwargs: dict[str, Any], ref_type: Any
) -> tuple[tuple[Any, ...], dict[str, Any], list[ArgRef] | None]:
    """Arguments with top-level references replaced by slots, and what fills them; None when there are none.
    Cost: one type test for each argument."""
    slots: list[ArgRef] = []
    places: list[Any] | None = None
    for index, arg in enumerate(args):
        if type(arg) is ref_type:
            if places is None:
                places = list(args)
            places[index] = ArgSlot(len(slots))
            slots.append(ArgRef(RefInfo(arg.id, arg.owner_address)))
    names: dict[str, Any] | None = None
    for name, arg in kwargs.items():
        if type(arg) is ref_type:
            if names is None:
                names = dict(kwargs)
            names[name] = ArgSlot(len(slots))
            slots.append(ArgRef(RefInfo(arg.id, arg.owner_address)))
    return args if places is None else tuple(places), kwargs if names is None else names, slots or None


def join(args: tuple[Any, ...], kwargs: dict[str, Any], values: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with every slot filled."""
    args = tuple(values[arg.index] if type(arg) is ArgSlot else arg for arg in args)
    kwargs = {name: values[arg.index] if type(arg) is ArgSlot else arg for name, arg in kwargs.items()}
    return args, kwargs
