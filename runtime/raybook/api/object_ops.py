"""Object verbs: get, put, wait, cancel, kill, get_actor. Checks of what the user passed, then one call of the engine.

Errors of use are raised here, before anything is sent, as Ray raises them (RAY.md, behaviours 1-7).
"""

from __future__ import annotations

from typing import Any, cast

from raybook.api.actor_handle import ActorHandle, live_engine
from raybook.api.context import current_engine, current_runtime
from raybook.api.object_ref import ObjectRef, engine_of, stale
from raybook.api.object_ref_generator import ObjectRefGenerator
from raybook.engines.engine import Engine


def get(object_refs: Any, *, timeout: float | None = None) -> Any:
    """The value of a ref, or a list of the values of a list of refs; blocks until they are ready. A generator comes
    back as it is: it is its items that are refs.

    timeout: seconds; 0 asks whether it is there. Raises what the task raised (as soon as any of them failed),
    GetTimeoutError, or the error of a lost object; ValueError or TypeError for what is no ref. Large arrays come as
    read-only views of shared memory, without a copy. Cost: 2 µs for a small value that is ready.
    """
    refs = object_refs
    engine = current_runtime.engine
    if timeout is not None:
        _check_timeout("get", timeout)
    if type(refs) is ObjectRef:
        if engine is None or refs._release is not engine.release:
            raise stale(refs)
        return engine.get((refs,), timeout)[0]
    if isinstance(refs, ObjectRefGenerator):
        return refs
    if not isinstance(refs, list):
        raise ValueError(
            f"Invalid type of object refs, {type(refs)}, is given. raybook.get takes an ObjectRef or a list of "
            f"ObjectRefs.{_hint(refs)}"
        )
    if not refs:
        return []
    return _engine_of("get", refs, engine).get(refs, timeout)


def put(value: Any, *, _owner: Any = None) -> ObjectRef:
    """Store a value and return its ref. TypeError for an ObjectRef or a value that cannot be pickled (naming the path);
    ObjectStoreFullError. Cost: 6 µs for a small value, a memcpy for a large array."""
    engine = current_runtime.engine or current_engine()
    if isinstance(value, ObjectRef):
        raise TypeError(
            f"Calling 'put' on an ObjectRef is not allowed: {value!r} names a stored object already. "
            "Pass it on as it is, or put a list that holds it."
        )
    if _owner is not None:
        raise ValueError("put(_owner=...) is not supported: the process that puts an object owns it.")
    return engine.put(value)


def wait(
    ray_waitables: Any, *, num_returns: int = 1, timeout: float | None = None, fetch_local: bool = True
) -> tuple[list[ObjectRef], list[ObjectRef]]:
    """Block until ``num_returns`` of the refs are ready or ``timeout`` seconds have passed; (ready, not ready), each in
    the order of the input, ``ready`` never longer than ``num_returns``. A failed object is ready.

    A generator is ready when its next item is there, or its end. fetch_local: also bring large objects to this node.
    TypeError for what is no list of refs; ValueError for duplicates, a num_returns outside 1..len(refs),
    or a negative timeout.
    """
    refs = ray_waitables
    if isinstance(refs, (ObjectRef, ObjectRefGenerator)):
        raise TypeError(f"wait() expected a list of ObjectRefs, got a single {type(refs).__name__}. Pass [ref].")
    if not isinstance(refs, list):
        raise TypeError(f"wait() expected a list of ObjectRefs, got {type(refs)}.{_hint(refs)}")
    if timeout is not None:
        _check_timeout("wait", timeout)
    if isinstance(num_returns, bool) or not isinstance(num_returns, int):
        raise TypeError(f"wait() expected a whole number as num_returns, got {num_returns!r}.")
    if not refs:
        return [], []
    engine = _engine_of("wait", refs, current_runtime.engine, (ObjectRef, ObjectRefGenerator))
    if len({ref.id for ref in refs}) != len(refs):
        raise ValueError("wait() requires a list of unique ObjectRefs: one of them is there more than once.")
    if num_returns <= 0:
        raise ValueError(f"Invalid number of objects to return: num_returns is {num_returns}, and must be at least 1.")
    if num_returns > len(refs):
        raise ValueError(
            f"num_returns cannot be greater than the number of ObjectRefs: it is {num_returns}, of {len(refs)} refs."
        )
    return engine.wait(refs, num_returns, timeout, bool(fetch_local))


def cancel(ray_waitable: ObjectRef | ObjectRefGenerator, *, force: bool = False, recursive: bool = True) -> None:
    """Cancel the task that makes this object: one that waits never runs, one that runs gets a KeyboardInterrupt, or
    loses its process with ``force``. recursive: also the tasks it submitted. No effect once it ended.
    TypeError for what is no ref."""
    ref = ray_waitable
    if isinstance(ref, ObjectRefGenerator):
        ref = ref.completed()
    if not isinstance(ref, ObjectRef):
        raise TypeError(f"cancel() takes the ObjectRef of a task, got {type(ref)}.{_hint(ref)}")
    engine_of(ref).cancel(ref, force, recursive)


def kill(actor: ActorHandle, *, no_restart: bool = True) -> None:
    """End an actor at once, without its exit handlers; with ``no_restart=False`` it starts again if ``max_restarts``
    allows. ValueError for what is no actor."""
    if not isinstance(actor, ActorHandle):
        raise ValueError(f"ray.kill() only supported for actors. For tasks, try ray.cancel(). Got: {type(actor)}.")
    live_engine(actor).kill_actor(actor._state, no_restart)


def get_actor(name: str, namespace: str | None = None) -> ActorHandle:
    """A handle of a named actor, of this namespace unless told otherwise. ValueError when there is none. Cost: one
    round trip."""
    engine = current_engine()
    if not isinstance(name, str) or not name:
        raise ValueError(f"get_actor() needs the actor's name, a string that is not empty; got {name!r}.")
    if namespace is not None:
        check_namespace(namespace)
    return ActorHandle(engine.get_actor(name, namespace), engine)


def check_namespace(namespace: Any) -> None:
    """TypeError for what is no string, ValueError for an empty one."""
    if not isinstance(namespace, str):
        raise TypeError(f"namespace must be None or a string, got {type(namespace)}.")
    if not namespace:
        raise ValueError('"" is not a valid namespace. Pass None to not specify a namespace.')


def _engine_of(verb: str, refs: list[Any], engine: Engine | None, kinds: tuple[type, ...] = (ObjectRef,)) -> Engine:
    """The engine of a list of refs. No verb starts a cluster for refs: whoever has one had a session."""
    release = engine.release if engine is not None else None
    try:
        # Passes that the interpreter runs fast (15 ns an item); the loop below says what is wrong, and with which item.
        # Nothing but refs and generators has a ``_release`` that is an engine's.
        if release is not None and [ref._release for ref in refs].count(release) == len(refs):
            if ObjectRefGenerator in kinds or [type(ref) for ref in refs].count(ObjectRef) == len(refs):
                return cast(Engine, engine)
    except AttributeError:
        pass
    for ref in refs:
        if type(ref) not in kinds:
            raise TypeError(
                f"{verb}() takes ObjectRefs; item {refs.index(ref)} of the list is a {type(ref)}.{_hint(ref)}"
            )
        if ref._release is not release:
            raise stale(ref)
    return cast(Engine, engine)


def _check_timeout(verb: str, timeout: Any) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"The timeout of {verb}() is a number of seconds or None, got {timeout!r}.")
    if not timeout >= 0:
        raise ValueError(f"The timeout of {verb}() must not be negative, got {timeout}.")


def _hint(thing: Any) -> str:
    if isinstance(thing, (tuple, set, frozenset)) or hasattr(thing, "__next__"):
        return " Make it a list: list(refs)."
    if isinstance(thing, list):
        return " Flatten nested lists first."
    if isinstance(thing, ActorHandle):
        return " Call a method of the actor with .remote() first."
    if hasattr(thing, "remote") and callable(thing):
        return " Call it with .remote() first."
    return ""
