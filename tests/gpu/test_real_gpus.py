"""GPUs that are there: what a task may see of them, how they are shared, and that the driver's own CUDA is left alone.

Left out, with a word, where NVML finds no device. Each test runs real kernels through torch; ``docs/gpu.md`` keeps what one
run on a GPU machine printed.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import raybook
from raybook.io.gpu import gpu_type, gpu_usage, visible_gpu_ids

torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not visible_gpu_ids(), reason="NVML finds no GPU on this machine"),
]

SIDE = 2048
GIGABYTE = 1024**3


@pytest.fixture(scope="module")
def ray() -> Iterator[ModuleType]:
    raybook.init(num_cpus=8)
    yield raybook
    raybook.shutdown()


def test_a_cluster_has_the_gpus_that_nvml_sees_and_their_model_as_a_resource(ray: ModuleType) -> None:
    resources = ray.cluster_resources()
    assert resources["GPU"] == len(visible_gpu_ids())
    assert resources[f"accelerator_type:{gpu_type()}"] > 0


def test_use_and_memory_of_every_gpu_are_told() -> None:
    rows = gpu_usage()
    assert [row["index"] for row in rows] == list(range(len(rows))) and rows
    for row in rows:
        assert 0 <= row["utilization"] <= 1
        assert 0 < row["memory_used_bytes"] < row["memory_total_bytes"]


def test_a_task_with_a_gpu_sees_exactly_that_one_and_computes_on_it(ray: ModuleType) -> None:
    @ray.remote(num_gpus=1)
    def product() -> tuple[list[int], str, int, float]:
        left = torch.randn(SIDE, SIDE, dtype=torch.float64)
        on_device = (left.cuda() @ left.cuda()).cpu()
        error = float(((on_device - left @ left).norm() / on_device.norm()).item())
        return ray.get_gpu_ids(), os.environ["CUDA_VISIBLE_DEVICES"], torch.cuda.device_count(), error

    ids, visible, count, error = ray.get(product.remote())
    assert visible == ",".join(map(str, ids)) and len(ids) == count == 1
    assert error < 1e-10


def test_a_task_without_a_gpu_sees_none(ray: ModuleType) -> None:
    @ray.remote
    def look() -> tuple[str, bool]:
        return os.environ.get("CUDA_VISIBLE_DEVICES", "unset"), torch.cuda.is_available()

    assert ray.get(look.remote()) == ("", False)


def test_a_task_with_a_gpu_finds_it_after_tasks_that_asked_cuda_and_had_none(ray: ModuleType) -> None:
    @ray.remote
    def ask() -> bool:
        return torch.cuda.is_available()

    @ray.remote(num_gpus=1)
    def add() -> float:
        return float(torch.ones(10, device="cuda").sum())

    assert not any(ray.get([ask.remote() for _ in range(16)]))
    assert ray.get(add.remote()) == 10.0


def test_four_actors_share_one_gpu_at_a_quarter_each_and_the_fifth_waits(ray: ModuleType) -> None:
    @ray.remote(num_gpus=0.25)
    class Trainer:
        def __init__(self) -> None:
            self.weights = torch.ones(SIDE, SIDE, device="cuda")

        def step(self) -> tuple[list[int], str, float]:
            self.weights = self.weights * 0.5
            torch.cuda.synchronize()
            return ray.get_gpu_ids(), os.environ["CUDA_VISIBLE_DEVICES"], float(self.weights.mean())

    trainers = [Trainer.remote() for _ in range(4 * len(visible_gpu_ids()))]
    answers = ray.get([trainer.step.remote() for trainer in trainers])
    used = [ids[0] for ids, _, _ in answers]
    assert all(used.count(gpu) == 4 for gpu in set(used))
    assert all(visible == str(ids[0]) and mean == 0.5 for ids, visible, mean in answers)
    fifth = Trainer.remote()
    step = fifth.step.remote()
    assert ray.wait([step], timeout=1) == ([], [step])
    ray.kill(trainers[0])
    assert ray.get(step)[2] == 0.5
    for trainer in [*trainers[1:], fifth]:
        ray.kill(trainer)


def test_two_tasks_of_one_gpu_each_never_overlap_on_a_device(ray: ModuleType) -> None:
    @ray.remote(num_gpus=1)
    def occupy() -> tuple[int, float, float]:
        begin = time.time()
        matrix = torch.randn(SIDE, SIDE, device="cuda")
        for _ in range(20):
            matrix = torch.tanh(matrix @ matrix)
        torch.cuda.synchronize()
        return ray.get_gpu_ids()[0], begin, time.time()

    spans = sorted(ray.get([occupy.remote() for _ in range(6)]))
    for (gpu, _, end), (next_gpu, begin, _) in zip(spans, spans[1:], strict=False):
        assert gpu != next_gpu or begin >= end


def test_workers_start_while_the_driver_holds_a_cuda_context_of_its_own(ray: ModuleType) -> None:
    mine = torch.arange(1000, device="cuda")

    @ray.remote(num_gpus=0.5)
    def total(values: object) -> int:
        return int(torch.as_tensor(values).cuda().sum())

    assert ray.get([total.remote(mine.cpu().numpy()) for _ in range(4)]) == [int(mine.sum())] * 4
    assert os.environ.get("CUDA_VISIBLE_DEVICES") is None


def test_the_memory_of_a_gpu_task_is_free_when_its_result_has_come(ray: ModuleType) -> None:
    """GPU tasks run in a process each (max_calls 1), for a CUDA context is only given back when its process ends."""

    @ray.remote(num_gpus=1)
    def fill() -> int:
        block = torch.empty(GIGABYTE, dtype=torch.uint8, device="cuda")
        return block.numel() and os.getpid()

    pids = ray.get([fill.remote() for _ in range(3)])
    assert len(set(pids)) == 3


def test_a_tensor_of_a_device_comes_back_from_a_task_on_the_device(ray: ModuleType) -> None:
    @ray.remote(num_gpus=0.5)
    def make() -> object:
        return torch.full((1000,), 3.0, device="cuda")

    assert float(ray.get(make.remote()).sum()) == 3000.0


def test_one_rank_of_nccl_reduces_in_an_actor(ray: ModuleType) -> None:
    @ray.remote(num_gpus=1)
    class Rank:
        def reduce(self, folder: str) -> float:
            import torch.distributed as dist

            dist.init_process_group("nccl", init_method=f"file://{folder}", rank=0, world_size=1)
            values = torch.ones(1000, device="cuda")
            dist.all_reduce(values)
            dist.destroy_process_group()
            return float(values.sum())

    rank = Rank.remote()
    assert ray.get(rank.reduce.remote(f"/tmp/raybook-nccl-{os.getpid()}")) == 1000.0
    ray.kill(rank)


def test_mixed_precision_training_runs_unchanged_in_an_actor(ray: ModuleType) -> None:
    @ray.remote(num_gpus=1)
    class Trainer:
        def fit(self) -> tuple[float, float]:
            torch.manual_seed(0)
            inputs = torch.randn(4096, 64, device="cuda")
            targets = inputs.sum(dim=1, keepdim=True)
            model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 1)).cuda()
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
            losses = []
            for _ in range(100):
                with torch.autocast("cuda", dtype=torch.bfloat16):
                    loss = torch.nn.functional.mse_loss(model(inputs), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(float(loss))
            return losses[0], losses[-1]

    trainer = Trainer.remote()
    first, last = ray.get(trainer.fit.remote())
    assert last < first / 10
    ray.kill(trainer)


def test_four_trials_of_a_sweep_share_one_gpu_and_each_sees_only_it(ray: ModuleType, tmp_path: Path) -> None:
    tune = pytest.importorskip("raybook.tune")

    def train(config: dict[str, float]) -> None:
        weight = torch.zeros(1, device="cuda", requires_grad=True)
        optimizer = torch.optim.SGD([weight], lr=config["lr"])
        for _ in range(5):
            loss = ((weight - 3.0) ** 2).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            tune.report({"loss": float(loss), "visible": os.environ["CUDA_VISIBLE_DEVICES"]})

    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1, "gpu": 0.25}),
        param_space={"lr": tune.grid_search([0.01, 0.05, 0.1, 0.2])},
        tune_config=tune.TuneConfig(metric="loss", mode="min"),
        run_config=tune.RunConfig(storage_path=str(tmp_path)),
    )
    results = tuner.fit()
    assert not results.errors
    assert {result.metrics["visible"] for result in results} == {str(visible_gpu_ids()[0])}
    assert results.get_best_result().config["lr"] == 0.2


def test_a_gpu_actor_that_is_restarted_gets_its_gpu_again(ray: ModuleType) -> None:
    @ray.remote(num_gpus=1, max_restarts=1, max_task_retries=1)
    class Holder:
        def add(self) -> tuple[int, float]:
            return os.getpid(), float(torch.ones(10, device="cuda").sum())

    holder = Holder.remote()
    first, _ = ray.get(holder.add.remote())
    os.kill(first, signal.SIGKILL)
    second, total = ray.get(holder.add.remote(), timeout=60)
    assert second != first and total == 10.0
    ray.kill(holder)
