"""Sweeps beside Ray's: 40 trivial trials from a fresh interpreter, and what a trial costs in a sweep of 200.

    python benchmarks/tune.py                  raybook and Ray 2.60 (with its Tune, in a venv of its own), one run
    python benchmarks/tune.py --no-ray         raybook alone
    python benchmarks/tune.py --trials 40 200 --repeats 3

Arithmetic before: a trial is one actor (a fork, about 10 ms with its registration), one report (a round trip and a line
in two files, about 1 ms) and its end; 40 on two CPUs should take about half a second, and 200 about 10 ms each.
What is measured: seconds from before `init` until `fit` has returned, the sweep alone, and (sweep - user's code) / trials,
where the user's code is one report. Each figure comes from an interpreter of its own; engines take turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import peer_env
from machine import machine_line

PROGRAM = """
import json, os, sys, time
started = time.perf_counter()
engine, trials, folder, reuse = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4] == "reuse"
os.environ.setdefault("RAYBOOK_NONINTERACTIVE", "1")
if engine == "ray":
    import ray
    from ray import tune
    init = dict(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
else:
    import raybook as ray
    from raybook import tune
    init = dict(num_cpus=2)
ray.init(**init)

def trial(config):
    tune.report({"score": config["x"] ** 2})

ready = time.perf_counter()
grid = tune.Tuner(
    trial,
    param_space={"x": tune.uniform(-1, 1)},
    tune_config=tune.TuneConfig(metric="score", mode="min", num_samples=trials, reuse_actors=reuse),
    run_config=tune.RunConfig(name="sweep", storage_path=folder, verbose=0),
).fit()
ended = time.perf_counter()
assert len(grid) == trials and not grid.errors
ray.shutdown()
print(json.dumps({"whole_s": ended - started, "sweep_s": ended - ready}))
"""


def measure(python: Path, engine: str, trials: int, reuse: bool) -> dict[str, float]:
    """One sweep in a fresh interpreter."""
    with tempfile.TemporaryDirectory(prefix="tune_benchmark_") as folder:
        command = [str(python), "-c", PROGRAM, engine, str(trials), folder, "reuse" if reuse else "fresh"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        raise SystemExit(f"{engine}: the sweep failed.\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", nargs="+", type=int, default=[40, 200])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-ray", action="store_true")
    parser.add_argument("--ray-python", type=Path, help="a Python that has Ray with its Tune")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    engines = [("raybook", Path(sys.executable))]
    if not options.no_ray:
        python = options.ray_python or peer_env.ensure(peer_env.RAY_TUNE)
        engines.append(("ray", python))
    print(machine_line())
    rows = []
    for trials in options.trials:
        for reuse in (False, True):
            samples: dict[str, list[dict[str, float]]] = {name: [] for name, _ in engines}
            for _ in range(options.repeats):
                for name, python in engines:
                    samples[name].append(measure(python, name, trials, reuse))
            row = {"trials": trials, "reuse_actors": reuse}
            for name, found in samples.items():
                for key in ("whole_s", "sweep_s"):
                    values = [sample[key] for sample in found]
                    row[f"{name}_{key}"] = statistics.median(values)
                    row[f"{name}_{key}_spread"] = max(values) - min(values)
            rows.append(row)
            print(line_of(row), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def line_of(row: dict) -> str:
    """One line of the table, with the ratio where both were measured."""
    label = f"{row['trials']:>4} trials{', reused actors' if row['reuse_actors'] else '':<15}"
    parts = []
    for name in ("raybook", "ray"):
        if f"{name}_sweep_s" in row:
            sweep, whole = row[f"{name}_sweep_s"], row[f"{name}_whole_s"]
            per_trial = 1000 * sweep / row["trials"]
            parts.append(f"{name}: {whole:7.2f} s with start-up, sweep {sweep:7.2f} s, {per_trial:7.1f} ms a trial")
    if "ray_sweep_s" in row:
        parts.append(
            f"ratio {row['ray_whole_s'] / row['raybook_whole_s']:.1f} (sweep alone "
            f"{row['ray_sweep_s'] / row['raybook_sweep_s']:.1f})"
        )
    return f"{label} | " + " | ".join(parts)


if __name__ == "__main__":
    main()
