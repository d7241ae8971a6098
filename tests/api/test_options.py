"""Options: every wrong one is refused at the call site, in words that say what to do; right ones become records."""

import pytest

from raybook.api import NodeAffinitySchedulingStrategy, remote
from raybook.api.options import ACTOR_OPTIONS, TASK_OPTIONS, actor_options, check_options, task_options
from raybook.base.resources import UNIT


def work(x=None):
    return x


class Worker:
    def run(self):
        return 1


def test_unknown_task_option_lists_the_valid_ones():
    with pytest.raises(ValueError, match="Invalid option keyword num_cpu for remote functions.*num_cpus"):
        remote(num_cpu=2)(work)


def test_unknown_actor_option_lists_the_valid_ones():
    with pytest.raises(ValueError, match="Invalid option keyword max_retries for actors.*max_restarts"):
        remote(max_retries=2)(Worker)


def test_unknown_option_in_options_is_refused():
    with pytest.raises(ValueError, match="Invalid option keyword gpus"):
        remote(work).options(gpus=1)


@pytest.mark.parametrize("options", [{"num_cpus": -1}, {"num_gpus": -0.5}, {"memory": -1}, {"resources": {"x": -1}}])
@pytest.mark.parametrize("target", [work, Worker])
def test_negative_amounts_are_refused(options, target):
    with pytest.raises(ValueError, match="cannot be negative"):
        remote(**options)(target)


@pytest.mark.parametrize("options", [{"num_cpus": 0.00001}, {"num_gpus": 0.33333}, {"resources": {"x": 1.23456}}])
def test_amounts_finer_than_a_ten_thousandth_are_refused(options):
    with pytest.raises(ValueError, match="cannot go beyond 0.0001"):
        remote(**options)(work)


def test_share_of_a_gpu_above_one_is_refused():
    with pytest.raises(ValueError, match="whole numbers.*Ask for 1 or 2"):
        remote(num_gpus=1.5)(work)


@pytest.mark.parametrize(("name", "keyword"), [("CPU", "num_cpus"), ("GPU", "num_gpus"), ("memory", "memory")])
def test_builtin_names_in_resources_point_to_their_keyword(name, keyword):
    with pytest.raises(ValueError, match=f"Use the .*'{keyword}'.* keyword instead of .*'{name}'"):
        remote(resources={name: 1})(work)


@pytest.mark.parametrize(
    "options",
    [
        {"num_cpus": "2"},
        {"num_cpus": True},
        {"resources": ["x"]},
        {"resources": {1: 1}},
        {"resources": {"x": None}},
        {"num_returns": 1.5},
        {"num_returns": "two"},
        {"max_retries": 0.5},
        {"max_retries": True},
        {"name": 3},
        {"retry_exceptions": ValueError},
        {"runtime_env": "conda"},
        {"scheduling_strategy": 3},
        {"fallback_strategy": "zone"},
        {"enable_task_events": 1},
    ],
)
def test_task_options_of_the_wrong_type_are_refused(options):
    with pytest.raises(TypeError):
        remote(**options)(work)


@pytest.mark.parametrize(
    "options",
    [
        {"num_returns": -1},
        {"max_retries": -2},
        {"max_calls": -1},
        {"num_cpus": float("inf")},
        {"num_cpus": float("nan")},
        {"name": ""},
        {"scheduling_strategy": "RANDOM"},
    ],
)
def test_task_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError):
        remote(**options)(work)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"runtime_env": {"image_uri": "x"}}, "not supported"),
    ],
)
def test_options_that_do_nothing_yet_say_so(options, words):
    with pytest.raises(ValueError, match=words):
        remote(**options)(work)


def test_harmless_values_of_later_options_pass():
    check_options({"placement_group": "default", "runtime_env": {}, "fallback_strategy": None}, TASK_OPTIONS, "x")


def test_max_calls_is_for_the_decorator_only():
    with pytest.raises(ValueError, match=r"'max_calls' is not supported in '.options\(\)'"):
        remote(work).options(max_calls=1)


def test_concurrency_groups_are_for_the_decorator_only():
    with pytest.raises(ValueError, match="'concurrency_groups' is not supported in '.options"):
        remote(Worker).options(concurrency_groups={"io": 2})


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"name": 1}, TypeError),
        ({"name": ""}, ValueError),
        ({"namespace": 1}, TypeError),
        ({"namespace": ""}, ValueError),
        ({"lifetime": "forever"}, ValueError),
        ({"max_restarts": -2}, ValueError),
        ({"max_restarts": "2"}, TypeError),
        ({"max_task_retries": -2}, ValueError),
        ({"max_concurrency": -1}, ValueError),
        ({"max_pending_calls": 0}, ValueError),
        ({"max_pending_calls": -2}, ValueError),
        ({"get_if_exists": 1}, TypeError),
        ({"concurrency_groups": ["io"]}, TypeError),
        ({"concurrency_groups": {"io": 0}}, ValueError),
        ({"num_returns": 2}, ValueError),
    ],
)
def test_wrong_actor_options_are_refused(options, kind):
    with pytest.raises(kind):
        remote(**options)(Worker)


def test_get_if_exists_needs_a_name():
    with pytest.raises(ValueError, match="name must be specified to use `get_if_exists`"):
        remote(Worker).options(get_if_exists=True)


def test_task_defaults():
    record = task_options({}, "work")
    assert dict(record.scheduling_class.resources) == {"CPU": UNIT}
    assert (record.num_returns, record.max_retries, record.retry_exceptions, record.max_calls) == (1, 3, False, 0)


def test_zero_cpus_are_left_out_of_the_shape():
    assert task_options({"num_cpus": 0}, "work").scheduling_class.resources == ()


def test_gpu_tasks_end_their_worker_unless_told_otherwise():
    assert task_options({"num_gpus": 0.5}, "work").max_calls == 1
    assert task_options({"num_gpus": 0.5, "max_calls": 0}, "work").max_calls == 0


def test_equal_options_make_one_scheduling_class():
    first = task_options({"num_cpus": 1, "resources": {"b": 1, "a": 2}}, "f").scheduling_class
    second = task_options({"resources": {"a": 2, "b": 1}}, "g").scheduling_class
    assert first == second and hash(first) == hash(second)


def actor(options, **more):
    check_options(options, ACTOR_OPTIONS, "actors")
    return actor_options(options, "Worker", {"run": 1}, {}, more.get("is_async", False))


def test_actor_that_asks_for_nothing_needs_a_cpu_to_start_and_holds_none():
    record = actor({})
    assert record.placement == {"CPU": UNIT} and record.resources == {}


@pytest.mark.parametrize(
    ("options", "held"),
    [
        ({"num_cpus": 2}, {"CPU": 2 * UNIT}),
        ({"num_cpus": 0}, {}),
        ({"num_cpus": 0, "num_gpus": 1}, {"GPU": UNIT}),
        ({"num_gpus": 1}, {"CPU": UNIT, "GPU": UNIT}),
        ({"resources": {"disk": 1}}, {"CPU": UNIT, "disk": UNIT}),
    ],
)
def test_actor_that_asks_for_something_holds_it(options, held):
    record = actor(options)
    assert record.placement == record.resources == held


def test_async_actor_runs_a_thousand_calls_at_once():
    assert actor({}, is_async=True).max_concurrency == 1000
    assert actor({}).max_concurrency == actor({"max_concurrency": 0}).max_concurrency == 1


def test_strategies_become_strings():
    node = "0123456789abcdef"
    hard = task_options({"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}, "f")
    soft = task_options({"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=True)}, "f")
    assert hard.scheduling_class.strategy == f"node:{node}"
    assert soft.scheduling_class.strategy == f"node:{node}:soft"
    assert task_options({"scheduling_strategy": "SPREAD"}, "f").scheduling_class.strategy == "spread"
    assert task_options({"scheduling_strategy": "DEFAULT"}, "f").scheduling_class.strategy == ""


def test_strategy_needs_a_real_node_id():
    with pytest.raises(ValueError, match="must be a valid hex string"):
        NodeAffinitySchedulingStrategy("node-1", soft=True)
