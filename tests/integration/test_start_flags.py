"""``raybook start``, flag by flag: what it does to a real node, and what is refused at the command line."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import raybook as ray
from raybook import cli
from raybook.api import local_cluster
from raybook.commands import start_options
from raybook.io import session_dir
from raybook.io.process import is_alive, start_time
from tests.integration.test_split_form import alive_nodes, own_world, wait_until

__all__ = ["own_world"]

pytestmark = pytest.mark.slow
HEAD = ("start", "--head", "--port", "0", "--metrics-export-port", "-1", "--no-include-dashboard")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments)


def only_record() -> local_cluster.ClusterRecord:
    (record,) = local_cluster.list_clusters()
    return record


def test_every_amount_and_label_that_is_said_is_the_nodes(own_world: Path, tmp_path: Path):
    done = run(
        *HEAD, "--name", "flags", "--num-cpus", "3", "--num-gpus", "0", "--memory", str(1 << 30),
        "--object-store-memory", str(100 << 20), "--resources", '{"licence": 2.5}', "--labels", "zone=b,disk=fast",
        "--token-file", str(tmp_path / "token"), "--redis-password", "x",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "--redis-password changes nothing" in done.output
    record = only_record()
    (node,) = alive_nodes(record)
    total = node.resources_total
    assert (total["CPU"], total["licence"], total["memory"]) == (30_000, 25_000, 1 << 30)
    assert (total["object_store_memory"], "GPU" in total) == (100 << 20, False)
    assert (node.labels["zone"], node.labels["disk"], node.ip) == ("b", "fast", "127.0.0.1")
    token = tmp_path / "token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert Path(record.token_file).read_bytes() == token.read_bytes()
    joined = run(
        "start", "--address", record.address, "--token-file", str(token), "--labels", '{"zone": "c"}', "--num-cpus", "1"
    )
    assert joined.exit_code == 0, joined.output
    assert sorted(node.labels["zone"] for node in alive_nodes(record)) == ["b", "c"]


def test_address_to_join_is_taken_from_the_environment(own_world: Path, monkeypatch: pytest.MonkeyPatch):
    assert run(*HEAD, "--num-cpus", "1").exit_code == 0
    record = only_record()
    monkeypatch.setenv("RAY_ADDRESS", record.address)
    joined = run("start", "--num-cpus", "1")
    assert joined.exit_code == 0, joined.output
    assert len(alive_nodes(record)) == 2
    ray.init()
    try:
        assert ray.cluster_resources()["CPU"] == 2
    finally:
        ray.shutdown()
    monkeypatch.setenv("RAYBOOK_ADDRESS", "nowhere")
    assert "no address; one is HOST:PORT" in run("start").output


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_start_that_blocks_stays_and_ends_its_node_when_told_to(own_world: Path, signum: int):
    words = [sys.executable, "-m", "raybook.cli", *HEAD, "--num-cpus", "1", "--block"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert "is running; its GCS listens at" in process.stdout.readline()
        pids = session_dir.claimants(Path(only_record().session_dir))
        process.send_signal(signum)
        assert process.wait(15) == 0
        assert [pid for pid, started in pids if is_alive(pid, started)] == []
        assert list(own_world.iterdir()) == []
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_start_that_blocks_ends_with_its_node_and_says_that_nobody_asked_for_it(own_world: Path):
    assert run(*HEAD, "--num-cpus", "1").exit_code == 0
    record = only_record()
    words = [sys.executable, "-m", "raybook.cli", "start", "--address", record.address, "--num-cpus", "1", "--block"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline().partition("(pid ")[2].partition(")")[0])
    os.kill(pid, signal.SIGKILL)
    _, said = process.communicate(timeout=15)
    assert (process.returncode, said) == (1, "The node has ended.\n")


def test_node_whose_standard_input_closes_leaves(own_world: Path):
    assert run(*HEAD, "--num-cpus", "1").exit_code == 0
    record = only_record()
    words = [sys.executable, "-m", "raybook.cli", "start", "--address", record.address, "--while-stdin-open"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    pid = int(process.stdout.readline().partition("(pid ")[2].partition(")")[0])
    started = start_time(pid) or 0
    assert len(alive_nodes(record)) == 2
    process.stdin.close()
    assert process.wait(15) == 0
    process.stdout.close()
    assert not is_alive(pid, started)
    wait_until(lambda: len(alive_nodes(record)) == 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Say either --head (a new cluster) or --address HOST:PORT"),
        (("--head", "--address", "1.2.3.4:5"), "Say either --head"),
        (("--address", "somewhere"), "'somewhere' is no address; one is HOST:PORT"),
        (("--address", "1.2.3.4:99999"), "is no address"),
        (("--head", "--port", "70000"), "not in the range"),
        (("--head", "--num-cpus", "-1"), "not in the range"),
        (("--head", "--num-gpus", "many"), "not a valid float"),
        (("--head", "--memory", "-5"), "not in the range"),
        (("--head", "--object-store-memory", "2GB"), "not a valid int"),
        (("--head", "--resources", "licence=2"), "is no JSON"),
        (("--head", "--resources", "[1]"), "is no JSON object"),
        (("--head", "--resources", '{"CPU": 2}'), "CPU has an option of its own, --num-cpus"),
        (("--head", "--resources", '{"licence": -2}'), "must be a number from 0 on, got -2"),
        (("--head", "--resources", '{"licence": true}'), "must be a number from 0 on, got True"),
        (("--head", "--labels", "zone"), "'zone' has no '='"),
        (("--head", "--labels", "zone=a b"), "zone=a b is no label"),
        (("--head", "--labels", '{"zone": 1}'), "zone=1 is no label"),
        (("--head", "--labels", "ray.io/node-id=x"), "raybook's own to set"),
        (("--head", "--token-file", "/dev/null"), "holds 0 bytes, a token has 32"),
        (("--head", "--token-file", "/nowhere/token"), "the token cannot be written"),
        (("--head", "--frobnicate"), "No such option"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(own_world: Path, words: tuple[str, ...], said: str):
    done = run("start", *words)
    assert done.exit_code == 2, done.output
    assert said in done.output
    assert local_cluster.list_clusters() == []


def test_node_that_joins_another_machine_listens_where_that_machine_reaches_it():
    assert start_options.own_host(None) == "127.0.0.1"
    assert start_options.own_host("127.0.0.1:6399") == "127.0.0.1"
    assert start_options.own_host("localhost:6399") == "127.0.0.1"
    assert start_options.own_host("127.0.0.2:6399") in ("127.0.0.1", "127.0.0.2")
