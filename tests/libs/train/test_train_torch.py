"""Torch under Train: process groups without user code, DDP and FSDP, loaders, helpers. CPU only, gloo."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import raybook as ray
from raybook import train
from raybook.train.torch import TorchCheckpoint, TorchConfig, TorchTrainer

pytestmark = [pytest.mark.usefixtures("with_frameworks"), pytest.mark.slow, pytest.mark.timeout(180)]


def fit(function, path, workers=2, **options):
    return TorchTrainer(
        function,
        scaling_config=train.ScalingConfig(num_workers=workers),
        run_config=train.RunConfig(name="torch", storage_path=str(path)),
        **options,
    ).fit()


def small_model(torch):
    torch.manual_seed(7)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()


def small_data(torch):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(16, 4, generator=generator, dtype=torch.float64), torch.rand(
        16, 1, generator=generator, dtype=torch.float64
    )


def gradients(torch, model, inputs, targets):
    torch.nn.functional.mse_loss(model(inputs), targets).backward()
    return [parameter.grad.tolist() for parameter in model.parameters()]


def test_under_torchrun_the_function_joins_its_group(tmp_path, monkeypatch):
    """What torchrun does, but that its processes are forks of this one, which has torch already."""
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    def function():
        context = train.get_context()
        sizes = torch.distributed.get_world_size(), context.get_local_world_size()
        (tmp_path / f"rank-{context.get_world_rank()}").write_text(repr(sizes))

    def process():
        TorchTrainer(function, scaling_config=train.ScalingConfig(num_workers=0)).fit()

    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    group = LaunchConfig(
        1,
        1,
        2,
        run_id="group",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        start_method="fork",
        monitor_interval=0.1,
    )
    elastic_launch(group, process)()
    assert {path.name: path.read_text() for path in tmp_path.glob("rank-*")} == {"rank-0": "(2, 2)", "rank-1": "(2, 2)"}


def test_ddp_gradients_equal_those_of_one_process_and_everything_is_set_up(tmp_path):
    def function():
        import torch
        import torch.distributed as dist

        from raybook.train.torch import (
            enable_reproducibility,
            get_device,
            get_devices,
            prepare_data_loader,
            prepare_model,
        )

        context = train.get_context()
        model = prepare_model(small_model(torch))
        inputs, targets = small_data(torch)
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), batch_size=8)
        shared = prepare_data_loader(loader)
        batches = list(shared)
        rank, size = context.get_world_rank(), context.get_world_size()
        variables = {name: os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK")}
        facts = {
            "grads": gradients(torch, model, *batches[0]),
            "wrapper": type(model).__name__,
            "sampler": type(shared.sampler).__name__,
            "batches": len(batches) == len(shared) == 1 and torch.equal(batches[0][0], inputs[rank::size]),
            "device": str(get_device()) == str(get_devices()[0]) == "cpu",
            "dist": (dist.get_rank(), dist.get_world_size(), dist.get_backend()),
            "variables": variables,
            "unwrapped": type(prepare_model(torch.nn.Linear(1, 1), parallel_strategy=None)).__name__,
        }
        shared.sampler.set_epoch(1)
        enable_reproducibility(3)
        try:
            train.report({"loss": torch.tensor(1.0)})
        except ValueError as error:
            facts["tensor"] = str(error)
        train.report({"rank": rank})
        return facts

    facts = fit(function, tmp_path).return_value
    alone = gradients(torch, small_model(torch), *small_data(torch))
    for ours, theirs in zip(facts["grads"], alone, strict=True):
        assert torch.allclose(torch.tensor(ours), torch.tensor(theirs), rtol=0, atol=1e-9)
    assert facts["wrapper"] == "DistributedDataParallel" and facts["sampler"] == "DistributedSampler"
    assert facts["batches"] and facts["device"] and facts["unwrapped"] == "Linear"
    assert facts["dist"] == (0, 2, "gloo")
    assert facts["variables"] == {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "NODE_RANK": "0"}
    assert "Torch tensors" in facts["tensor"]


def test_fsdp_state_makes_the_round_trip_through_a_checkpoint(tmp_path):
    def function():
        import tempfile

        import torch
        import torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

        from raybook.train.torch import prepare_model

        def make(seed):
            torch.manual_seed(seed)
            return prepare_model(torch.nn.Linear(8, 4), parallel_strategy="fsdp")

        model = make(1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(torch.ones(2, 8)).sum().backward()
        optimizer.step()
        with tempfile.TemporaryDirectory() as folder:
            dcp.save(get_model_state_dict(model), checkpoint_id=folder)
            train.report({"step": 1}, checkpoint=train.Checkpoint.from_directory(folder))
        other = make(2)
        with train.get_checkpoint().as_directory() as folder:
            state = get_model_state_dict(other)
            dcp.load(state, checkpoint_id=folder)
            set_model_state_dict(other, state)
        inputs = torch.arange(8.0)
        return (
            type(model).__name__,
            torch.equal(model(inputs), other(inputs)),
            sorted(os.listdir(train.get_checkpoint().path)),
        )

    wrapper, are_equal, files = fit(function, tmp_path).return_value
    assert wrapper == "FullyShardedDataParallel" and are_equal
    assert [name for name in files if name.endswith(".distcp")] == ["__0_0.distcp", "__1_0.distcp"]


def test_a_group_of_one_needs_no_wrapper_and_takes_its_tcp_address(tmp_path):
    def function():
        import torch

        from raybook.train.torch import backward, prepare_data_loader, prepare_model

        model = prepare_model(torch.nn.Linear(1, 1))
        loader = prepare_data_loader(torch.utils.data.DataLoader(list(range(4)), batch_size=2))
        texts = []
        for wrong in (lambda: backward(None), lambda: prepare_model(model, parallel_strategy="zero")):
            try:
                wrong()
            except (DeprecationWarning, ValueError) as error:
                texts.append(type(error).__name__)
        return type(model).__name__, [batch.tolist() for batch in loader], texts

    config = TorchConfig(backend="gloo", init_method="tcp")
    returned = fit(function, tmp_path, workers=1, torch_config=config).return_value
    assert returned == ("Linear", [[0, 1], [2, 3]], ["DeprecationWarning", "ValueError"])
    with pytest.raises(train.ControllerError, match="Must be either 'env' or 'tcp'"):
        fit(function, tmp_path / "b", workers=1, torch_config=TorchConfig(init_method="carrier-pigeon"))


def test_torch_that_was_imported_ahead_has_as_many_threads_as_a_task_has_cpus():
    def look():
        loaded = "torch" in sys.modules, "torch._dynamo" in sys.modules
        import torch

        torch.nn.functional.linear(torch.ones(64, 64), torch.ones(64, 64)).sum()
        return *loaded, torch.get_num_threads()

    expected = [1, 3] if "OMP_NUM_THREADS" not in os.environ else [int(os.environ["OMP_NUM_THREADS"])] * 2
    seen = [ray.get(ray.remote(num_cpus=cpus)(look).remote()) for cpus in (1, 3)]
    assert seen == [(True, True, threads) for threads in expected]


def test_the_backend_follows_from_the_gpus():
    assert TorchTrainer(lambda: None).backend_config.backend == "gloo"
    with_gpus = TorchTrainer(lambda: None, scaling_config=train.ScalingConfig(use_gpu=True))
    assert with_gpus.backend_config.backend == "nccl" and with_gpus.backend_config.to_dict()["timeout_s"] == 1800


def test_a_torch_checkpoint_gives_its_model_back():
    model = torch.nn.Linear(2, 2)
    wrapped = {f"module.{name}": value for name, value in model.state_dict().items()}
    restored = TorchCheckpoint.from_state_dict(wrapped).get_model(torch.nn.Linear(2, 2))
    assert torch.equal(restored.weight, model.weight)
    whole = TorchCheckpoint.from_model(model)
    assert torch.equal(whole.get_model().bias, model.bias) and Path(whole.path, "model.pt").exists()
    with pytest.raises(ValueError, match="no model was provided"):
        TorchCheckpoint.from_state_dict(model.state_dict()).get_model()
    assert whole.get_preprocessor() is None


@pytest.mark.soak  # Slow: three more processes import torch.
def test_torchruns_command_starts_a_group_of_the_function(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "import torch.distributed as dist\n"
        "from raybook import train\n"
        "from raybook.train.torch import TorchTrainer\n"
        "def function():\n"
        "    context = train.get_context()\n"
        "    rank, sizes = context.get_world_rank(), (dist.get_world_size(), context.get_local_world_size())\n"
        "    (Path(__file__).parent / f'rank-{rank}').write_text(repr(sizes))\n"
        "TorchTrainer(function, scaling_config=train.ScalingConfig(num_workers=0)).fit()\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    # A file each: what two processes print to one pipe comes out interleaved.
    assert {path.name: path.read_text() for path in tmp_path.glob("rank-*")} == {"rank-0": "(2, 2)", "rank-1": "(2, 2)"}
