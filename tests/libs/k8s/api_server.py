"""An API server of Kubernetes for tests: kmock's emulator, in a thread of its own, with a kubeconfig that points at it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

kmock = pytest.importorskip("kmock", reason="The fake API server is the package kmock, which is not installed.")
KINDS = ("rayclusters", "rayjobs", "rayservices", "raycronjobs")


class Server:
    """The server's side. Its objects are touched in its thread only: ``run`` goes there and waits."""

    def __init__(self, emulator: Any, loop: asyncio.AbstractEventLoop, kubeconfig: Path) -> None:
        self.emulator = emulator
        self.kubeconfig = kubeconfig
        self._loop = loop

    def run(self, act: Callable[[], Any]) -> Any:
        async def in_loop() -> Any:
            return act()

        return asyncio.run_coroutine_threadsafe(in_loop(), self._loop).result(10)

    def refuse(self, pattern: str, status: int, message: str = "no", times: int = 10**6) -> None:
        """Answer so many requests that match ("patch /apis/...") with an error."""
        payload = {"kind": "Status", "status": "Failure", "message": message, "code": status}
        self.run(lambda: self.emulator[pattern][:times] ** 100 << status << payload)

    def put(self, resource: str, name: str, thing: dict[str, Any], namespace: str = "default") -> None:
        """Have an object, or let one have these fields."""

        def act() -> None:
            key = (kmock.resource(resource), namespace, name)
            if key in self.emulator.objects and not self.emulator.objects[key].deleted:
                self.emulator.objects[key].patch(thing)
            else:
                labels = {"metadata": {"name": name, "namespace": namespace, **thing.get("metadata", {})}}
                self.emulator.objects[key] = {**thing, **labels}

        self.run(act)

    def get(self, resource: str, name: str, namespace: str = "default") -> dict[str, Any] | None:
        """The object; None when it is not there."""

        def act() -> Any:
            key = (kmock.resource(resource), namespace, name)
            found = self.emulator.objects[key] if key in self.emulator.objects else None
            return None if found is None or found.deleted else found.raw

        return self.run(act)

    def requests(self, method: str, part: str) -> int:
        """How often that was asked."""

        def count() -> int:
            return sum(one.method.value.lower() == method and part in one.url.path for one in self.emulator)

        return self.run(count)


@contextmanager
def api_server(folder: Path, has_kuberay: bool = True) -> Iterator[Server]:
    ready: list[Any] = []
    started, ends = threading.Event(), threading.Event()

    async def serve() -> None:
        async with kmock.KubernetesEmulator() as emulator, kmock.Server(emulator) as server:
            for plural in KINDS if has_kuberay else ():
                emulator.resources[f"ray.io/v1/{plural}"] = kmock.ResourceInfo(namespaced=True)
            for plural in ("pods", "configmaps", "secrets"):
                emulator.resources[f"v1/{plural}"] = kmock.ResourceInfo(namespaced=True)
            ready.extend([emulator, asyncio.get_running_loop(), str(server.url)])
            started.set()
            await asyncio.to_thread(ends.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert started.wait(10), "the fake API server did not start"
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": ready[2].rstrip("/")}}],
        "users": [{"name": "test", "user": {"token": "secret"}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }  # fmt: skip
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    try:
        yield Server(ready[0], ready[1], kubeconfig)
    finally:
        ends.set()
        thread.join(10)
