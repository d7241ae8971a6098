"""Kills: a worker, the controller, the driver. The run goes on from its latest checkpoint, which is whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import raybook as ray
from raybook import train
from raybook.util.state import list_actors
from tests.libs.train.conftest import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def loop(config):
    """Count to `steps`, a checkpoint each, and do the configured harm once, at a step."""
    start = 0
    checkpoint = train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            names = sorted(os.listdir(folder))
            assert names == [f"rank{rank}.json" for rank in range(len(names))], f"half a checkpoint: {names}"
            start = json.loads(Path(folder, "rank0.json").read_text())["step"] + 1
    context = train.get_context()
    rank, marks = context.get_world_rank(), Path(config["marks"])
    (marks / f"pid-{rank}-{os.getpid()}").touch()
    for step in range(start, config["steps"]):
        if step == config.get("kill_at") and rank == context.get_world_size() - 1 and start == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == config.get("wait_at") and start == 0:
            (marks / f"waiting-{rank}").touch()
            while True:
                time.sleep(0.05)  # Until somebody ends this process.
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, f"rank{rank}.json").write_text(json.dumps({"step": step}))
            metrics = {"step": step, "started_at": start, "size": context.get_world_size()}
            train.report(metrics, checkpoint=train.Checkpoint.from_directory(folder))


def run_config(path, **failure):
    return train.RunConfig(
        name="run",
        storage_path=str(path),
        failure_config=train.FailureConfig(**failure),
        checkpoint_config=train.CheckpointConfig(num_to_keep=2),
    )


def kept_on_disk(path) -> list[str]:
    return sorted(name for name in os.listdir(path) if not name.startswith(".") and not name.endswith(".json"))


def test_a_killed_worker_costs_one_failure_and_nothing_else(four_cpus, tmp_path, marks):
    config = {"steps": 6, "kill_at": 3, "marks": str(marks)}
    trainer = train.DataParallelTrainer(
        loop,
        train_loop_config=config,
        scaling_config=train.ScalingConfig(num_workers=2),
        run_config=run_config(tmp_path, max_failures=1),
    )
    result = trainer.fit()
    assert result.metrics == {"step": 5, "started_at": 3, "size": 2}
    assert [metrics["step"] for _, metrics in result.best_checkpoints] == [4, 5]
    assert len(kept_on_disk(result.path)) == 2
    with pytest.raises(train.WorkerGroupError) as caught:
        train.DataParallelTrainer(
            loop,
            train_loop_config=config,
            scaling_config=train.ScalingConfig(num_workers=2),
            run_config=train.RunConfig(name="other", storage_path=str(tmp_path)),
        ).fit()
    assert isinstance(caught.value.worker_failures[1], ray.exceptions.RayActorError)


def test_when_the_controller_is_killed_another_one_goes_on(four_cpus, tmp_path, marks):
    @ray.remote(num_cpus=0)
    def kill_the_controller(marks: str) -> None:
        """Once both workers wait."""
        wait_for(lambda: len(list(Path(marks).glob("waiting-*"))) == 2)
        [controller] = [
            actor for actor in list_actors() if actor.class_name == "TrainController" and actor.state == "ALIVE"
        ]
        os.kill(controller.pid, signal.SIGKILL)

    killing = kill_the_controller.remote(str(marks))
    result = train.DataParallelTrainer(
        loop,
        train_loop_config={"steps": 4, "wait_at": 2, "marks": str(marks)},
        scaling_config=train.ScalingConfig(num_workers=2),
        run_config=run_config(tmp_path),
    ).fit()
    ray.get(killing)
    assert result.metrics == {"step": 3, "started_at": 2, "size": 2}


DRIVER = """
import signal, sys
# A shell starts what runs in its background deaf to interrupts, and these tests hand that on.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {folder!r})
import raybook as ray
from raybook import train
from test_train_faults import loop, run_config
ray.init(num_cpus=2)
train.DataParallelTrainer(
    loop,
    train_loop_config={config!r},
    scaling_config=train.ScalingConfig(num_workers=2),
    run_config=run_config({path!r}),
).fit()
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_run_of_the_same_name_goes_on_where_a_driver_was_ended(four_cpus, tmp_path, marks, end):
    config = {"steps": 4, "wait_at": 2, "marks": str(marks)}
    text = DRIVER.format(folder=str(Path(__file__).parent), config=config, path=str(tmp_path))
    driver = subprocess.Popen([sys.executable, "-c", text], stderr=subprocess.PIPE)
    try:
        wait_for(lambda: len(list(marks.glob("waiting-*"))) == 2)
    finally:
        driver.send_signal(end)
    _, error = driver.communicate(timeout=30)
    assert driver.returncode == (-signal.SIGKILL if end == signal.SIGKILL else 0), error.decode()[-2000:]
    pids = [int(mark.name.rpartition("-")[2]) for mark in marks.glob("pid-*")]
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))
    result = train.DataParallelTrainer(
        loop,
        train_loop_config=config,
        scaling_config=train.ScalingConfig(num_workers=2),
        run_config=run_config(tmp_path),
    ).fit()
    assert result.metrics == {"step": 3, "started_at": 2, "size": 2}
