"""ActorHandle: a name for an actor that lives in another process, and its methods as attributes.

It knows the actor's immutable state record and the engine that reaches it. It does not know where the actor is or
whether it lives. Invariants: one Python handle gives back exactly one count, by one call of the engine's ``release``
and nothing else; a handle works in the session that made it and raises in any other.
"""

from __future__ import annotations

from typing import Any, NoReturn

from raybook.api.binding import bind_method
from raybook.api.context import started_engine
from raybook.api.option_checks import check_streams
from raybook.api.options import CALL_OPTIONS, call_options, check_call_site_options, override_call
from raybook.api.public_ids import ActorID
from raybook.api.returns import shape_returns
from raybook.api.signature import CallSignature
from raybook.base.errors import StaleReferenceError
from raybook.base.names import short
from raybook.base.specs import RefInfo
from raybook.engines.engine import ActorHandleState, CallOptions, Engine

SYSTEM_METHODS = {"__ray_ready__": 1, "__ray_terminate__": 1, "__ray_call__": 1}
"""Every actor has them: ready once ``__init__`` ended; end after the queued calls; run a function on the instance."""


class ActorHandle:
    """``handle.method.remote(...)``. Compares and hashes by actor; may be passed to tasks and actors."""

    __slots__ = ("__weakref__", "_calls", "_engine", "_give_back", "_signatures", "_state")

    def __init__(
        self,
        state: ActorHandleState,
        engine: Engine,
        signatures: dict[str, CallSignature] | None = None,
    ) -> None:
        self._state = state
        self._engine = engine
        self._give_back = _keep if state.is_weak else engine.release
        # Known only where the class is: a handle from get_actor leaves arguments to the actor's process.
        self._signatures = signatures or {}
        self._calls: dict[str, CallOptions] = {}

    def __del__(self) -> None:
        self._give_back(self._state.actor_id)

    @property
    def _actor_id(self) -> ActorID:
        return ActorID(self._state.actor_id)

    @property
    def _ray_actor_id(self) -> ActorID:
        """Ray's other name for it."""
        return ActorID(self._state.actor_id)

    def __getattr__(self, name: str) -> ActorMethod:
        options = self._calls.get(name)
        if options is None:
            options = self._calls[name] = self._default_options(name)
        return ActorMethod(self, name, options)

    def _default_options(self, name: str) -> CallOptions:
        state = self._state
        num_returns = state.methods.get(name)
        if num_returns is None:
            num_returns = SYSTEM_METHODS.get(name)
        if num_returns is None:
            if name.startswith("__"):
                raise AttributeError(name)
            raise AttributeError(
                f"Actor class {state.class_name!r} has no method {name!r}. Its methods are: "
                f"{', '.join(sorted(state.methods)) or 'none'}. Attributes live in the actor's process; read them "
                "through a method."
            )
        defaults = state.method_defaults.get(name)
        return call_options(f"{short(state.class_name)}.{name}", num_returns, defaults, state.max_task_retries)

    def __class_getitem__(cls, item: object) -> type:
        # ``ActorHandle[Counter]`` in annotations.
        return cls

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._state.methods]

    def __eq__(self, other: object) -> bool:
        return self._state.actor_id == other._state.actor_id if isinstance(other, ActorHandle) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._state.actor_id)

    def __repr__(self) -> str:
        return f"Actor({self._state.class_name}, {self._state.actor_id.hex()})"

    def __copy__(self) -> ActorHandle:
        return self

    def __deepcopy__(self, memo: dict) -> ActorHandle:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Reached by picklers that are not the engine's too: then this handle must outlive the bytes.
        return rebuild_handle, (self._state,)


class ActorMethod:
    """One method of one actor, bound: it keeps the handle, and so the actor, alive until the call is queued."""

    __slots__ = ("_handle", "_name", "_options")

    def __init__(self, handle: ActorHandle, name: str, options: CallOptions) -> None:
        self._handle = handle
        self._name = name
        self._options = options

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Queue one call and return its ObjectRef at once (a list of them for num_returns > 1, None for 0, an
        ObjectRefGenerator for a generator).

        TypeError for arguments that do not fit or cannot be pickled; PendingCallsLimitExceeded; StaleReferenceError for
        a handle of another session. Cost: 1 µs above the engine's.
        """
        handle = self._handle
        engine = handle._engine
        if engine.closed:
            raise _stale(handle)
        signature = handle._signatures.get(self._name)
        if signature is not None and (args or kwargs or not signature.takes_nothing):
            signature.check(args, kwargs)
        options = self._options
        num_returns = options.num_returns
        refs = engine.call_actor(handle._state, self._name, args, kwargs, options)
        if num_returns == 1:
            return refs[0]
        return shape_returns(refs, num_returns)

    def _remote(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """The call with its arguments in containers, and options beside them: how much code written for Ray has it."""
        return (self.options(**options) if options else self).remote(*(args or ()), **(kwargs or {}))

    def bind(self, /, *args: Any, **kwargs: Any) -> Any:
        """A node of a graph (``raybook.dag``) that calls this method when the graph runs; a tuple of nodes, one for each
        value, for num_returns > 1. Arguments may be nodes. TypeError for those that do not fit the method."""
        handle = self._handle
        signature = handle._signatures.get(self._name)
        if signature is not None:
            signature.check(args, kwargs)
        options = {"name": self._options.name, "num_returns": self._options.num_returns}
        return bind_method(self, args, kwargs, self._options.num_returns, options)

    def options(self, **options: Any) -> ActorMethod:
        """The same method with other options: ``handle.method.options(num_returns=2).remote()``."""
        check_call_site_options(options, CALL_OPTIONS, "actor methods")
        group, declared = options.get("concurrency_group"), self._handle._state.concurrency_groups
        if group and group not in declared:
            raise ValueError(
                f"concurrency_group={group!r}: the class {self._handle._state.class_name!r} does not declare it. "
                f"Declared are: {sorted(declared) or 'none'}; see @raybook.remote(concurrency_groups={{...}})."
            )
        if self._options.num_returns >= 0:
            check_streams(options, is_generator=False)
        return ActorMethod(self._handle, self._name, override_call(self._options, options))

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            f"Actor methods cannot be called directly. Instead of running 'handle.{self._name}()', try "
            f"'handle.{self._name}.remote()'."
        )

    def __repr__(self) -> str:
        return f"ActorMethod({self._options.name})"


def live_engine(handle: ActorHandle) -> Engine:
    """The engine of a handle that still works; StaleReferenceError for one of another session."""
    if handle._engine.closed:
        raise _stale(handle)
    return handle._engine


def _keep(actor_id: bytes) -> None:
    """A handle that was looked up by name gives nothing back: it was never counted."""


def _stale(handle: ActorHandle) -> StaleReferenceError:
    return StaleReferenceError(
        f"{handle!r} belongs to an earlier raybook session, or to the process this one was forked from. The actor went "
        "with that session. Create it again, or give it a name and lifetime='detached' and look it up with get_actor."
    )


def reduce_handle(handle: ActorHandle, contained: list[Any]) -> tuple[Any, ...]:
    """The engine's reducer. The actor's id goes among what the value contains, as ids of refs do, so that the actor
    outlives the bytes."""
    if not handle._state.is_weak:
        contained.append(RefInfo(handle._state.actor_id, handle._state.owner_address))
    return rebuild_handle, (handle._state,)


def rebuild_handle(state: ActorHandleState) -> ActorHandle:
    """The other end. RuntimeError in a process that is not connected."""
    engine = started_engine()
    engine.adopt_actor(state)
    return ActorHandle(state, engine)
