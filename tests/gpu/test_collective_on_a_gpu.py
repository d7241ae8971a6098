"""Collectives through NCCL, with as many members as there are GPUs: one is enough to see that tensors stay on it."""

from __future__ import annotations

import pytest

import raybook as ray
from raybook.io.gpu import visible_gpu_ids
from raybook.util import collective

torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not visible_gpu_ids(), reason="NVML finds no GPU on this machine"),
]


@pytest.fixture(scope="module")
def members():
    ray.init(num_cpus=4)

    @ray.remote(num_gpus=1)
    class Member:
        def join(self, size, rank):
            collective.init_collective_group(size, rank, "nccl", "gpus")
            return collective.get_rank("gpus")

        def reduce(self):
            tensor = torch.ones(4, device="cuda")
            collective.allreduce(tensor, "gpus")
            collective.barrier("gpus")
            return tensor.device.type, tensor.cpu().tolist()

        def gather(self, size):
            outputs = [torch.zeros(2, device="cuda") for _ in range(size)]
            rank = collective.get_rank("gpus")
            collective.allgather(outputs, torch.full((2,), float(rank), device="cuda"), "gpus")
            scattered = torch.zeros(2, device="cuda")
            collective.reducescatter(scattered, [torch.ones(2, device="cuda")] * size, "gpus")
            return [output.cpu().tolist() for output in outputs], scattered.cpu().tolist()

        def refuse(self):
            collective.allreduce(torch.ones(1), "gpus")

        def leave(self):
            collective.destroy_collective_group("gpus")
            return collective.is_group_initialized("gpus")

    size = len(visible_gpu_ids())
    yield [Member.remote() for _ in range(size)]
    ray.shutdown()


def test_reductions_stay_on_the_gpu(members):
    size = len(members)
    assert ray.get([member.join.remote(size, rank) for rank, member in enumerate(members)]) == list(range(size))
    assert ray.get([member.reduce.remote() for member in members]) == [("cuda", [float(size)] * 4)] * size
    gathered = [[float(rank)] * 2 for rank in range(size)]
    assert ray.get([member.gather.remote(size) for member in members]) == [(gathered, [float(size)] * 2)] * size
    with pytest.raises(ValueError, match="takes tensors on a GPU"):
        ray.get(members[0].refuse.remote())
    assert ray.get([member.leave.remote() for member in members]) == [False] * size
