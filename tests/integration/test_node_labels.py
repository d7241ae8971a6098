"""NodeLabelSchedulingStrategy: tasks and actors run where labels match, in the words of Ray's operators."""

from __future__ import annotations

import pytest

import raybook as ray
from raybook.util.scheduling_strategies import DoesNotExist, Exists, In, NodeLabelSchedulingStrategy, NotIn

pytestmark = pytest.mark.raybook_only


@pytest.fixture(scope="module")
def labelled(shutdown_after_module):
    ray.shutdown()
    ray.init(num_cpus=2, labels={"zone": "a", "disk": "ssd"})


@pytest.mark.parametrize(
    ("hard", "fits"),
    [
        ({"zone": In("a", "b"), "disk": Exists()}, True),
        ({"zone": NotIn("b"), "gpu": DoesNotExist()}, True),
        ({"gpu": NotIn("A100")}, True),
        ({"zone": In("b")}, False),
        ({"gpu": Exists()}, False),
        ({"disk": DoesNotExist()}, False),
    ],
)
def test_tasks_and_actors_run_where_the_labels_match(labelled, hard, fits):
    strategy = NodeLabelSchedulingStrategy(hard)

    @ray.remote(scheduling_strategy=strategy)
    class Here:
        def zone(self):
            return ray.get_runtime_context().get_node_labels()["zone"]

    task = ray.remote(lambda: "ran").options(scheduling_strategy=strategy).remote()
    actor = Here.remote()
    if fits:
        assert ray.get([task, actor.zone.remote()], timeout=10) == ["ran", "a"]
    else:
        assert ray.wait([task, actor.zone.remote()], timeout=0.1)[0] == []
        ray.kill(actor)
        ray.cancel(task)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: NodeLabelSchedulingStrategy({}), "cannot both be empty"),
        (lambda: NodeLabelSchedulingStrategy("zone"), "must be a map"),
        (lambda: NodeLabelSchedulingStrategy({"zone": "a"}), "must be one of the `In`"),
        (lambda: NodeLabelSchedulingStrategy({1: Exists()}), "must be of type str"),
        (lambda: NodeLabelSchedulingStrategy({"zone": Exists()}, soft={"a": "b"}), "soft parameter must be one of"),
        (lambda: In(), "non-empty tuple"),
        (lambda: NotIn(3), "position 0"),
    ],
)
def test_what_cannot_be_meant_is_a_value_error(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_a_label_may_be_asked_about_once():
    strategy = NodeLabelSchedulingStrategy({"zone": In("a")})
    with pytest.raises(ValueError, match="both ask about the label 'zone'"):
        ray.remote(scheduling_strategy=strategy, label_selector={"zone": "a"})(lambda: None).remote()
