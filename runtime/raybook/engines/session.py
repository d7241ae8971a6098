"""The session engine: the owner on the head, for drivers on machines without a node, and for those whose results outlive
them.

The native engine over another core: what it hands over goes through a network to a session process (``session_host``),
which owns references, lineage and results. This process holds ids. A broken connection loses nothing; a new process that
names the session finds what the former one had (``kept``).
"""

from __future__ import annotations

import atexit
import getpass
import os
import platform
import socket
import sys
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from raybook.base.environments import PLAIN
from raybook.base.error_values import error_from_code
from raybook.base.errors import SessionLostError
from raybook.base.ids import FIRST_RETURN, random_id, task_of
from raybook.base.specs import PROTOCOL_VERSION, Job
from raybook.base.version import VERSION
from raybook.core.owner.records import Wait
from raybook.engines.engine import ActorHandleState, ActorOptions, CallOptions, Function
from raybook.engines.native import NativeEngine
from raybook.engines.own_tasks import FailedTask, OwnTasks, UnfinishedTask
from raybook.engines.session_core import SessionCore
from raybook.engines.session_mirror import EndedCalls
from raybook.engines.session_orders import Order
from raybook.engines.session_values import SessionValues
from raybook.io.transport import Security
from raybook.protocol.messages import session as m
from raybook.protocol.messages.output import WorkerLine, WorkerLines
from raybook.session.client_link import KnockRefused, knock_at
from raybook.worker.values import Values

FLUSH_S_MIN = 0.1
ASKED_S = 30.0


class SessionEngine(NativeEngine):
    """One membership of this process in one session. See ``engines.engine.Engine`` for the contract."""

    _core: SessionCore  # type: ignore[assignment]

    def __init__(
        self, core: SessionCore, job: Job, address: str, stop_cluster: Callable[[], None] | None, environment: str
    ) -> None:
        super().__init__(core, job, stop_cluster, environment)  # type: ignore[arg-type]
        self.address = address
        self.session = SessionView(self)
        self._has_left = False
        core.on_cluster_lost = self._on_lost
        # A shell that ends in good order clears its user's variables. What they referred to shall be there for the next
        # process, so this one must have left by then: handlers run in the reverse order, and the shell's is older.
        atexit.register(self.shutdown)

    def _on_lost(self, reason: str) -> None:
        # Also what could be queued raises from now on: nobody will ever take it.
        self.closed = True

    @classmethod
    def knock(
        cls, address: str, token: bytes, *, session: str = "", namespace: str | None = None, kernel_id: str = "",
        environment: str = PLAIN, stop_cluster: Callable[[], None] | None = None,
        on_output: Callable[[list[WorkerLine]], None] | None = None, logging: str = "",
        security: Security | None = None,
    ) -> SessionEngine:  # fmt: skip
        """Connect this process, as a thin client, to the head whose session door is at ``address`` (``tcp:host:port`` or
        ``unix:/path``). session: the name of the session to begin or go on with; "": one that ends with this process.
        security: TLS, to a port. ConnectionError, with the head's words, when it cannot be. Cost: 0.4 s for a new
        session, 5 ms for one that is there."""
        knock = m.Knock(
            process_id=random_id(),
            session_id=b"",
            session_name=session,
            received=0,
            protocol_version=PROTOCOL_VERSION,
            python_version=platform.python_version(),
            raybook_version=VERSION,
            namespace=namespace or ("" if session else str(uuid.uuid4())),
            kernel_id=kernel_id,
            entrypoint=sys.argv[0] if sys.argv else "",
            import_paths=tuple(os.path.abspath(path) for path in sys.path),
            logging=logging,
            wants_output=on_output is not None,
            who=f"{_user()}@{socket.gethostname()}, process {os.getpid()}",
        )
        try:
            first = knock_at(address, token, knock, security)
        except KnockRefused as refused:
            raise ConnectionError(f"The head at {address.removeprefix('tcp:')} refused: {refused}") from None
        welcome = first[1]
        core = SessionCore(address, token, knock, first, security)
        if on_output is not None:
            core.raylet_handlers[WorkerLines] = lambda message: on_output(message.lines)
        job = Job(welcome.job_id, welcome.namespace, knock.import_paths, logging)
        engine = cls(core, job, address.removeprefix("tcp:"), stop_cluster, environment)
        core.start()
        return engine

    def _make_values(self, core: Any) -> Values:
        self.own_tasks = SessionTasks(core)
        return SessionValues(core, self.serialization)

    def _after_fork(self) -> None:
        super()._after_fork()
        self._core.close_in_child()

    # What another process needs to make handles of these actors

    def create_actor(self, function: Function, args: tuple, kwargs: dict, options: ActorOptions) -> ActorHandleState:
        state = super().create_actor(function, args, kwargs, options)
        if not state.is_weak:
            self._note(state)
        return state

    def adopt_actor(self, actor: ActorHandleState) -> None:
        super().adopt_actor(actor)
        if not actor.is_weak:
            self._note(actor)

    def _note(self, state: ActorHandleState) -> None:
        if state.actor_id not in self._core.noted:
            self._core.noted.add(state.actor_id)
            handle = msgspec.msgpack.encode(state)
            self._core.submit(Order(m.KeepHandle(state.actor_id, handle, state.class_name)))

    def call_actor(
        self, actor: ActorHandleState, method: str, args: tuple, kwargs: dict, options: CallOptions
    ) -> list[Any]:
        refs = super().call_actor(actor, method, args, kwargs, options)
        if actor.max_pending_calls >= 0 and refs:
            queues = self._core.owner.actors.queues
            queue = queues.get(actor.actor_id)
            if queue is None:
                queue = queues[actor.actor_id] = EndedCalls()
            first = refs[0].id[: -len(FIRST_RETURN)] + FIRST_RETURN
            self._core.submit(Wait([first], 1, False, None, partial(_one_more, queue)))
        return refs

    # Questions that the session answers

    def memory(self) -> list[dict]:
        if self.closed or self._core.lost_reason:
            raise self._stale()
        told = self._core.ask(m.MEMORY)
        assert told is not None
        return list(msgspec.msgpack.decode(told.body))

    def flush_output(self, timeout_s: float) -> None:
        if self.closed or self._core.lost_reason:
            return
        try:
            self._core.ask(m.FLUSH_OUTPUT, timeout_s=max(timeout_s, FLUSH_S_MIN))
        except SessionLostError:
            return

    def shutdown(self) -> None:
        if self._has_left or self._is_forked:
            return
        self.closed = self._has_left = True
        atexit.unregister(self.shutdown)
        self._core.stop(ends_session=not self._core.welcome.session_name or self.session.ends)
        if self._stop_cluster is not None:
            self._stop_cluster()


class SessionTasks(OwnTasks):
    """What the session has submitted for this process and is not over."""

    _core: SessionCore  # type: ignore[assignment]

    def unfinished(self) -> list[UnfinishedTask]:
        """In the order of their submission. Blocks for a round trip."""
        told = self._core.ask(m.UNFINISHED)
        return msgspec.msgpack.decode(told.body, type=list[UnfinishedTask]) if told is not None else []

    def unfinished_of(self, object_id: bytes) -> UnfinishedTask | None:
        task_id = task_of(object_id)
        return next((task for task in self.unfinished() if task.task_id == task_id), None)

    def settle(self) -> None:
        """Orders and questions keep their order on the way."""

    def keep_failed(self, count_max: int) -> None:
        """Not in a session: arguments are on the head, and would have to come here first."""

    def failed(self) -> list[FailedTask]:
        return []


class SessionView:
    """What ``api`` shows of a session; the ids in it are for ``api`` to make references of."""

    def __init__(self, engine: SessionEngine) -> None:
        self._engine = engine
        self.ends = False
        """Whether the session ends when this process leaves it."""

    @property
    def name(self) -> str:
        return self._engine._core.welcome.session_name

    @property
    def id(self) -> bytes:
        return self._engine._core.welcome.session_id

    @property
    def is_new(self) -> bool:
        """Whether it began with this process."""
        return self._engine._core.welcome.is_new

    @property
    def idle_limit_s(self) -> float:
        return self._engine._core.welcome.idle_limit_s

    @property
    def is_connected(self) -> bool:
        """Whether the connection is open at this moment; it comes back by itself."""
        return self._engine._core.is_connected

    def rows(self) -> list[m.KeptThing]:
        """What former processes referred to, and what was named. Blocks for a round trip."""
        return list(msgspec.msgpack.decode(self._ask(m.LIST_KEPT, b""), type=list[m.KeptThing]))

    def take(self, key: bytes) -> m.KeptThing:
        """This process refers to it again: one count, which whoever is handed it gives back. KeyError."""
        return msgspec.msgpack.decode(self._ask(m.TAKE_KEPT, key), type=m.KeptThing)

    def name_it(self, key: bytes, name: str) -> None:
        """Keep it under a name, until that is forgotten or the session ends."""
        self._ask(m.NAME_KEPT, msgspec.msgpack.encode([key, name]))

    def forget(self, key: bytes) -> None:
        """It is no longer kept; references of this process stay."""
        self._ask(m.FORGET_KEPT, key)

    def log_names(self) -> list[str]:
        """Of the files in the head's log folder, sorted."""
        return list(msgspec.msgpack.decode(self._ask(m.LIST_LOGS, b"")))

    def read_log(self, name: str, offset: int, count: int) -> bytes:
        """A piece of one of them; nothing at its end. ValueError."""
        return self._ask(m.READ_LOG, msgspec.msgpack.encode([name, offset, count]))

    def _ask(self, what: str, body: bytes) -> bytes:
        if self._engine.closed:
            raise self._engine._stale()
        told = self._engine._core.ask(what, body, ASKED_S)
        if told is None:
            raise error_from_code("GetTimeoutError", f"The session did not answer within {ASKED_S:g} s.")
        if told.error_code:
            raise error_from_code(told.error_code, told.error_text)
        return told.body


def _one_more(queue: Any) -> None:
    queue.ended += 1


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # No such user in this container.
        return str(os.getuid())
