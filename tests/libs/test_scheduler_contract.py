"""What every scheduler must keep. A new scheduler is added to SCHEDULERS."""

from __future__ import annotations

import math
import random

import pytest

from raybook.tune.core.trial_events import CONTINUE, VERDICTS
from raybook.tune.schedulers import (
    PB2,
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandForBOHB,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    ResourceChangingScheduler,
    create_scheduler,
)

_EVERY_THREE = {"time_attr": "training_iteration", "perturbation_interval": 3}
_MUTATIONS = {"hyperparam_mutations": {"lr": [1, 2, 3]}, "require_attrs": False}

SCHEDULERS = {
    "fifo": FIFOScheduler,
    "asha": lambda: AsyncHyperBandScheduler(max_t=20, reduction_factor=2),
    "asha_brackets": lambda: AsyncHyperBandScheduler(max_t=20, reduction_factor=3, brackets=3),
    "hyperband": lambda: HyperBandScheduler(max_t=20, reduction_factor=3),
    "hb_bohb": lambda: HyperBandForBOHB(max_t=20, reduction_factor=3),
    "pbt": lambda: PopulationBasedTraining(**_EVERY_THREE, **_MUTATIONS),
    "pbt_synch": lambda: PopulationBasedTraining(**_EVERY_THREE, **_MUTATIONS, synch=True),
    "pb2": lambda: PB2(**_EVERY_THREE, hyperparam_bounds={"lr": [0.0, 1.0]}, require_attrs=False),
    "resource_changing": lambda: ResourceChangingScheduler(AsyncHyperBandScheduler(max_t=20)),
    "median": lambda: MedianStoppingRule(time_attr="training_iteration", grace_period=2, min_samples_required=2),
}


@pytest.fixture(params=SCHEDULERS)
def make(request):
    def build(mode="max"):
        scheduler = SCHEDULERS[request.param]()
        assert scheduler.set_search_properties("acc", mode)
        return scheduler

    return build


def play(scheduler, seed, values=None, sign=1.0):
    """Feed a seeded interleaving of ten trials; return every verdict in order."""
    rng = random.Random(seed)
    random.seed(seed)  # Population based training draws from the global generator.
    progress = {f"t{number}": 0 for number in range(10)}
    for trial in progress:
        scheduler.add_trial(trial, {})
    verdicts = []
    while progress:
        trial = rng.choice(sorted(progress))
        progress[trial] += 1
        acc = sign * (values(rng) if values else rng.random())
        verdict = scheduler.judge(trial, {"training_iteration": progress[trial], "acc": acc})
        verdicts.append(verdict)
        known = {f"t{number}" for number in range(10)}
        assert all(getattr(order, "trial_id", trial) in known for order in scheduler.take_orders())
        if verdict != CONTINUE or progress[trial] == 25:
            scheduler.complete_trial(trial, {"training_iteration": progress[trial], "acc": acc})
            del progress[trial]
    return verdicts


def test_every_verdict_is_one_of_the_four(make):
    assert set(play(make(), 1)) <= set(VERDICTS)


def test_equal_calls_give_equal_verdicts(make):
    assert play(make(), 7) == play(make(), 7)


def test_min_of_the_negated_metric_is_max(make):
    assert play(make("max"), 3) == play(make("min"), 3, sign=-1.0)


def test_nan_and_missing_metrics_break_nothing(make):
    assert set(play(make(), 5, values=lambda rng: rng.choice([math.nan, 0.5]))) <= set(VERDICTS)
    scheduler = make()
    scheduler.add_trial("a", {})
    assert scheduler.judge("a", {"training_iteration": 1}) == CONTINUE


def test_a_trial_that_failed_or_never_reported_is_forgotten_quietly(make):
    scheduler = make()
    for trial in "ab":
        scheduler.add_trial(trial, {})
    scheduler.fail_trial("a")
    scheduler.complete_trial("b", {})


def test_only_a_waiting_trial_is_chosen(make):
    scheduler = make()
    assert scheduler.choose([]) is None
    assert scheduler.choose(["x", "y"]) in (None, "x", "y")


def test_contradicting_metric_or_mode_is_refused(make):
    scheduler = make()
    assert not scheduler.set_search_properties("loss", "max")
    assert not scheduler.set_search_properties("acc", "min")
    assert scheduler.set_search_properties("acc", "max")


def test_a_scheduler_is_made_by_its_name_with_the_arguments_it_knows():
    made = create_scheduler("pbt", hyperparam_mutations={"lr": [1]}, perturbation_interval=5, unknown=1)
    assert isinstance(made, PopulationBasedTraining)
    assert isinstance(create_scheduler("AsyncHyperBand", max_t=7), AsyncHyperBandScheduler)
    with pytest.raises(ValueError, match="must be one of"):
        create_scheduler("best")


def test_a_scheduler_is_saved_and_goes_on_alike(make, tmp_path):
    first, second = make(), make()
    play(first, 11)
    first.save(str(tmp_path / "scheduler.pkl"))
    second.restore(str(tmp_path / "scheduler.pkl"))
    for scheduler in (first, second):
        scheduler.add_trial("new", {"lr": 1})
    result = {"training_iteration": 4, "acc": 0.1}
    random.seed(1)
    verdict = first.judge("new", result)
    random.seed(1)
    assert second.judge("new", result) == verdict
