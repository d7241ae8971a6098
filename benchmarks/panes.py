"""Panes: what looking at a cluster through the Jupyter server costs, in processor time of each process.

A driver submits a steady stream of tasks, as a sweep with chatty trials would; CPU time is read from /proc over the same
seconds, first with no page open, then with one that has the panes asked for. Expected with a pane: four polls a second of
0.3 ms in the head, 1 to 3 ms each in the server for rows that changed: 1 to 2 % of one core.

Usage: ``python benchmarks/panes.py [--seconds 8] [--rate 50] [--panels tasks overview]``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from machine import machine_line
from tornado.websocket import websocket_connect

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import raybook as ray  # noqa: E402
from raybook.observe import find_cluster  # noqa: E402
from tests.jupyter_process import JupyterProcess  # noqa: E402


@ray.remote
def step(seconds: float) -> None:
    time.sleep(seconds)


def submit(rate: float, stopping: threading.Event) -> None:
    """``rate`` tasks a second, each a fifth of a second long, until told to stop."""
    refs = []
    while not stopping.wait(1 / rate):
        refs.append(step.options(num_cpus=0.01).remote(0.2))
        del refs[:-200]


def cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


async def watched(jupyter: JupyterProcess, cluster: str, panels: list[str], seconds: float) -> tuple[int, int]:
    """(messages, bytes) that a page with these panels gets meanwhile."""
    if not panels:
        await asyncio.sleep(seconds)
        return 0, 0
    socket = await websocket_connect(f"{jupyter.url.replace('http', 'ws')}raybook/ws?token={jupyter.token}")
    for number, panel in enumerate(panels):
        await socket.write_message(json.dumps({"op": "subscribe", "sub": number, "cluster": cluster, "panel": panel}))
    count = size = 0
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            text = await asyncio.wait_for(socket.read_message(), left)
        except asyncio.TimeoutError:
            break
        count, size = count + 1, size + len(text or "")
    socket.close()
    return count, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--panels", nargs="*", default=["tasks", "overview"])
    options = parser.parse_args()
    print(machine_line())
    with tempfile.TemporaryDirectory() as home, JupyterProcess(Path(home)) as jupyter:
        os.environ["RAYBOOK_REGISTRY_DIR"] = str(jupyter.registry)
        ray.init(num_cpus=2, name="panes")
        while (record := find_cluster("panes")) is None or not record.address:
            time.sleep(0.05)
        stopping = threading.Event()
        work = threading.Thread(target=submit, args=(options.rate, stopping))
        work.start()
        server = next(
            process.pid for process in psutil.Process().children() if "jupyter" in " ".join(process.cmdline())
        )
        pids = {"server": server, "head": record.head_pid, "driver": os.getpid()}
        time.sleep(3.0)
        for panels in ([], options.panels):
            before = {name: cpu_seconds(pid) for name, pid in pids.items()}
            count, size = asyncio.run(watched(jupyter, record.cluster_id, panels, options.seconds))
            shares = {name: (cpu_seconds(pid) - before[name]) / options.seconds for name, pid in pids.items()}
            words = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
            shown = "+".join(panels) or "no page"
            rates = f"{count / options.seconds:.1f} messages/s, {size / options.seconds / 1000:.1f} kB/s"
            print(f"{shown:20} {words} of a core; {rates}")
            time.sleep(3.0)
        stopping.set()
        work.join()
        ray.shutdown()


if __name__ == "__main__":
    main()
