"""Deployments over HTTP, on a real cluster."""

from __future__ import annotations

import asyncio
import json
import socket

import httpx
import pytest
from fastapi import FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from pydantic import BaseModel
from websockets.sync.client import connect

import raybook
from raybook import serve
from raybook.serve.exceptions import RayServeException

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("apps")]


class Item(BaseModel):
    name: str
    price: float = 1.0


def test_what_is_returned_becomes_an_answer(url):
    from starlette.responses import HTMLResponse

    @serve.deployment
    class Returns:
        async def __call__(self, request):
            kind = request.query_params["kind"]
            return {
                "text": "words",
                "bytes": b"\x00\x01",
                "json": {"a": [1, 2.5, None]},
                "none": None,
                "html": HTMLResponse("<b>", status_code=201, headers={"x-own": "yes"}),
            }[kind]

    serve.run(Returns.bind())
    with httpx.Client(base_url=url) as client:
        text = client.get("/", params={"kind": "text"})
        assert (text.status_code, text.text) == (200, "words")
        assert text.headers["content-type"] == "text/plain; charset=utf-8"
        assert client.get("/", params={"kind": "bytes"}).content == b"\x00\x01"
        found = client.get("/any/path", params={"kind": "json"})
        assert found.json() == {"a": [1, 2.5, None]}
        assert found.headers["content-type"] == "application/json"
        assert client.get("/", params={"kind": "none"}).content == b""
        html = client.get("/", params={"kind": "html"})
        assert (html.status_code, html.text, html.headers["x-own"]) == (201, "<b>", "yes")
        named = client.get("/", params={"kind": "text"}, headers={"x-request-id": "mine"})
        assert named.headers["x-request-id"] == "mine"
        failed = client.get("/", params={"kind": "unknown"})
        assert (failed.status_code, failed.text) == (500, "Internal Server Error")


def test_requests_arrive_as_starlettes(url):
    @serve.deployment
    class Echo:
        async def __call__(self, request):
            return {
                "method": request.method,
                "path": request.url.path,
                "json": await request.json(),
                "header": request.headers["x-mine"],
            }

    serve.run(Echo.bind(), route_prefix="/echo")
    answer = httpx.post(f"{url}/echo/deep", json={"n": 1}, headers={"x-mine": "h"}).json()
    assert answer == {"method": "POST", "path": "/echo/deep", "json": {"n": 1}, "header": "h"}
    large = b'{"x": "' + b"y" * 3_000_000 + b'"}'
    assert len(httpx.post(f"{url}/echo", content=large, headers={"x-mine": "h"}).json()["json"]["x"]) == 3_000_000


def test_the_longest_prefix_answers_and_other_paths_are_404(url):
    @serve.deployment
    def outer() -> str:
        return "outer"

    @serve.deployment
    def inner() -> str:
        return "inner"

    serve.run(outer.bind(), name="outer", route_prefix="/a")
    serve.run(inner.bind(), name="inner", route_prefix="/a/b")
    assert httpx.get(f"{url}/a/x").text == "outer"
    assert httpx.get(f"{url}/a/b/c").text == "inner"
    assert httpx.get(f"{url}/a/bc").text == "outer"
    missing = httpx.get(f"{url}/z")
    assert missing.status_code == 404
    assert missing.text == "Path '/z' not found. Ping http://.../-/routes for available routes."
    assert httpx.get(f"{url}/-/routes").json() == {"/a": "outer", "/a/b": "inner"}
    assert httpx.get(f"{url}/-/healthz").text == "success"
    with pytest.raises(ValueError, match="Prefix /a is being used by application"):
        serve.run(inner.bind(), name="third", route_prefix="/a")
    serve.delete("outer")
    assert httpx.get(f"{url}/a/x").status_code == 404


def test_a_fastapi_class_answers_with_its_state_and_its_documentation(url):
    app = FastAPI()

    @serve.deployment
    @serve.ingress(app)
    class Shop:
        def __init__(self, factor: float) -> None:
            self.factor = factor

        @app.get("/items/{number}")
        def read(self, number: int, extra: str = "") -> dict:
            return {"number": number * self.factor, "extra": extra}

        @app.post("/items")
        async def make(self, item: Item) -> Item:
            return Item(name=item.name, price=item.price * self.factor)

        @app.get("/missing")
        def missing(self):
            raise HTTPException(status_code=418, detail="teapot")

        @app.get("/broken")
        def broken(self):
            raise RuntimeError("inside")

        def helper(self) -> str:
            return "by handle"

    @app.get("/free")
    def free() -> str:
        return "free"

    handle = serve.run(Shop.bind(2), route_prefix="/shop")
    with httpx.Client(base_url=url) as client:
        assert client.get("/shop/items/4", params={"extra": "e"}).json() == {"number": 8, "extra": "e"}
        assert client.post("/shop/items", json={"name": "n", "price": 2}).json() == {"name": "n", "price": 4}
        assert client.post("/shop/items", json={"price": 2}).status_code == 422
        assert client.get("/shop/missing").status_code == 418
        assert client.get("/shop/broken").status_code == 500
        assert client.get("/shop/nowhere").status_code == 404
        assert client.get("/shop/openapi.json").json()["paths"].keys() >= {"/items", "/items/{number}"}
        assert "swagger" in client.get("/shop/docs").text.lower()
    assert handle.helper.remote().result() == "by handle"


def test_plain_asgi_applications_and_builders_are_served(url):
    async def plain(scope, receive, send):
        assert scope["type"] == "http"
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 202, "headers": [(b"x-asgi", b"1")]})
        await send({"type": "http.response.body", "body": scope["path"].encode() + body})

    class Plain:
        async def __call__(self, scope, receive, send):
            await plain(scope, receive, send)

    def build():
        app = FastAPI()

        @app.get("/built")
        def built():
            return "built"

        return app

    serve.run(serve.deployment(serve.ingress(Plain())()).bind(), name="plain", route_prefix="/plain")
    serve.run(serve.deployment(serve.ingress(build)()).options(name="b").bind(), name="b", route_prefix="/b")
    answer = httpx.post(f"{url}/plain/x", content=b"!")
    assert (answer.status_code, answer.text, answer.headers["x-asgi"]) == (202, "/plain/x!", "1")
    assert httpx.get(f"{url}/b/built").json() == "built"


def test_streams_arrive_piece_by_piece_and_end_when_the_client_goes(url, make_gate):
    from starlette.responses import StreamingResponse

    gate, ended = make_gate(), make_gate()

    @serve.deployment
    class Streams:
        async def __call__(self, request):
            if "plain" in request.query_params:
                return self.plain()
            return StreamingResponse(self.pieces(), media_type="text/event-stream", status_code=206)

        def plain(self):
            yield "a"
            yield b"b"

        async def pieces(self):
            try:
                yield "first\n"
                await gate.wait.remote()
                yield "second\n"
                await asyncio.sleep(600)
            finally:
                await ended.open.remote()

    serve.run(Streams.bind())
    assert httpx.get(f"{url}/?plain=1").text == "ab"
    with httpx.stream("GET", url) as response:
        assert response.status_code == 206
        pieces = response.iter_lines()
        assert next(pieces) == "first"
        raybook.get(gate.open.remote())
        assert next(pieces) == "second"
    raybook.get(ended.wait.remote(), timeout=60)


def test_a_client_that_goes_cancels_its_request(url, make_gate):
    begun, ended = make_gate(), make_gate()

    @serve.deployment
    class Slow:
        async def __call__(self, request):
            try:
                await begun.open.remote()
                await asyncio.sleep(600)
            finally:
                await ended.open.remote()

    serve.run(Slow.bind())
    with socket.create_connection(url.removeprefix("http://").split(":")) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        raybook.get(begun.wait.remote(), timeout=60)
    raybook.get(ended.wait.remote(), timeout=60)


def test_websockets_speak_both_ways(url):
    app = FastAPI()

    @serve.deployment
    @serve.ingress(app)
    class Chat:
        def __init__(self) -> None:
            self.gone = 0

        @app.websocket("/ws")
        async def talk(self, socket: WebSocket):
            await socket.accept()
            try:
                while True:
                    await socket.send_text("you said " + await socket.receive_text())
            except WebSocketDisconnect:
                self.gone += 1

        @app.get("/gone")
        def count(self) -> int:
            return self.gone

    serve.run(Chat.bind())
    with connect(url.replace("http", "ws") + "/ws") as client:
        for word in ("one", "two"):
            client.send(word)
            assert client.recv(timeout=60) == f"you said {word}"
    while httpx.get(f"{url}/gone").json() != 1:
        pass


def test_a_request_over_its_time_is_408_and_cancelled(url, eventually):
    @serve.deployment
    class Slow:
        def __init__(self) -> None:
            self.begun = self.ended = 0

        async def __call__(self, request):
            self.begun += 1
            try:
                await asyncio.sleep(600)
            finally:
                self.ended += 1

        async def counts(self) -> tuple[int, int]:
            return self.begun, self.ended

    handle = serve.run(Slow.bind())
    for limit_s in ("0.1", "1.0", "10.0"):
        headers = {"x-request-timeout-seconds": limit_s, "x-request-id": "r1"}
        answer = httpx.get(url, headers=headers, timeout=60)
        assert (answer.status_code, answer.text) == (408, f"Request r1 timed out after {limit_s}s.")
        if handle.counts.remote().result()[0]:
            break  # Else its time was over before the replica had it: nothing of it could be cancelled there.
    eventually(lambda: (counts := handle.counts.remote().result())[0] == counts[1] > 0)


def test_a_full_queue_is_503_or_what_was_chosen(url, make_gate):
    gate, begun = make_gate(), make_gate()

    @serve.deployment(
        max_ongoing_requests=1, max_queued_requests=1, backpressure_config={"status_code": 429, "retry_after_s": 1.2}
    )
    class Full:
        async def __call__(self):
            await begun.open.remote()
            await gate.wait.remote()
            return "done"

    serve.run(Full.bind())

    async def crowd():
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            first = asyncio.create_task(client.get("/"))
            await begun.wait.remote()
            # Each has a connection of its own: any of them may be the one that finds room in the queue.
            others = asyncio.as_completed([client.get("/") for _ in range(4)])
            refused = [await next(others) for _ in range(3)]
            await gate.open.remote()
            return await first, await next(others), refused

    first, queued, refused = asyncio.run(crowd())
    assert (first.status_code, queued.status_code) == (200, 200)
    assert [answer.status_code for answer in refused] == [429, 429, 429]
    answer = refused[0]
    assert answer.headers["retry-after"] == "2"
    assert "max_queued_requests=1" in answer.text


def test_malformed_requests_are_400_and_disturb_nobody(url):
    @serve.deployment
    def fine() -> str:
        return "fine"

    serve.run(fine.bind())
    with socket.create_connection(url.removeprefix("http://").split(":")) as client:
        client.sendall(b"\x16\x03\x01 not http\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 400")
    assert httpx.get(url).text == "fine"


def test_a_busy_port_is_a_clear_error():
    from raybook.serve.http_listener import bind

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(
            RayServeException, match=rf"cannot listen on 127.0.0.1:{port}.*Another program has the port"
        ):
            bind("127.0.0.1", port, is_first=True)


def test_numbers_of_numpy_and_models_of_pydantic_have_a_form_in_json():
    import numpy

    from raybook.serve.asgi_json import to_json

    class Point(BaseModel):
        x: int

    value = {"array": numpy.arange(3), "number": numpy.float32(0.5), "point": Point(x=1), "set": [1]}
    assert json.loads(to_json(value)) == {"array": [0, 1, 2], "number": 0.5, "point": {"x": 1}, "set": [1]}
    with pytest.raises(TypeError, match="has no form in JSON"):
        to_json(object())
