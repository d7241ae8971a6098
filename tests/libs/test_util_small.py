"""Small parts of raybook.util: saying things once, logs by the state API, names of accelerators, annotations."""

from __future__ import annotations

import pytest

import raybook as ray
from raybook.api.context import current_runtime
from raybook.util import accelerators, debug
from raybook.util.state import get_log, list_logs
from raybook.util.state.exception import RayStateApiException


@pytest.fixture
def fresh_debug(monkeypatch):
    monkeypatch.setitem(current_runtime.lasting, "log_once", debug._Said())


def test_log_once_is_true_once_for_each_key_until_it_is_reset(fresh_debug):
    assert [debug.log_once("a"), debug.log_once("a"), debug.log_once("b")] == [True, False, True]
    debug.reset_log_once("a")
    assert debug.log_once("a") and not debug.log_once("b")
    debug.reset_log_once()
    assert debug.log_once("b")
    debug.disable_log_once_globally()
    assert not debug.log_once("new")


def test_periodic_logging_forgets_after_a_minute(fresh_debug, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(debug.time, "monotonic", lambda: now[0])
    debug.enable_periodic_logging()
    assert debug.log_once("a")
    now[0] = 61
    assert not debug.log_once("a"), "this is when it is forgotten"
    assert debug.log_once("a")


def test_names_of_accelerators_are_rays():
    assert accelerators.NVIDIA_A100 == accelerators.NVIDIA_TESLA_A100 == "A100"
    assert (accelerators.GOOGLE_TPU_V4, accelerators.AWS_NEURON_CORE) == ("TPU-V4", "aws-neuron-core")


# Logs


@pytest.fixture(scope="module")
def speaker(cluster):
    @ray.remote
    class Speaker:
        def say(self, text):
            print(text, flush=True)
            return ray.get_runtime_context().get_task_id()

        def pid(self):
            import os

            return os.getpid()

    return Speaker.remote()


def test_what_a_worker_printed_is_found_by_actor_task_pid_and_file(speaker):
    task_id = ray.get(speaker.say.remote("\x1b[31mred\x1b[0m"))
    ray.get(speaker.say.remote("second"))
    ways = [{"actor_id": speaker._actor_id.hex()}, {"pid": ray.get(speaker.pid.remote())}, {"task_id": task_id}]
    for way in ways:
        assert list(get_log(**way)) == ["\x1b[31mred\x1b[0m\n", "second\n"], way
    assert list(get_log(**ways[0], tail=1)) == ["second\n"]
    assert list(get_log(**ways[0], filter_ansi_code=True))[0] == "red\n"
    assert list(get_log(**ways[0], suffix="err", encoding=None)) == []
    names = list_logs(node_id=ray.nodes()[0]["NodeID"], glob_filter="worker*.out")
    assert list(names) == ["worker_out"]
    assert any(list(get_log(filename=name))[-1:] == ["second\n"] for name in names["worker_out"])


def test_a_log_can_be_followed(speaker):
    ray.get(speaker.say.remote("before"))
    lines = get_log(actor_id=speaker._actor_id.hex(), tail=1, follow=True)
    assert next(lines) == "before\n"
    ray.get(speaker.say.remote("after"))
    assert next(lines) == "after\n"


@pytest.mark.parametrize(
    "asked",
    [
        {"filename": "absent.out"},
        {"actor_id": "00" * 12},
        {"node_id": "00" * 8},
        {"submission_id": "x"},
        {"suffix": "x"},
    ],
)
def test_a_log_that_is_not_there_is_an_error_that_says_where_to_look(speaker, asked):
    with pytest.raises(RayStateApiException):
        list(get_log(**asked))


def test_a_driver_on_its_cluster_is_no_client(cluster):
    client = ray.util.client
    assert not client.ray.is_connected() and client.num_connected_contexts() == 0
    ray.util.disconnect()
    assert ray.is_initialized(), "it was no client's connection"
    with pytest.warns(DeprecationWarning), pytest.raises(RuntimeError, match="twice"):
        ray.util.connect("127.0.0.1:1")
