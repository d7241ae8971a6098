"""Nodes that die, join or drain under an elastic run, on clusters of several nodes."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from pathlib import Path

import pytest

import raybook as ray
from raybook import train
from raybook.api.scaling import drain_node
from raybook.cluster_utils import Cluster
from tests.libs.train.conftest import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def one_node():
    # `connect` takes a connection that is there already for its own, as Ray's does; then no node here would matter.
    assert not ray.is_initialized(), "a cluster of another fixture is still connected"
    cluster = Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 1})
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def two_nodes(one_node):
    one_node.second = one_node.add_node(num_cpus=1)
    one_node.wait_for_nodes()
    return one_node


def test_an_elastic_run_goes_on_with_what_is_left_when_a_node_dies(two_nodes, tmp_path, marks):
    def count_to_three(config):
        """A checkpoint at each step; the first group waits for its end at step 2."""
        context, start = train.get_context(), 0
        checkpoint = train.get_checkpoint()
        if checkpoint is not None:
            with checkpoint.as_directory() as folder:
                start = json.loads(Path(folder, "step").read_text()) + 1
        for step in range(start, 4):
            if step == 2 and start == 0:
                (Path(config["marks"]) / f"waiting-{context.get_world_rank()}").touch()
                while True:
                    time.sleep(0.05)  # Until somebody ends this process.
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "step").write_text(json.dumps(step))
                metrics = {"step": step, "started_at": start, "size": context.get_world_size()}
                train.report(metrics, checkpoint=train.Checkpoint.from_directory(folder))

    def remove() -> None:
        wait_for(lambda: len(list(marks.glob("waiting-*"))) == 2)
        two_nodes.remove_node(two_nodes.second, allow_graceful=False)

    remover = threading.Thread(target=remove, daemon=True)
    remover.start()
    result = train.DataParallelTrainer(
        count_to_three,
        train_loop_config={"marks": str(marks)},
        scaling_config=train.ScalingConfig(num_workers=(1, 2)),
        run_config=train.RunConfig(
            name="run",
            storage_path=str(tmp_path),
            failure_config=train.FailureConfig(max_failures=1),
        ),
    ).fit()
    remover.join()
    assert result.metrics == {"step": 3, "started_at": 2, "size": 1}


def test_an_elastic_run_grows_when_a_node_joins(one_node, tmp_path, marks):
    def until_there_are_two(config):
        size = train.get_context().get_world_size()
        train.report({"size": size})
        (Path(config["marks"]) / f"size-{size}").touch()
        while size < 2:
            time.sleep(0.02)  # Until this group is replaced.

    def join() -> None:
        wait_for(lambda: (marks / "size-1").exists())
        one_node.add_node(num_cpus=1)

    joiner = threading.Thread(target=join, daemon=True)
    joiner.start()
    result = train.DataParallelTrainer(
        until_there_are_two,
        train_loop_config={"marks": str(marks)},
        scaling_config=train.ScalingConfig(num_workers=(1, 2), elastic_resize_monitor_interval_s=0.2),
        run_config=train.RunConfig(name="run", storage_path=str(tmp_path)),
    ).fit()
    joiner.join()
    assert result.metrics == {"size": 2}


def test_a_node_that_will_go_is_announced_and_costs_no_failure(two_nodes, tmp_path, marks):
    def train_until_told(config):
        """Count until the second node drains, save, and go on until it has gone."""
        told, start = False, train.get_checkpoint() is not None
        step = 0
        while not start or step < 2:
            step += 1
            info = train.get_preemption_info()
            if info is not None and not told:
                told = True
                with tempfile.TemporaryDirectory() as folder:
                    Path(folder, "ranks").write_text(json.dumps(info.preempted_ranks))
                    train.report({"told": info.preempted_ranks}, checkpoint=train.Checkpoint.from_directory(folder))
                (Path(config["marks"]) / f"saved-{train.get_context().get_world_rank()}").touch()
            (Path(config["marks"]) / f"running-{train.get_context().get_world_rank()}").touch()
            time.sleep(0.02)
        return train.get_context().get_world_size()

    def drain() -> None:
        wait_for(lambda: (marks / "running-1").exists())
        drain_node(two_nodes.second.node_id, deadline_s=60)
        wait_for(lambda: (marks / "saved-1").exists())
        two_nodes.remove_node(two_nodes.second, allow_graceful=False)

    drainer = threading.Thread(target=drain, daemon=True)
    drainer.start()
    result = train.DataParallelTrainer(
        train_until_told,
        train_loop_config={"marks": str(marks)},
        scaling_config=train.ScalingConfig(num_workers=(1, 2)),
        run_config=train.RunConfig(name="run", storage_path=str(tmp_path)),
    ).fit()
    drainer.join()
    assert result.metrics == {"told": [1]} and result.return_value == 1
