"""Serve engine: one server for `serve.py`: raybook, ray, or uvicorn alone. Prints its facts once it answers; ends with its
input. Usage: ``python serve_engine.py NAME PORT``."""

from __future__ import annotations

import json
import sys
import time
import urllib.request

NAME, PORT = sys.argv[1], int(sys.argv[2])
CALLS = 1000


def run_uvicorn() -> None:
    import threading

    import uvicorn
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/fastapi/")
    async def answer() -> str:
        return "hello"

    config = uvicorn.Config(app, port=PORT, log_level="error", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    print(json.dumps({}), flush=True)
    sys.stdin.read()


def run_serve() -> None:
    if NAME == "ray":
        import ray
        from ray import serve
    else:
        import raybook as ray
        from raybook import serve
    from fastapi import FastAPI

    ray.init(num_cpus=4)
    app = FastAPI()

    @serve.deployment(max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0})
    class Plain:
        async def __call__(self, request):
            return "hello"

        async def echo(self, value):
            return value

    @serve.deployment(max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0})
    @serve.ingress(app)
    class Api:
        @app.get("/")
        async def answer(self) -> str:
            return "hello"

    start_s = time.perf_counter()
    serve.start(http_options={"port": PORT})
    handle = serve.run(Plain.bind(), name="plain", route_prefix="/plain")
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/plain") as answer:
        answer.read()
    facts = {"first answer s": time.perf_counter() - start_s}
    serve.run(Api.bind(), name="api", route_prefix="/fastapi")
    for _ in range(100):
        handle.echo.remote(1).result()
    start_s = time.perf_counter()
    for _ in range(CALLS):
        handle.echo.remote(1).result()
    facts["handle calls/s, one by one"] = CALLS / (time.perf_counter() - start_s)
    start_s = time.perf_counter()
    for _ in range(CALLS // 100):
        for response in [handle.echo.remote(1) for _ in range(100)]:
            response.result()
    facts["handle calls/s, 100 at a time"] = CALLS / (time.perf_counter() - start_s)
    print(json.dumps(facts), flush=True)
    sys.stdin.read()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    run_uvicorn() if NAME == "uvicorn" else run_serve()
