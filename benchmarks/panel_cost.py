"""Panel cost: processor time of a kernel's threads while a sweep runs in it, without and with its panels under cells.

A real ipykernel and a real cluster of two CPUs; the sweep's trials report ten times a second each. Read from
/proc/self/task/*/schedstat over the same seconds of the same sweep: the thread that feeds the panels ("raybook-ui"), and the
whole kernel. "no panel" has RAYBOOK_AUTO_PANELS=0, "panels" the overview of the cluster and the sweep's own table. Expected:
four ticks a second of 1 to 3 ms each, 0.5 to 1.5 % of one core; nothing without a panel. Goal: under 2 %.

Usage: ``python benchmarks/panel_cost.py [--seconds 15] [--trials 8]``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from queue import Empty

from machine import machine_line

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.kernel.kernel_process import KernelProcess  # noqa: E402

PREPARE = """
import glob, threading, time
import raybook as ray
from raybook import tune
{cluster}

def thread_s():
    names = {{thread.native_id: thread.name for thread in threading.enumerate()}}
    seconds = {{}}
    for path in glob.glob("/proc/self/task/*/schedstat"):
        name = names.get(int(path.split("/")[4]), "other")
        seconds[name] = seconds.get(name, 0.0) + int(open(path).read().split()[0]) / 1e9
    return seconds

def trainable(config):
    end = time.monotonic() + {seconds} + 6
    step = 0
    while time.monotonic() < end:
        step += 1
        tune.report({{"loss": config["x"] / step, "step": step}})
        time.sleep(0.1)

figures = {{}}
def measure():
    time.sleep(4)
    before = thread_s()
    time.sleep({seconds})
    after = thread_s()
    figures.update({{name: (after[name] - before.get(name, 0.0)) / {seconds} for name in after}})
"""
SWEEP = """
measuring = threading.Thread(target=measure, name="measure")
measuring.start()
small = tune.with_resources(trainable, {{"CPU": 2 / {trials}}})
tune.Tuner(
    small,
    param_space={{"x": tune.uniform(0, 1)}},
    tune_config=tune.TuneConfig(num_samples={trials}, metric="loss", mode="min"),
    run_config=tune.RunConfig(name="cost", storage_path={folder!r}, verbose=0),
).fit()
measuring.join()
"""


def shares(panels: bool, seconds: float, trials: int) -> dict[str, float]:
    """Of one core, by thread's name, while the sweep runs in a cell."""
    cluster = "%ray_cluster start --cpus 2" if panels else "ray.init(num_cpus=2);"
    environment = {} if panels else {"RAYBOOK_AUTO_PANELS": "0"}
    with tempfile.TemporaryDirectory() as home, KernelProcess(Path(home), **environment) as kernel:
        prepared = kernel.run(PREPARE.format(cluster=cluster, seconds=seconds))
        assert prepared.status == "ok", prepared.error
        shown: list[str] = []

        def note(message: dict) -> None:
            if message["msg_type"] == "comm_msg":
                shown.append(message["content"]["comm_id"])

        cell = kernel.begin(SWEEP.format(trials=trials, folder=f"{home}/runs"))
        end = time.monotonic() + seconds * 3 + 60
        while True:
            try:
                done = kernel.wait(cell, note)
                break
            except (TimeoutError, Empty):
                assert time.monotonic() < end, "The sweep has not ended."
        assert done.status == "ok", done.error or done.text
        figures = kernel.value("figures")
        figures["messages/s"] = len(shown) / seconds
        kernel.run("ray.shutdown()")
        return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--trials", type=int, default=8)
    options = parser.parse_args()
    print(machine_line())
    for panels in (False, True):
        found = shares(panels, options.seconds, options.trials)
        messages = found.pop("messages/s")
        total = sum(found.values())
        most = sorted(found.items(), key=lambda item: -item[1])[:5]
        print(
            f"{'panels' if panels else 'no panel':10} raybook-ui {found.get('raybook-ui', 0.0):.2%} of a core, kernel "
            f"{total:.2%}; {messages:.1f} messages/s; most: " + ", ".join(f"{name} {share:.2%}" for name, share in most)
        )


if __name__ == "__main__":
    main()
