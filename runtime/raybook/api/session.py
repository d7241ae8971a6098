"""Session: what outlives this process, where a process of the head owns what it makes: results to find again, by name or id.

    ctx = ray.init("HOST:PORT", session="analysis")
    ctx.session.keep("features", ref)

and in another process, or the same notebook after a restart:

    ctx = ray.init("HOST:PORT", session="analysis")
    ctx.session                          # what is there; raybook.current_session() is the same
    ray.get(ctx.session.get("features"))

What a former process referred to is kept until it is taken again, forgotten, or the session ends.
"""

from __future__ import annotations

import html
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from raybook.api.actor_handle import ActorHandle
from raybook.api.context import started_engine
from raybook.api.object_ref import ObjectRef, engine_of
from raybook.api.object_ref_generator import ObjectRefGenerator
from raybook.base.ids import FIRST_RETURN, task_of
from raybook.engines.engine import ActorHandleState, Engine

NAME_CHARACTERS_MAX = 200
ROWS_SHOWN = 50
ID_PREFIX_MIN = 6
"""Fewer characters of an id would name another one by accident."""
OBJECT, STREAM, ACTOR = "object", "stream", "actor"


class Kept(msgspec.Struct, frozen=True):
    """One thing that a former process referred to, or that was named. id: in hexadecimal. kind: "object", "stream" or
    "actor". what: the task, or the actor's class. state: PENDING, INLINE, IN_ARENA, ON_DISK or FAILED, of an object.
    submitted_s: seconds since the epoch; 0: not known."""

    id: str
    kind: str
    name: str
    what: str
    state: str
    size_bytes: int
    call_site: str
    submitted_s: float

    def __str__(self) -> str:
        return "  ".join(cell for cell in _cells(self) if cell)


class Session:
    """The context's ``session``. Questions block for a round trip."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._view = engine.session

    @property
    def name(self) -> str:
        """What ``init`` was asked for; "" for a session that ends with this process."""
        return str(self._view.name)

    @property
    def id(self) -> str:
        return str(self._view.id.hex())

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.name or self.id} (kept {_duration(self._view.idle_limit_s)} without a client)"

    @property
    def is_new(self) -> bool:
        """Whether it began with this process's ``init``: then there is nothing of former processes."""
        return bool(self._view.is_new)

    @property
    def idle_limit_s(self) -> float:
        """How long it lives without a client, in seconds."""
        return float(self._view.idle_limit_s)

    @property
    def is_connected(self) -> bool:
        """Whether the connection is open at this moment. One that broke comes back by itself."""
        return bool(self._view.is_connected)

    def list(self) -> list[Kept]:
        """Everything that is kept, the oldest first."""
        return [_kept(row) for row in self._view.rows()]

    def get(self, name_or_id: str) -> Any:
        """The reference, generator or actor handle of that name, id or beginning of an id. KeyError, with what there is;
        ValueError when a beginning fits several."""
        key = self._find(name_or_id)
        thing = self._view.take(key)
        if thing.kind == ACTOR:
            state = msgspec.msgpack.decode(thing.handle, type=ActorHandleState)
            return ActorHandle(state, self._engine)
        if thing.kind == STREAM:
            task_id = task_of(key)
            with_end = self._view.take(task_id + FIRST_RETURN)
            ref = ObjectRef(with_end.key, with_end.owner_address, self._engine.release)
            return ObjectRefGenerator(ref, thing.next_index)
        return ObjectRef(key, thing.owner_address, self._engine.release)

    def keep(self, name: str, what: Any) -> None:
        """Name a reference or actor handle. It is kept under this name, whoever drops it, until ``forget`` or the end of
        the session; a name that is used again moves. TypeError, ValueError."""
        if not isinstance(name, str) or not name or len(name) > NAME_CHARACTERS_MAX:
            raise ValueError(f"A name has 1 to {NAME_CHARACTERS_MAX} characters, got {name!r}.")
        if isinstance(what, ObjectRef):
            engine_of(what)
            key = what.id
        elif isinstance(what, ActorHandle):
            key = what._state.actor_id
        else:
            raise TypeError(f"Only an ObjectRef or an actor handle can be kept, got {type(what)}. Put the value first.")
        self._view.name_it(key, name)

    def forget(self, name_or_id: str) -> None:
        """Keep it no longer; references that this process has stay good. KeyError, ValueError."""
        self._view.forget(self._find(name_or_id))

    def end(self) -> None:
        """The session ends when this process leaves it (``raybook.shutdown``), with everything in it."""
        self._view.ends = True

    def _find(self, name_or_id: str) -> bytes:
        rows = self._view.rows()
        for row in rows:
            if row.name == name_or_id:
                return bytes(row.key)
        found = [row for row in rows if len(name_or_id) >= ID_PREFIX_MIN and row.key.hex().startswith(name_or_id)]
        if len(found) > 1 and not any(row.key.hex() == name_or_id for row in found):
            raise ValueError(f"{name_or_id!r} is the beginning of {len(found)} ids; give more of it.")
        if not found:
            names = ", ".join(repr(row.name) for row in rows if row.name) or "none"
            raise KeyError(
                f"Session {self.name or self.id} keeps nothing called {name_or_id!r}. Names: {names}; "
                f"{len(rows)} things in all, which ctx.session.list() shows."
            )
        return bytes(found[0].key)

    def __repr__(self) -> str:
        state = "new" if self.is_new else "resumed"
        return f"Session({self.name or self.id!r}, {state}, kept {_duration(self.idle_limit_s)} without a client)"

    def __str__(self) -> str:
        rows = self.list()
        lines = [repr(self), *(f"  {row}" for row in rows[:ROWS_SHOWN])]
        if len(rows) > ROWS_SHOWN:
            lines.append(f"  and {len(rows) - ROWS_SHOWN} more")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = self.list()
        heads = "".join(
            f"<th style='text-align:left'>{head}</th>" for head in ("name", "what", "state", "size", "made", "at", "id")
        )
        body = "".join(
            "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in _cells(row)) + "</tr>"
            for row in rows[:ROWS_SHOWN]
        )
        more = f"<p>and {len(rows) - ROWS_SHOWN} more</p>" if len(rows) > ROWS_SHOWN else ""
        table = (
            f"<table><tr>{heads}</tr>{body}</table>{more}" if rows else "<p>Nothing of former processes is kept.</p>"
        )
        return f"<b>Session {html.escape(self.title)}</b>{table}"

    def __iter__(self) -> Iterator[Kept]:
        return iter(self.list())


def current_session() -> Session | None:
    """The session that owns what this process makes; None when it owns that itself. NotStartedError."""
    engine = started_engine()
    return None if engine.session is None else Session(engine)


def _kept(row: Any) -> Kept:
    return Kept(
        row.key.hex(), row.kind, row.name, row.what, row.state, row.size_bytes, row.call_site, row.submitted_s
    )  # fmt: skip


def _cells(row: Kept) -> tuple[str, ...]:
    what = row.what if row.kind == OBJECT else f"{row.kind} {row.what}".strip()
    made = time.strftime("%H:%M:%S", time.localtime(row.submitted_s)) if row.submitted_s else ""
    size = f"{row.size_bytes:,} B" if row.size_bytes else ""
    return row.name, what, row.state, size, made, row.call_site, row.id


def _duration(seconds: float) -> str:
    if seconds >= 7200:
        return f"{seconds / 3600:g} h"
    return f"{seconds / 60:g} min" if seconds >= 120 else f"{seconds:g} s"
