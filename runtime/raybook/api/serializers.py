"""Serializers: how a type travels, and whether a value does. The user's word on pickling, handed to the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from raybook.api.actor_handle import ActorHandle
from raybook.api.context import current_engine, current_runtime
from raybook.api.object_ref import ObjectRef
from raybook.protocol.serialization import SerializationContext, serialize
from raybook.protocol.unpicklable import steps_into

BUILTIN_KINDS = frozenset({type(None), bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset})
"""They never reach a reducer: plain pickle knows them."""


def register_serializer(cls: type, *, serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any]) -> None:
    """From now on, in this process and session, instances of exactly ``cls`` travel as ``serializer(instance)`` and are
    rebuilt by ``deserializer``, which travels with them. Starts raybook if need be. TypeError for builtin types and for
    refs and handles, which the runtime itself must see."""
    if not isinstance(cls, type):
        raise TypeError(f"register_serializer() takes a class, got {cls!r}.")
    if cls in BUILTIN_KINDS or cls in (ObjectRef, ActorHandle):
        raise TypeError(f"How a {cls.__name__} travels cannot be changed. Register a class of your own.")
    current_engine().serialization.reducers[cls] = lambda value, contained: (deserializer, (serializer(value),))


def deregister_serializer(cls: type) -> None:
    """Undo ``register_serializer``; without effect when there was none."""
    if cls not in (ObjectRef, ActorHandle):
        current_engine().serialization.reducers.pop(cls, None)


def serialization_error(value: Any) -> TypeError | None:
    """Why a value cannot travel, in words that name the part that is to blame; None when it can. Starts nothing. Cost:
    one pickling, or up to 500 for a value that fails."""
    engine = current_runtime.engine
    try:
        serialize(value, engine.serialization if engine is not None else SerializationContext())
    except TypeError as error:
        return error
    return None


def parts_of(value: Any) -> Iterator[tuple[str, Any]]:
    """What pickling a value would pickle too: (name of the way there, part)."""
    for step in steps_into(value):
        yield (step.capture[1] if step.capture else step.text), step.part
