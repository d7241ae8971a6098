"""HTTP at the replica: a request becomes a call of the user's ``__call__`` or of their ASGI application, and what comes out
an answer: whole where it is whole, else a stream under a name.

It runs on the replica's loop. It does not know who asks: a proxy, or the replica's own listener. Invariant: the application
of a stream runs until its end, or until the client is gone, whoever reads it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from raybook.serve.asgi_json import to_json
from raybook.serve.user_callable import UserCallable, is_stream

logger = logging.getLogger("ray.serve")
UNREAD_S = 30.0
"""How long a stream waits for its reader."""
Answer = tuple[int, list[tuple[bytes, bytes]], bytes]


class Session:
    """One run of an ASGI application whose messages go out one by one."""

    def __init__(self) -> None:
        self.outgoing: deque[dict[str, Any]] = deque()
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.news = asyncio.Event()
        self.is_over = False
        self.error: BaseException | None = None
        self.task: asyncio.Task[None] | None = None

    def push(self, message: dict[str, Any]) -> None:
        self.outgoing.append(message)
        self.news.set()

    def end(self, error: BaseException | None = None) -> None:
        self.is_over, self.error = True, error
        self.news.set()

    async def messages(self) -> AsyncIterator[list[dict[str, Any]]]:
        """All that there are, as often as there are some; raises the application's error at the end."""
        while True:
            await self.news.wait()
            self.news.clear()
            if self.outgoing:
                batch = list(self.outgoing)
                self.outgoing.clear()
                yield batch
            if self.is_over and not self.outgoing:
                if self.error is not None:
                    raise self.error
                return


class HttpReplica:
    """Of one replica."""

    def __init__(self, user: UserCallable, replica: Any) -> None:
        self._user = user
        self._replica = replica
        self._sessions: dict[str, Session] = {}
        self._background: set[asyncio.Task[Any]] = set()
        self._app = getattr(user.instance, "_asgi_app", None)
        self._takes_request = True
        if self._app is None:
            _, function = user.method("__call__")
            self._takes_request = bool(inspect.signature(function).parameters)

    # Requests

    async def respond(self, call: tuple, scope: dict[str, Any], body: Any) -> Answer | str:
        """A whole answer, or the name of a stream."""
        body = body if type(body) is bytes else bytes(body)
        if self._app is not None:
            return await self._run_app(self._app, call[1], scope, body)
        args: tuple = ()
        if self._takes_request:
            args = (Request(scope, _Body(body)),)
        result = await self._user.call("__call__", args, {})
        if isinstance(result, Response):
            if type(result).__call__ is Response.__call__ and result.background is None:
                return result.status_code, result.raw_headers, bytes(result.body)
            return await self._run_app(result, call[1], scope, body)
        if is_stream(result) or hasattr(result, "__anext__"):
            return await self._run_app(self._streaming(result), call[1], scope, body)
        return answer_of(result)

    async def serve(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """One request of a connection that this process has itself: answered as it goes."""
        if self._app is not None:
            await self._app(scope, receive, send)
            return
        args: tuple = (Request(scope, receive),) if self._takes_request else ()
        result = await self._user.call("__call__", args, {})
        if isinstance(result, Response):
            await result(scope, receive, send)
        elif is_stream(result) or hasattr(result, "__anext__"):
            await self._streaming(result)(scope, receive, send)
        else:
            status, headers, body = answer_of(result)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def _streaming(self, generator: Any) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            async for item in self._user.items(generator):
                yield item if isinstance(item, bytes) else item.encode() if isinstance(item, str) else to_json(item)

        return StreamingResponse(pieces(), media_type="text/plain")

    async def _run_app(self, app: Any, name: str, scope: dict[str, Any], body: bytes) -> Answer | str:
        """Run an ASGI application until its answer is whole, or turns out to be a stream."""
        loop = asyncio.get_running_loop()
        session = Session()
        decided: asyncio.Future[bool] = loop.create_future()
        start: list[dict[str, Any]] = []
        whole: list[bytes] = []
        body_sent = False

        async def receive() -> dict[str, Any]:
            nonlocal body_sent
            if not body_sent:
                body_sent = True
                return {"type": "http.request", "body": body, "more_body": False}
            return await session.incoming.get()

        async def send(message: dict[str, Any]) -> None:
            kind = message["type"]
            if decided.done():
                session.push(message)
            elif kind == "http.response.start":
                start.append(message)
            elif kind == "http.response.body":
                if message.get("more_body"):
                    session.push(start[0])
                    session.push(message)
                    decided.set_result(False)
                else:
                    whole.append(message.get("body", b""))
                    decided.set_result(True)

        async def run() -> None:
            error: BaseException | None = None
            try:
                await app(scope, receive, send)
            except BaseException as raised:
                error = raised
                raise
            finally:
                if not decided.done():
                    if error is None:
                        error = RuntimeError("The ASGI application ended without an answer.")
                    if isinstance(error, asyncio.CancelledError):
                        decided.cancel()
                    else:
                        decided.set_exception(error)
                session.end(error if not whole else None)

        scope.setdefault("asgi", {"version": "3.0", "spec_version": "2.3"})
        task = session.task = loop.create_task(run())
        task.add_done_callback(_take_exception)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        try:
            is_whole = await decided
        except asyncio.CancelledError:
            task.cancel()
            raise
        if is_whole:
            return start[0]["status"], [tuple(pair) for pair in start[0].get("headers", ())], bytes(whole[0])
        self._sessions[name] = session
        loop.call_later(UNREAD_S, self._forget_unread, name)
        return name

    def _forget_unread(self, name: str) -> None:
        session = self._sessions.get(name)
        if session is not None:
            self._close(name, session)
            self._replica._leave()

    async def stream(self, name: str) -> AsyncIterator[list[dict[str, Any]]]:
        """The messages of a stream, from its start on."""
        session = self._sessions.pop(name, None)
        if session is None:
            return
        self._sessions[f"{name}/open"] = session
        try:
            async for batch in session.messages():
                yield batch
        finally:
            self._close(f"{name}/open", session)
            self._replica._leave()

    def _close(self, name: str, session: Session) -> None:
        self._sessions.pop(name, None)
        if session.task is not None and not session.task.done():
            session.incoming.put_nowait({"type": "http.disconnect"})
            session.task.cancel()

    def client_event(self, name: str, message: dict[str, Any]) -> None:
        """A client's message on a WebSocket, or its going away."""
        session = self._sessions.get(f"{name}/open") or self._sessions.get(name)
        if session is None:
            if message["type"] != "websocket.connect":
                return
            session = self._sessions[name] = Session()
        session.incoming.put_nowait(message)
        if message["type"] == "http.disconnect" and session.task is not None:
            session.task.cancel()

    # WebSockets

    async def websocket(self, call: tuple, scope: dict[str, Any]) -> AsyncIterator[list[dict[str, Any]]]:
        """What the application sends, until it ends."""
        name = call[1]
        session = self._sessions.setdefault(name, Session())
        app = self._app
        if app is None:
            yield [{"type": "websocket.close", "code": 1003, "reason": "This deployment takes no WebSockets."}]
            return

        async def send(message: dict[str, Any]) -> None:
            session.push(message)

        async def run() -> None:
            error: BaseException | None = None
            try:
                await app(scope, session.incoming.get, send)
            except BaseException as raised:
                error = raised
                raise
            finally:
                session.end(error)

        scope.setdefault("asgi", {"version": "3.0", "spec_version": "2.3"})
        session.task = asyncio.get_running_loop().create_task(run())
        session.task.add_done_callback(_take_exception)
        try:
            async for batch in session.messages():
                yield batch
        finally:
            self._sessions.pop(name, None)
            session.task.cancel()


class _Body:
    """ASGI receive for a body that is all there."""

    __slots__ = ("_body", "_is_sent")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._is_sent = False

    async def __call__(self) -> dict[str, Any]:
        if self._is_sent:
            await asyncio.Event().wait()
        self._is_sent = True
        return {"type": "http.request", "body": self._body, "more_body": False}


def answer_of(result: Any, status: int = 200) -> Answer:
    """What a returned value is in HTTP: text, bytes, or JSON."""
    if result is None:
        body, content_type = b"", b"text/plain"
    elif isinstance(result, bytes):
        body, content_type = result, b"text/plain"
    elif isinstance(result, str):
        body, content_type = result.encode(), b"text/plain; charset=utf-8"
    else:
        body, content_type = to_json(result), b"application/json"
    return status, [(b"content-type", content_type), (b"content-length", str(len(body)).encode())], body


def _take_exception(task: asyncio.Task[Any]) -> None:
    """Errors after the answer reach the log; those before it were the answer."""
    if not task.cancelled() and task.exception() is not None:
        logger.debug("An ASGI application raised %r", task.exception())
