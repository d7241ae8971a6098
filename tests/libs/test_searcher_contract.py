"""What every searcher must keep. A new searcher is added to SEARCHERS."""

from __future__ import annotations

import math

import pytest

from raybook import tune
from raybook.tune.core.searcher import FINISHED, ConcurrencyLimiter
from raybook.tune.search.basic_variant import BasicVariantGenerator
from raybook.tune.search.optuna import OptunaSearch

SPACE = {"lr": tune.loguniform(1e-4, 1e-1), "net": {"width": tune.choice([8, 16, 32])}, "fixed": 3}
SEARCHERS = {
    "basic": lambda: BasicVariantGenerator(random_state=0),
    "optuna": lambda: OptunaSearch(seed=0),
    "limited": lambda: ConcurrencyLimiter(BasicVariantGenerator(random_state=0), max_concurrent=2),
    "limited_batch": lambda: ConcurrencyLimiter(OptunaSearch(seed=0), max_concurrent=2, batch=True),
}


@pytest.fixture(params=SEARCHERS)
def searcher(request):
    made = SEARCHERS[request.param]()
    assert made.set_search_properties("acc", "max", SPACE, num_samples=8)
    return made


def complete(searcher, trial_id, acc):
    result = {"training_iteration": 1, "acc": acc}
    searcher.on_trial_result(trial_id, result)
    searcher.on_trial_complete(trial_id, result)


def test_a_suggestion_fills_the_whole_space(searcher):
    config = searcher.suggest("t0")
    assert 1e-4 <= config["lr"] <= 1e-1
    assert config["net"]["width"] in (8, 16, 32) and config["fixed"] == 3


def test_eight_trials_one_by_one_then_finished_or_more(searcher):
    for number in range(8):
        assert isinstance(searcher.suggest(f"t{number}"), dict)
        complete(searcher, f"t{number}", number / 8)
    assert searcher.suggest("t8") == FINISHED or isinstance(searcher.suggest("t9"), dict)


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_value_that_is_no_number_breaks_nothing(searcher, value):
    searcher.suggest("t0")
    complete(searcher, "t0", value)
    assert isinstance(searcher.suggest("t1"), dict)


def test_a_failed_trial_and_one_without_a_report_break_nothing(searcher):
    searcher.suggest("t0")
    searcher.on_trial_complete("t0", None, error=True)
    searcher.suggest("t1")
    searcher.on_trial_complete("t1", None)
    assert isinstance(searcher.suggest("t2"), dict)


def test_equal_seeds_give_equal_suggestions():
    for make in SEARCHERS.values():
        runs = []
        for _ in range(2):
            searcher = make()
            searcher.set_search_properties("acc", "max", SPACE, num_samples=6)
            configs = []
            for number in range(6):
                configs.append(searcher.suggest(f"t{number}"))
                complete(searcher, f"t{number}", configs[-1]["lr"])
            runs.append(configs)
        assert runs[0] == runs[1]


def test_the_limiter_hands_out_no_more_than_its_limit():
    limiter = ConcurrencyLimiter(BasicVariantGenerator(random_state=0), max_concurrent=2)
    limiter.set_search_properties("acc", "max", SPACE, num_samples=5)
    assert isinstance(limiter.suggest("a"), dict) and isinstance(limiter.suggest("b"), dict)
    assert limiter.suggest("c") is None
    complete(limiter, "a", 1.0)
    assert isinstance(limiter.suggest("c"), dict)


def test_a_batch_is_told_together_once_all_are_back():
    class Listener(BasicVariantGenerator):
        told: list[str] = []

        def on_trial_complete(self, trial_id, result=None, error=False):
            self.told.append(trial_id)

    inner = Listener(random_state=0)
    limiter = ConcurrencyLimiter(inner, max_concurrent=2, batch=True)
    limiter.set_search_properties("acc", "max", SPACE, num_samples=5)
    limiter.suggest("a"), limiter.suggest("b")
    complete(limiter, "a", 1.0)
    assert inner.told == [] and limiter.suggest("c") is None
    complete(limiter, "b", 1.0)
    assert inner.told == ["a", "b"]
    assert isinstance(limiter.suggest("c"), dict)


def test_given_points_come_first_and_take_the_place_of_samples():
    searcher = BasicVariantGenerator(points_to_evaluate=[{"lr": 0.5}], random_state=0)
    searcher.set_search_properties("acc", "max", {**SPACE, "g": tune.grid_search([1, 2])}, num_samples=2)
    configs = [searcher.suggest(str(number)) for number in range(4)]
    assert configs[0]["lr"] == 0.5 and configs[0]["g"] == 1
    assert [config["g"] for config in configs[1:3]] == [1, 2]
    assert configs[3] == FINISHED and searcher.total_samples == 3


def test_wrong_arguments_are_refused():
    with pytest.raises(TypeError):
        ConcurrencyLimiter("optuna", 2)
    with pytest.raises(ValueError):
        ConcurrencyLimiter(BasicVariantGenerator(), 0)
    with pytest.raises(TypeError):
        BasicVariantGenerator(random_state="seed")
