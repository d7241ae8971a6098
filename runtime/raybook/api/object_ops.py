"""Object verbs: get, put, wait, cancel, kill, get_actor. Checks of what the user passed, then one call of the engine.

Errors of use are raised here, before anything is sent, as Ray raises them (RAY.md, behaviours 1-7).
"""

from __future__ import annotations

from typing import Any, cast

from raybook.api.actor_handle import ActorHandle, live_engine
from raybook.api.context import current_engine, current_runtime
from raybook.api.graph_result import GraphResult, get_results
from raybook.api.object_ref import ObjectRef, engine_of, stale
from raybook.api.object_ref_generator import ObjectRefGenerator
from raybook.engines.engine import Engine
from raybook.protocol.serialization import private_copy

WAIT_EXPECTED = "wait() expected a list of ray.ObjectRef or ray.ObjectRefGenerator"


def get(object_refs: Any, *, timeout: float | None = None, copy: bool = False) -> Any:
    """The value of a ref, or a list of the values of a list of refs; blocks until they are ready. A generator comes back
    as it is: it is its items that are refs.

    timeout: seconds; 0 asks whether it is there. Raises what the task raised (as soon as any of them failed),
    GetTimeoutError, or the error of a lost object; ValueError or TypeError for what is no ref. Large arrays come as
    read-only views of shared memory, without a copy; with ``copy=True`` as arrays of your own, which you may write to.
    Cost: 2 µs for a small value that is ready.
    """
    if copy:
        found = get(object_refs, timeout=timeout)
        return [_own(value) for value in found] if isinstance(object_refs, list) else _own(found)
    engine = current_runtime.engine
    if timeout is not None and not isinstance(object_refs, GraphResult):
        _check_timeout("get", timeout)
    if type(object_refs) is ObjectRef:
        if engine is None or object_refs._release is not engine.release:
            raise stale(object_refs)
        return engine.get((object_refs,), timeout)[0]
    if isinstance(object_refs, ObjectRefGenerator):
        return object_refs
    if isinstance(object_refs, GraphResult):
        return object_refs.get(timeout=timeout)
    if not isinstance(object_refs, list):
        raise ValueError(
            f"Invalid type of object refs, {type(object_refs)}, is given. 'object_refs' must either be an ObjectRef "
            f"or a list of ObjectRefs.{_hint(object_refs)}"
        )
    if not object_refs:
        return []
    if isinstance(object_refs[0], GraphResult):
        return get_results(object_refs, timeout)
    return _engine_of("get", object_refs, engine).get(object_refs, timeout)


def _own(value: Any) -> Any:
    """A value without a byte of shared memory in it."""
    return value if isinstance(value, ObjectRefGenerator) else private_copy(value, current_engine().serialization)


def put(value: Any, *, _owner: Any = None) -> ObjectRef:
    """Store a value and return its ref. TypeError for an ObjectRef or a value that cannot be pickled (naming the path);
    ObjectStoreFullError. Cost: 6 µs for a small value, a memcpy for a large array."""
    engine = current_runtime.engine or current_engine()
    if isinstance(value, ObjectRef):
        raise TypeError(
            f"Calling 'put' on an ray.ObjectRef is not allowed: {value!r} names a stored object already. "
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
    if isinstance(ray_waitables, (ObjectRef, ObjectRefGenerator)):
        raise TypeError(f"{WAIT_EXPECTED}, got a single {type(ray_waitables).__name__}: {ray_waitables!r}. Pass [ref].")
    if not isinstance(ray_waitables, list):
        raise TypeError(f"{WAIT_EXPECTED}, got {type(ray_waitables)}.{_hint(ray_waitables)}")
    if timeout is not None:
        _check_timeout("wait", timeout)
    if isinstance(num_returns, bool) or not isinstance(num_returns, int):
        raise TypeError(f"wait() expected a whole number as num_returns, got {num_returns!r}.")
    if not ray_waitables:
        return [], []
    engine = _engine_of("wait", ray_waitables, current_runtime.engine, (ObjectRef, ObjectRefGenerator))
    if len({ref.id for ref in ray_waitables}) != len(ray_waitables):
        raise ValueError("Wait requires a list of unique ray_waitables: one of them is there more than once.")
    if num_returns <= 0:
        raise ValueError(f"Invalid number of objects to return {num_returns}. The least is num_returns=1.")
    if num_returns > len(ray_waitables):
        raise ValueError(
            f"num_returns cannot be greater than the number of ray_waitables provided to ray.wait: it is {num_returns}, "
            f"of {len(ray_waitables)}."
        )
    return engine.wait(ray_waitables, num_returns, timeout, bool(fetch_local))


def cancel(ray_waitable: ObjectRef | ObjectRefGenerator, *, force: bool = False, recursive: bool = True) -> None:
    """Cancel the task that makes this object: one that waits never runs, one that runs gets a KeyboardInterrupt, or
    loses its process with ``force``. recursive: also the tasks it submitted. No effect once it ended.
    TypeError for what is no ref."""
    if isinstance(ray_waitable, ObjectRefGenerator):
        ray_waitable = ray_waitable.completed()
    if not isinstance(ray_waitable, ObjectRef):
        raise TypeError(
            f"ray.cancel() only supported for object refs. For actors, try ray.kill(). Got: {type(ray_waitable)}."
            f"{_hint(ray_waitable)}"
        )
    engine_of(ray_waitable).cancel(ray_waitable, force, recursive)


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
        raise ValueError(f"Please supply a non-empty value to get_actor: the actor's name, a string. Got {name!r}.")
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
        if isinstance(ref, GraphResult) and verb == "get":
            get_results(refs, None)
        if type(ref) not in kinds:
            raise _stranger(verb, refs.index(ref), ref)
        if ref._release is not release:
            raise stale(ref)
    return cast(Engine, engine)


def _stranger(verb: str, index: int, value: Any) -> TypeError:
    """The error of a list item that is no reference."""
    if verb == "get":
        words = f"Attempting to call `get` on the value {_short(value)}, which is not an ray.ObjectRef"
    else:
        words = (
            f"{verb}() expected a list of ray.ObjectRef or ray.ObjectRefGenerator, got list containing {type(value)}"
        )
    return TypeError(f"{words} (item {index} of the list).{_hint(value)}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _check_timeout(verb: str, timeout: Any) -> None:
    # numbers.Real would do, but importing ``numbers`` is not free: what numpy's numbers have beside Python's is asked for.
    if isinstance(timeout, (bool, str, bytes)) or not hasattr(timeout, "__float__"):
        raise TypeError(f"The timeout of {verb}() is a number of seconds or None, got {timeout!r}.")
    if not timeout >= 0:
        raise ValueError(f"The 'timeout' argument of {verb}() must be nonnegative. Received {timeout}")


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
