"""init and shutdown: what is refused, what is idempotent, what the context shows (behaviours 55, 56)."""

import os

import pytest

from raybook.api.context import current_runtime
from raybook.api.init_options import make_init_options

DEFAULTS = {
    "num_cpus": None,
    "num_gpus": None,
    "memory": None,
    "resources": None,
    "labels": None,
    "object_store_memory": None,
    "namespace": None,
    "local_mode": False,
    "log_to_driver": True,
    "runtime_env": None,
    "_temp_dir": None,
    "persist": False,
    "name": None,
    "autoscale": None,
    "_kernel_id": "",
    "metrics_port": None,
    "include_dashboard": None,
    "dashboard_host": "127.0.0.1",
    "dashboard_port": None,
    "logging": "",
    "session": None,
    "token_file": None,
}


def options(address=None, environ=None, **asked):
    return make_init_options(address, environ or {}, {**DEFAULTS, **asked})


def test_second_init_is_refused_and_says_what_to_do(ray):
    with pytest.raises(RuntimeError, match=r"Maybe you called ray.init twice by accident\?.*ignore_reinit_error=True"):
        ray.init(local_mode=True)
    assert ray.get(ray.put(1)) == 1


def test_second_init_may_be_ignored(ray):
    context = ray.init(ignore_reinit_error=True)
    assert context["address"] == "local_mode"


def test_shutdown_is_idempotent(stopped):
    stopped.init(local_mode=True)
    stopped.shutdown()
    stopped.shutdown()
    assert not stopped.is_initialized()


def test_context_is_a_record_a_dict_and_a_manager(stopped):
    with stopped.init(local_mode=True, namespace="n") as context:
        assert stopped.is_initialized()
        assert context.address_info["node_id"] == context["node_id"] == stopped.nodes()[0]["NodeID"]
        assert set(context) == set(context.keys()) and "gcs_address" in context
        assert context.dashboard_url == "" and context["webui_url"] == ""
        assert context.ray_version == stopped.__version__
        assert context.python_version.count(".") == 2
    assert not stopped.is_initialized()


def test_context_reads_well_as_text_and_html(ray):
    context = ray.init(ignore_reinit_error=True)
    assert repr(context).startswith("RayContext(address='local_mode'")
    assert "<td style='text-align:left'>local_mode</td>" in context._repr_html_()


def test_unknown_keyword_is_refused_by_name(stopped):
    with pytest.raises(RuntimeError, match=r"Unknown keyword argument\(s\): num_cpu"):
        stopped.init(num_cpu=2)


@pytest.mark.parametrize(
    "asked",
    [
        {"num_cpus": 2},
        {"num_gpus": 1},
        {"memory": 1e9},
        {"resources": {"x": 1}},
        {"object_store_memory": 1 << 30},
        {"labels": {"a": "b"}},
        {"name": "mine"},
        {"persist": True},
    ],
)
def test_cluster_settings_with_an_address_are_refused(asked):
    with pytest.raises(ValueError, match=f"When connecting to an existing cluster.*{next(iter(asked))}.* must not"):
        options("auto", **asked)


def test_address_from_the_environment_counts():
    assert options(None, {"RAY_ADDRESS": "mine"}).address == "mine"
    assert options(None, {"RAYBOOK_ADDRESS": "ours", "RAY_ADDRESS": "mine"}).address == "ours"
    assert options("local", {"RAY_ADDRESS": "mine"}).address is None
    assert options("other", {"RAY_ADDRESS": "mine"}).address == "other"
    assert options(None, {"RAY_ADDRESS": "mine"}, local_mode=True).address is None


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ({"num_cpus": -1}, ValueError),
        ({"num_cpus": "2"}, TypeError),
        ({"num_gpus": 1.5}, ValueError),
        ({"resources": {"GPU": 1}}, ValueError),
        ({"resources": {"x": -1}}, ValueError),
        ({"object_store_memory": 0}, ValueError),
        ({"object_store_memory": "1GB"}, TypeError),
        ({"labels": {"a": 1}}, TypeError),
        ({"namespace": 1}, TypeError),
        ({"namespace": ""}, ValueError),
        ({"name": ""}, ValueError),
        ({"runtime_env": {"conda": ["x"]}}, TypeError),
        ({"_temp_dir": "/somewhere"}, ValueError),
        ({"job_config": object()}, TypeError),
        ({"logging_config": "JSON"}, TypeError),
        ({"no_such_keyword": 1}, RuntimeError),
        ({"enable_resource_isolation": True}, ValueError),
        ({"address": 3}, TypeError),
        ({"address": "ray://host:10001"}, ConnectionError),
        ({"address": "ray://host"}, ValueError),
        ({"session": "stays"}, ValueError),
    ],
)
def test_wrong_arguments_are_refused_and_nothing_is_started(stopped, asked, kind):
    with pytest.raises(kind):
        stopped.init(**asked)
    assert not stopped.is_initialized()


def test_address_of_nothing_is_a_connection_error(stopped, monkeypatch, tmp_path):
    monkeypatch.setenv("RAYBOOK_REGISTRY_DIR", str(tmp_path))
    for address in ("auto", "nobody", "unix:/nowhere/raylet.sock"):
        with pytest.raises(ConnectionError):
            stopped.init(address=address)
    assert not stopped.is_initialized()


def test_verbs_that_do_not_start_raybook_say_how(stopped):
    for verb in (stopped.nodes, stopped.cluster_resources, stopped.available_resources, stopped.timeline):
        with pytest.raises(RuntimeError, match=r"not been started yet. You can start Ray with 'ray.init\(\)'"):
            verb()


def test_first_verb_starts_raybook(stopped, monkeypatch):
    started = []
    monkeypatch.setattr(current_runtime, "auto_start", lambda: started.append(stopped.init(local_mode=True)))

    @stopped.remote
    def one():
        return 1

    assert stopped.get(one.remote()) == 1
    assert len(started) == 1


def test_forked_child_may_init_for_itself(ray):
    child = os.fork()
    if child == 0:
        ray.init(local_mode=True)
        os._exit(0 if ray.get(ray.put(3)) == 3 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_publish_fact_does_nothing_when_not_started_and_reaches_subscribers_when_it_is(stopped):
    stopped.publish_fact("trial", "1", {"loss": 0.5})
    stopped.init(local_mode=True)
    seen = []
    unsubscribe = current_runtime.engine.subscribe_facts(seen.append)
    stopped.publish_fact("trial", "1", {"loss": 0.25})
    unsubscribe()
    stopped.publish_fact("trial", "1", None)
    assert [delta.reset for delta in seen] == [True, False]
    assert seen[1].facts[0].row == {"loss": 0.25}
