"""Serve soak: minutes of constant load while replicas are killed and versions are replaced: which requests fail?

Keep-alive connections of another process (`serve_load.py`) ask a deployment of three replicas. In turns, a new version is
deployed (three times in all), or one replica is killed with SIGKILL every 10 seconds. Allowed are failures of requests that
a killed replica had; none may fail around an upgrade. With ``--sweep`` a Tune sweep keeps the other CPUs busy, and p99 is
what counts.

Usage: ``python benchmarks/serve_soak.py`` (10 minutes), ``--minutes 0.5`` for a look, ``--kill-every 3``,
``--no-kills``, ``--sweep``, ``--json FILE``. Exit 1 when a request failed that may not.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from machine import machine_line
from serve import free_port

import raybook
from raybook import serve

LOAD = Path(__file__).resolve().parent / "serve_load.py"
KILL_EVERY_S = 10.0
UPGRADES = 3
REPLICAS = 3
CONNECTIONS = 8
IN_FLIGHT_MAX = CONNECTIONS
"""What one replica can have when it is killed: a request of each connection."""


def version(word: str) -> Any:
    @serve.deployment(name="model", num_replicas=REPLICAS, ray_actor_options={"num_cpus": 0.1})
    class Model:
        async def __call__(self, request: Any) -> str:
            return word

    return Model.bind()


def replicas() -> list[dict[str, Any]]:
    rows = serve.details()["applications"]["default"]["deployments"]["model"]["replicas"]
    return [row for row in rows if row["state"] == "RUNNING" and row["pid"]]


def load_for(url: str, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, LOAD, url, str(CONNECTIONS), str(seconds)], stdout=subprocess.PIPE, text=True
    )


def busy_sweep(seconds: float) -> Any:
    """A Tune sweep in a task of its own, on the CPUs that Serve leaves."""

    @raybook.remote(num_cpus=0)
    def sweep() -> int:
        from raybook import tune

        end_s = time.monotonic() + seconds

        def trial(config: dict[str, Any]) -> None:
            while time.monotonic() < end_s:
                tune.report({"score": sum(number * config["a"] for number in range(100_000))})

        space = {"a": tune.uniform(0, 1)}
        tuned = tune.Tuner(trial, param_space=space, tune_config=tune.TuneConfig(num_samples=8))
        return len(tuned.fit())

    return sweep.remote()


def phase(url: str, seconds: float, kill_every_s: float | None, number: int) -> dict[str, Any]:
    """One stretch of load with kills, and an upgrade in its middle without."""
    load = load_for(url, seconds)
    end_s, killed, upgraded = time.monotonic() + seconds, 0, False
    kills = kill_every_s is not None
    next_kill_s = time.monotonic() + (kill_every_s or 0.0)
    while load.poll() is None and time.monotonic() < end_s + 60:
        time.sleep(0.1)
        if kills and time.monotonic() >= next_kill_s and time.monotonic() < end_s - 1:
            next_kill_s += kill_every_s or 0.0
            running = replicas()
            if len(running) == REPLICAS:
                os.kill(running[0]["pid"], signal.SIGKILL)
                killed += 1
        if not kills and not upgraded and time.monotonic() > end_s - seconds * 0.7:
            upgraded = True
            serve.run(version(f"version {number}"))
    assert load.stdout is not None
    return {**json.loads(load.stdout.read()), "killed": killed, "upgraded": upgraded}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--kill-every", type=float, default=KILL_EVERY_S, metavar="SECONDS")
    parser.add_argument("--no-kills", action="store_true")
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    raybook.init(num_cpus=4, log_to_driver=False)
    port = free_port()
    serve.start(http_options={"port": port})
    serve.run(version("version 0"))
    seconds = options.minutes * 60 / (2 * UPGRADES)
    sweep = busy_sweep(options.minutes * 60) if options.sweep else None
    found = []
    print(machine_line())
    for number in range(1, UPGRADES + 1):
        for kills in (False, True):
            if kills and options.no_kills:
                continue
            row = phase(f"http://127.0.0.1:{port}/", seconds, options.kill_every if kills else None, number)
            row["allowed"] = row["killed"] * IN_FLIGHT_MAX
            found.append(row)
            what = f"{row['killed']} kills" if kills else "an upgrade"
            print(
                f"{what:<12}{row['requests']:>9} requests   p50 {row['p50_ms']:7.2f} ms   p99 {row['p99_ms']:8.2f} ms   "
                f"failed {row['failed']} (at most {row['allowed']})   {' '.join(row['failures'][:2])}",
                flush=True,
            )
    if sweep is not None:
        raybook.cancel(sweep, force=True)
    serve.shutdown()
    raybook.shutdown()
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return int(any(row["failed"] > row["allowed"] for row in found))


if __name__ == "__main__":
    sys.exit(main())
