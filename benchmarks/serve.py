"""Serve benchmark: raybook's Serve, Ray's, and FastAPI on uvicorn alone, in one run, by a load of another process.

Rows: requests a second, p50 and p99 at 1, 16 and 256 keep-alive connections, for a plain deployment and a FastAPI one; the
time from ``serve.run`` to the first answer; handle calls a second, one after the other and 100 at a time. Only the ratios
mean something beyond this machine and this hour.

Usage: ``python benchmarks/serve.py`` (2 minutes), ``--seconds 1 --connections 1 16`` for a look, ``--no-ray``,
``--ray-python PATH``, ``--json FILE``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import peer_env
from machine import machine_line

HERE = Path(__file__).resolve().parent
LOAD = HERE / "serve_load.py"
SERVER = HERE / "serve_engine.py"
FASTAPI = "plain FastAPI"
CONNECTIONS = (1, 16, 256)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Engine:
    """A server process; it prints one JSON line once it answers, and lives until its input ends."""

    def __init__(self, python: Path, name: str) -> None:
        self.name = name
        self.port = free_port()
        self._process = subprocess.Popen(
            [python, SERVER, name, str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        while True:
            line = self._process.stdout.readline()
            if not line:
                raise RuntimeError(f"The {name} server did not start.")
            if line.startswith("{"):
                self.facts: dict[str, float] = json.loads(line)
                return

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)


def load(url: str, connections: int, seconds: float) -> dict[str, float]:
    asked = subprocess.run(
        [sys.executable, LOAD, url, str(connections), str(seconds)], capture_output=True, text=True, check=True
    )
    return json.loads(asked.stdout)


def measure(engine: Engine, connections: list[int], seconds: float) -> dict[str, dict[str, float]]:
    rows = {}
    for path in ("/plain", "/fastapi/"):
        if path == "/plain" and engine.name == "uvicorn":
            continue
        for count in connections:
            rows[f"{path.strip('/')}, {count} connections"] = load(
                f"http://127.0.0.1:{engine.port}{path}", count, seconds
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, nargs="+", default=list(CONNECTIONS))
    parser.add_argument("--no-ray", action="store_true")
    parser.add_argument("--ray-python", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    engines = {"raybook": Path(sys.executable), "uvicorn": Path(sys.executable)}
    if not options.no_ray:
        engines["ray"] = peer_env.check(options.ray_python) if options.ray_python else peer_env.ensure()
    found: dict[str, dict] = {}
    for name, python in engines.items():
        engine = Engine(python, name)
        try:
            found[name] = {**measure(engine, options.connections, options.seconds), "facts": engine.facts}
        finally:
            engine.close()
        time.sleep(0.5)
    print(machine_line())
    for name, rows in found.items():
        facts = rows.pop("facts")
        print(f"\n{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in facts.items()))
        for row, figures in rows.items():
            line = f"  {row:<28}{figures['requests_per_s']:9.0f} requests/s   p50 {figures['p50_ms']:7.2f} ms"
            line += f"   p99 {figures['p99_ms']:7.2f} ms   failed {figures['failed']}"
            for peer in found:
                other = found[peer].get(row)
                if peer != name and name == "raybook" and other:
                    rate = figures["requests_per_s"] / other["requests_per_s"]
                    line += f"   {rate:.2f} × {FASTAPI if peer == 'uvicorn' else 'Ray'}"
            print(line)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
