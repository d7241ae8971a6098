"""Train: what it costs to start a two-worker DDP fit, beside Ray; and a DDP epoch's throughput, beside torchrun.

    python benchmarks/train.py [--ray-python PYTHON | --no-ray] [--rows 2048] [--epochs 3] [--fits 3]

Arithmetic before measuring: a fit is one actor for the controller, two for the workers, and in each of these `import torch`
(1.4 s of CPU, both at once on two cores), the rendezvous (milliseconds) and one step. Ray 2.60 took 28 s on the same
machine, most of it processes that start and modules that they import. An epoch's steps run in torch alone, so throughput
can differ from torchrun's only by what runs beside them.
All in one run, one after the other, on the same two processes' worth of CPUs; ratios count, not figures.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import PROJECT_ROOT, machine_line
from peer_env import RAY_TRAIN, ensure

LOOP = """
import json, os, sys, tempfile, time

def loop(config):
    import torch
    import torch.distributed as dist
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = torch.nn.parallel.DistributedDataParallel(
        torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.rand(config["rows"], 64)
    y = torch.randint(0, 10, (config["rows"],))
    seconds = []
    for _ in range(config["epochs"]):
        dist.barrier()
        began = time.perf_counter()
        for start in range(0, len(x), 32):
            loss = torch.nn.functional.cross_entropy(model(x[start:start + 32]), y[start:start + 32])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        dist.barrier()
        seconds.append(time.perf_counter() - began)
        if config["report"] is not None:
            config["report"]({"loss": loss.item()})
    return seconds
"""

TRAINER = """
import {library} as ray
from {library} import train
from {library}.train.torch import TorchTrainer

def function(config):
    report = lambda metrics: train.report(metrics)
    seconds = loop({{**config, "report": report}})
    if train.get_context().get_world_rank() == 0:
        open(config["out"], "w").write(json.dumps(seconds))

settings = json.loads(sys.argv[1])
ray.init(num_cpus=2)
starts, epochs = [], []
for number in range(settings["fits"]):
    out = os.path.join(settings["folder"], f"out-{{number}}")
    config = {{"rows": 32, "epochs": 1, "out": out}}
    began = time.perf_counter()
    TorchTrainer(
        function,
        train_loop_config=config,
        scaling_config=train.ScalingConfig(num_workers=2),
        run_config=train.RunConfig(name=f"start-{{number}}", storage_path=settings["folder"]),
    ).fit()
    starts.append(time.perf_counter() - began)
config = {{"rows": settings["rows"], "epochs": settings["epochs"], "out": out}}
TorchTrainer(
    function,
    train_loop_config=config,
    scaling_config=train.ScalingConfig(num_workers=2),
    run_config=train.RunConfig(name="epochs", storage_path=settings["folder"]),
).fit()
ray.shutdown()
print(json.dumps({{"starts": starts, "epochs": json.load(open(out))}}))
"""

TORCHRUN = """
import torch.distributed as dist

settings = json.loads(sys.argv[1])
dist.init_process_group("gloo")
seconds = loop({"rows": settings["rows"], "epochs": settings["epochs"], "report": None})
if dist.get_rank() == 0:
    print(json.dumps({"epochs": seconds}), flush=True)
dist.destroy_process_group()
"""


def run(command: list[str], script: Path, settings: dict[str, object]) -> dict[str, list[float]]:
    """Run a script and return the JSON of its last line."""
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "RAY_TRAIN_V2_ENABLED": "1"}
    done = subprocess.run(
        [*command, str(script), json.dumps(settings)], capture_output=True, text=True, env=environment, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        raise SystemExit(f"{command[0]} {script} failed ({done.returncode}):\n{done.stderr[-3000:]}")
    return json.loads(lines[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ray-python", type=Path, help="a Python that has ray[train]==2.60.0 and torch")
    parser.add_argument("--no-ray", action="store_true")
    parser.add_argument("--rows", type=int, default=16_384)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--fits", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="train_benchmark_") as folder:
        settings = {"rows": arguments.rows, "epochs": arguments.epochs, "fits": arguments.fits, "folder": folder}
        scripts = {}
        for name, text in (
            ("raybook", TRAINER.format(library="raybook")),
            ("ray", TRAINER.format(library="ray")),
            ("torchrun", TORCHRUN),
        ):
            scripts[name] = Path(folder, f"{name}_script.py")
            scripts[name].write_text(LOOP + text)
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        results = {
            "torchrun": run(torchrun, scripts["torchrun"], settings),
            "raybook": run([sys.executable], scripts["raybook"], settings),
        }
        if not arguments.no_ray:
            python = arguments.ray_python or ensure(RAY_TRAIN)
            results["ray"] = run([str(python)], scripts["ray"], settings)
    print(machine_line())
    print(f"project: {PROJECT_ROOT.name}, rows an epoch and worker: {arguments.rows}")
    for name, result in results.items():
        if "starts" in result:
            spread = ", ".join(f"{each:.2f}" for each in result["starts"])
            print(f"{name:9} two-worker DDP fit: median {statistics.median(result['starts']):.2f} s ({spread})")
        rate = 2 * arguments.rows / statistics.median(result["epochs"])
        print(f"{name:9} DDP epoch: {rate:,.0f} rows/s")
    base = statistics.median(results["torchrun"]["epochs"])
    print(f"raybook / torchrun, time of an epoch: {statistics.median(results['raybook']['epochs']) / base:.3f}")
    if "ray" in results:
        ratio = statistics.median(results["ray"]["starts"]) / statistics.median(results["raybook"]["starts"])
        print(f"start-up: raybook is {ratio:.1f} times as fast as Ray")


if __name__ == "__main__":
    main()
