"""init and shutdown: what they refuse, in which words, and what is there before and after."""

from __future__ import annotations

import pytest

from raybook.exceptions import RaySystemError


def test_an_unknown_keyword_is_named(stopped):
    with pytest.raises(RuntimeError, match=r"Unknown keyword argument\(s\): foo"):
        stopped.init(foo=1)


def test_a_second_init_says_how_to_mean_it(stopped):
    stopped.init(num_cpus=1)
    with pytest.raises(RuntimeError, match="Maybe you called ray.init twice by accident.*ignore_reinit_error=True"):
        stopped.init()
    assert type(stopped.init(ignore_reinit_error=True)).__name__ == "RayContext"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_cpus": 1}, "num_cpus and num_gpus must not be provided"),
        ({"object_store_memory": 10**9}, "object_store_memory must not be provided"),
        ({"resources": {"a": 1}}, "resources must not be provided"),
        ({"labels": {"a": "b"}}, "labels must not be provided"),
    ],
)
def test_settings_of_a_cluster_do_not_go_with_an_address(stopped, options, words):
    with pytest.raises(ValueError, match=f"When connecting to an existing cluster, {words}"):
        stopped.init(address="127.0.0.1:1", **options)


def test_an_address_in_the_environment_counts(stopped, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ValueError, match="When connecting to an existing cluster"):
        stopped.init(num_cpus=1)


def test_a_store_too_small_to_be_one_is_refused_at_once(stopped):
    with pytest.raises(ValueError, match="memory usage at 10 bytes, but the minimum allowed is 78643200 bytes"):
        stopped.init(object_store_memory=10)


@pytest.mark.parametrize("verb", ["nodes", "cluster_resources", "available_resources", "timeline"])
def test_questions_about_no_cluster_are_system_errors_and_start_none(stopped, verb):
    with pytest.raises(RaySystemError, match="Ray has not been started yet"):
        getattr(stopped, verb)()
    with pytest.raises(RuntimeError):
        getattr(stopped, verb)()
    assert not stopped.is_initialized()


def test_the_context_is_a_mapping_that_ends_the_cluster(stopped):
    with stopped.init(num_cpus=1, namespace="mine") as context:
        assert dict(context) == context.address_info
        assert {"address", "gcs_address", "node_id", "node_ip_address", "session_dir", "object_store_address",
                "raylet_socket_name", "redis_address", "metrics_export_port", "webui_url",
                "dashboard_agent_listen_port"} <= set(context)  # fmt: skip
        assert context["node_id"] == stopped.get_runtime_context().get_node_id()
        assert stopped.get_runtime_context().namespace == "mine"
        ref = stopped.put(1)
    assert not stopped.is_initialized()
    with pytest.raises(ValueError, match="earlier raybook session"):
        stopped.get(ref)


def test_nodes_have_rays_keys(stopped):
    stopped.init(num_cpus=1)
    (node,) = stopped.nodes()
    assert {"NodeID", "Alive", "alive", "NodeManagerAddress", "NodeManagerHostname", "NodeManagerPort",
            "ObjectManagerPort", "ObjectStoreSocketName", "RayletSocketName", "MetricsExportPort", "MetricsAgentPort",
            "DashboardAgentListenPort", "NodeName", "RuntimeEnvAgentPort", "DeathReason", "DeathReasonMessage",
            "Resources", "Labels"} <= set(node)  # fmt: skip
