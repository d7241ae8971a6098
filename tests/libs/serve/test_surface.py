"""Serve's names, signatures and checks, as code written for Ray finds them; in this process."""

from __future__ import annotations

import inspect
import logging

import pytest

import raybook
from raybook import serve
from raybook.serve import config, context, schema
from raybook.serve.core.names import DeploymentActorID, DeploymentID
from raybook.serve.exceptions import RayServeException
from raybook.serve.handle_options import DEFAULT

OPTIONS = [
    "name", "version", "num_replicas", "ray_actor_options", "placement_group_bundles", "placement_group_strategy",
    "placement_group_bundle_label_selector", "max_replicas_per_node", "user_config", "max_ongoing_requests",
    "max_queued_requests", "backpressure_config", "autoscaling_config", "graceful_shutdown_wait_loop_s",
    "graceful_shutdown_timeout_s", "health_check_period_s", "health_check_timeout_s", "logging_config",
    "request_router_config", "max_constructor_retry_count", "gang_scheduling_config", "deployment_actors",
    "rolling_update_percentage", "max_surge_percent",
]  # fmt: skip


def test_options_are_shown_by_name_and_mean_not_given_by_default():
    decorator = inspect.signature(serve.deployment).parameters
    assert list(decorator) == ["_func_or_class", *OPTIONS]
    assert {decorator[name].default for name in OPTIONS} == {DEFAULT.VALUE}
    assert decorator["_func_or_class"].default is None
    copy = inspect.signature(serve.deployment(lambda: None).options).parameters
    assert list(copy)[: len(OPTIONS) + 1] == ["func_or_class", *OPTIONS]


def test_options_may_be_given_by_position_and_unknown_ones_are_refused():
    @serve.deployment(None, "renamed")
    def f(): ...

    assert f.name == "renamed"
    assert f.options(None, "again").name == "again"
    with pytest.raises(TypeError, match="replicas"):
        serve.deployment(replicas=3)
    with pytest.raises(TypeError, match="replicas"):
        f.options(replicas=3)
    with pytest.raises(TypeError, match="name must be a string"):
        serve.deployment(name=3)(lambda: None)


def test_functions_take_no_arguments_of_constructors():
    f = serve.deployment(lambda: None)
    with pytest.raises(ValueError, match="init_args not supported for function deployments"):
        f.bind(1)
    with pytest.raises(ValueError, match="init_kwargs not supported for function deployments"):
        f.bind(a=1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"placement_group_bundles": [{"CPU": 1}], "ray_actor_options": {"num_cpus": 2}}, "`num_cpus` for the actor is 2"),
        ({"placement_group_bundles": [{"GPU": 1}]}, "`num_cpus` for the actor is 1"),
        ({"placement_group_bundle_label_selector": [{"a": "b"}]}, "`placement_group_bundles` must also be provided"),
        ({"max_queued_requests": 0}, "-1 .no limit. or a positive integer"),
        ({"gang_scheduling_config": {"gang_size": 2}, "num_replicas": 3}, "must be a multiple of gang_size"),
        ({"gang_scheduling_config": {"gang_size": 1}, "max_replicas_per_node": 3}, "not allowed when gang_scheduling"),
        ({"deployment_actors": [{"name": "a", "actor_class": "m:C"}] * 2}, "must have unique names"),
        ({"deployment_actors": [{"name": "a", "actor_class": int}]}, "must be a class with @remote"),
        ({"logging_config": {"log_level": "LOUD"}}, "log_level must be one of"),
        ({"logging_config": {"additional_log_standard_attrs": ["mood"]}}, "Unknown attribute 'mood'"),
    ],
)  # fmt: skip
def test_options_that_contradict_each_other_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        serve.deployment(**options)


def test_a_policy_that_cannot_be_imported_survives_num_replicas_auto():
    def policy(context):
        return 3, {}

    scaling = config.AutoscalingConfig(max_replicas=9, policy=config.AutoscalingPolicy(policy_function=policy))
    auto = serve.deployment(num_replicas="auto", autoscaling_config=scaling)(lambda: None)
    chosen = auto._deployment_config.autoscaling_config
    assert (chosen.min_replicas, chosen.max_replicas) == (1, 9)
    assert chosen.policy.get_policy()(None) == (3, {})


def test_logging_configs_are_equal_by_what_they_say():
    one = schema.LoggingConfig(encoding="JSON", log_level=logging.DEBUG)
    assert one == schema.LoggingConfig(encoding=schema.EncodingType.JSON, log_level="DEBUG")
    assert one != schema.LoggingConfig()
    assert one.log_level == "DEBUG"


def test_the_controller_takes_variables_of_the_environment_and_nothing_else():
    assert serve.ControllerOptions(runtime_env={"env_vars": {"A": "b"}}).runtime_env == {"env_vars": {"A": "b"}}
    for environment, words in (
        ({"pip": ["x"]}, r"disallowed keys \['pip'\]"),
        ({"env_vars": {"A": 1}}, "must be str"),
        ({"env_vars": ["A"]}, "must be a dict"),
    ):
        with pytest.raises(ValueError, match=words):
            serve.ControllerOptions(runtime_env=environment)
    with pytest.raises(ValueError, match="between 0.0 and 1.0"):
        serve.TracingConfig(sampling_ratio=2)


@pytest.mark.parametrize(
    ("app", "words"),
    [
        ({"import_path": "a:b:c"}, "at most one colon"),
        ({"import_path": ":b"}, "may not start or end with a colon"),
        ({"import_path": "a."}, "may not start or end with a dot"),
        ({"import_path": "a:b", "port": 1}, "Port 1 is set in the config for application `default`"),
        (
            {
                "import_path": "a:b",
                "external_scaler_enabled": True,
                "deployments": [{"name": "D", "num_replicas": "auto"}],
            },
            'autoscaling configured: "D"',
        ),
        (
            {"import_path": "a:b", "deployments": [{"name": "D", "num_replicas": 2, "autoscaling_config": {}}]},
            "Manually setting num_replicas is not allowed",
        ),
        ({"import_path": "a:b", "deployments": [{"name": "D", "max_queued_requests": 0}]}, "or a positive integer"),
    ],
)
def test_configs_that_contradict_themselves_are_refused(app, words):
    with pytest.raises(ValueError, match=words):
        schema.ServeDeploySchema(applications=[app])


def test_statuses_have_numbers_for_metrics():
    assert [
        each.to_numeric() for each in (schema.ApplicationStatus.DEPLOY_FAILED, schema.ApplicationStatus.RUNNING)
    ] == [1, 6]
    assert schema.ProxyStatus.HEALTHY.to_numeric() == 2
    assert schema.ServeDeploySchema.get_empty_schema_dict() == {"applications": []}


def test_what_belongs_to_replicas_says_so_elsewhere():
    for ask, words in (
        (lambda: serve.get_deployment_actor("a"), "deployment replica"),
        (serve.get_deployment_actor_context, "deployment actor"),
        (serve.get_replica_context, "within a Ray Serve deployment"),
    ):
        with pytest.raises(RayServeException, match=words):
            ask()
    assert serve.get_trace_context() is None
    assert context._get_serve_request_context().request_id == ""
    assert not raybook.is_initialized()


def test_names_of_shared_actors_are_read_back():
    actor_id = DeploymentActorID("tree#1", DeploymentID("D", "app"), "v.2")
    assert DeploymentActorID.from_full_id_str(actor_id.to_full_id_str()) == actor_id
    with pytest.raises(ValueError, match="not the name"):
        DeploymentActorID.from_full_id_str("SERVE_REPLICA::app#D#x")
