"""The contract: raybook's libraries on the engine. On its own runtime `tests/libs` has the detail, so that these rows run
there with the soak tests and ``make test-ray`` only."""

from __future__ import annotations

import importlib.util

import pytest

from tests.contracts.engines.contract import PATIENCE_S

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]
LONG_S = 240


def test_pools_and_queues_of_util(engine, ray):
    from raybook.util import ActorPool
    from raybook.util.multiprocessing import Pool
    from raybook.util.queue import Queue

    @ray.remote
    class Doubler:
        def double(self, number):
            return 2 * number

    pool = ActorPool([Doubler.remote(), Doubler.remote()])
    assert list(pool.map(lambda actor, number: actor.double.remote(number), range(4))) == [0, 2, 4, 6]
    queue = Queue()
    queue.put("first")
    assert queue.get(timeout=PATIENCE_S) == "first"
    queue.shutdown()
    with Pool(2) as processes:
        assert processes.map(abs, [-1, -2]) == [1, 2]


def test_a_graph_is_executed(engine, ray, get):
    from raybook.dag import InputNode

    @ray.remote
    def add(one, other):
        return one + other

    with InputNode() as number:
        graph = add.bind(add.bind(number, 1), 10)
    assert get(graph.execute(1)) == 12


def test_data_maps_sorts_and_groups(engine):
    import raybook.data

    rows = raybook.data.range(200, override_num_blocks=4)
    squares = rows.map_batches(lambda batch: {"id": batch["id"], "kind": batch["id"] % 2})
    assert [row["id"] for row in squares.sort("id", descending=True).take(2)] == [199, 198]
    assert {row["kind"]: row["count()"] for row in squares.groupby("kind").count().take_all()} == {0: 100, 1: 100}


def test_tune_finds_the_best_trial(engine, tmp_path):
    from raybook import tune

    def trial(config):
        for step in range(2):
            tune.report({"score": config["x"] * (step + 1)})

    tuner = tune.Tuner(
        trial,
        param_space={"x": tune.grid_search([1, 3, 2])},
        tune_config=tune.TuneConfig(metric="score", mode="max"),
        run_config=tune.RunConfig(storage_path=str(tmp_path), name="contract"),
    )
    best = tuner.fit().get_best_result()
    assert best.config["x"] == 3 and best.metrics["score"] == 6


def test_train_runs_its_workers_together(engine, tmp_path):
    pytest.importorskip("torch")
    from raybook import train
    from raybook.train import RunConfig, ScalingConfig
    from raybook.train.torch import TorchTrainer

    def loop():
        import torch
        import torch.distributed as dist

        number = torch.ones(1)
        dist.all_reduce(number)
        train.report({"sum": number.item(), "world": train.get_context().get_world_size()})

    trainer = TorchTrainer(
        loop,
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=str(tmp_path), name="contract"),
    )
    result = trainer.fit()
    assert result.metrics["sum"] == 2 and result.metrics["world"] == 2


@pytest.mark.skipif(importlib.util.find_spec("starlette") is None, reason="raybook[serve] is not installed.")
def test_serve_answers_its_handle(engine):
    from raybook import serve

    @serve.deployment
    class Greeter:
        def __call__(self, name: str) -> str:
            return f"hello {name}"

    handle = serve.run(Greeter.bind(), name="contract", route_prefix=None)
    try:
        assert handle.remote("you").result(timeout_s=LONG_S) == "hello you"
    finally:
        serve.shutdown()
