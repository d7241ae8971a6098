"""Faults: workers that die while rows are brought together; the result is exact all the same."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from raybook import data, get
from raybook.data import DataContext
from raybook.data.execution.exchange import ExchangeOperator
from raybook.data.execution.run import executor_for

# Workers that were killed are replaced by new processes, which import Arrow: seconds, on a machine that is busy.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster"), pytest.mark.timeout(180)]
ROWS = 2_000


@pytest.fixture
def small_blocks():
    """Small data takes several partitions, so that there is something to lose between the stages."""
    context = DataContext.get_current()
    before = context.target_min_block_size, context.target_max_block_size
    context.target_min_block_size, context.target_max_block_size = 1, 12_000
    yield
    context.target_min_block_size, context.target_max_block_size = before


def rows_of_a_run_whose_workers_are_killed(dataset, folder, stage_number):
    """The rows, in order. All processes that ran the step before are killed when the exchange has begun its stage of this
    number, some of whose tasks have been started then."""
    executor = executor_for(dataset._plan, dataset._context)
    (exchange,) = [one for one in executor.operators if isinstance(one, ExchangeOperator)]
    stages, killed, rows = [], [], []
    try:
        while not (executor.is_done and not executor.outputs):
            executor.step()
            while executor.outputs:
                rows += get(executor.outputs.popleft().ref).to_pylist()
            if exchange._stage is not None and not any(exchange._stage is one for one in stages):
                stages.append(exchange._stage)
            if not killed and len(stages) == stage_number and exchange.running:
                killed = [int(name) for name in os.listdir(folder)]
                for pid in killed:
                    assert "raybook" in Path(f"/proc/{pid}/cmdline").read_text()
                    os.kill(pid, signal.SIGKILL)
    finally:
        executor.close()
    assert killed
    return rows


def leaves_its_pid(folder):
    def note(batch):
        (folder / str(os.getpid())).touch()
        return {"id": batch["id"], "k": batch["id"] % 7}

    return note


def test_shuffle_whose_workers_are_killed_has_every_row_once(small_blocks, tmp_path):
    ds = data.range(ROWS, override_num_blocks=4).map_batches(leaves_its_pid(tmp_path)).random_shuffle(seed=3)
    rows = rows_of_a_run_whose_workers_are_killed(ds, tmp_path, 2)
    assert sorted(row["id"] for row in rows) == list(range(ROWS))
    assert [row["id"] for row in rows] != list(range(ROWS))


def test_sort_whose_workers_are_killed_is_in_order(small_blocks, tmp_path):
    made = data.range(ROWS, override_num_blocks=4).map_batches(leaves_its_pid(tmp_path))
    rows = rows_of_a_run_whose_workers_are_killed(made.sort("id", descending=True), tmp_path, 2)
    assert [row["id"] for row in rows] == list(range(ROWS))[::-1]


def test_groups_whose_workers_are_killed_are_whole(small_blocks, tmp_path):
    made = data.range(ROWS, override_num_blocks=4).map_batches(leaves_its_pid(tmp_path))
    grouped = made.groupby("k", num_partitions=3).map_groups(
        lambda group: {"k": group["k"][:1], "n": [len(group["id"])]}
    )
    rows = rows_of_a_run_whose_workers_are_killed(grouped, tmp_path, 1)
    assert {row["k"]: row["n"] for row in rows} == {key: len(range(key, ROWS, 7)) for key in range(7)}
