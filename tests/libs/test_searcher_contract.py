"""What every searcher must keep. A new searcher is added to SEARCHERS."""

from __future__ import annotations

import math

import pytest

from raybook import tune
from raybook.tune.core.concurrency_limiter import ConcurrencyLimiter
from raybook.tune.core.searcher import FINISHED
from raybook.tune.search import Repeater, create_searcher
from raybook.tune.search.basic_variant import BasicVariantGenerator
from raybook.tune.search.bayesopt import BayesOptSearch
from raybook.tune.search.hyperopt import HyperOptSearch
from raybook.tune.search.optuna import OptunaSearch

SPACE = {"lr": tune.loguniform(1e-4, 1e-1), "net": {"width": tune.choice([8, 16, 32])}, "fixed": 3}
SEARCHERS = {
    "basic": lambda: BasicVariantGenerator(random_state=0),
    "optuna": lambda: OptunaSearch(seed=0),
    "limited": lambda: ConcurrencyLimiter(BasicVariantGenerator(random_state=0), max_concurrent=2),
    "hyperopt": lambda: HyperOptSearch(random_state_seed=0, n_initial_points=2),
    "repeated": lambda: Repeater(OptunaSearch(seed=0), repeat=2, set_index=False),
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


def test_a_searcher_is_made_by_its_name_with_the_arguments_it_knows():
    made = create_searcher("optuna", metric="acc", mode="max", unknown=1)
    assert isinstance(made, OptunaSearch) and made.metric == "acc"
    assert isinstance(create_searcher("Random"), BasicVariantGenerator)
    with pytest.raises(ValueError, match="must be one of"):
        create_searcher("best")


@pytest.mark.parametrize("name", ["ax", "bohb", "nevergrad", "hebo", "zoopt"])
def test_a_searcher_without_its_library_says_which_one_is_missing(name):
    with pytest.raises((ImportError, NotImplementedError), match="needs the package|has no adapter"):
        create_searcher(name)


def test_a_repeated_suggestion_is_told_as_the_mean_of_its_trials():
    class Listener(BasicVariantGenerator):
        told = {}

        def on_trial_complete(self, trial_id, result=None, error=False):
            self.told[trial_id] = result["acc"]

    inner = Listener(random_state=0)
    repeater = Repeater(inner, repeat=3)
    repeater.set_search_properties("acc", "max", SPACE, num_samples=2)
    configs = [repeater.suggest(f"t{number}") for number in range(6)]
    assert [config["__trial_index__"] for config in configs] == [0, 1, 2] * 2
    assert configs[0]["lr"] == configs[2]["lr"] != configs[3]["lr"]
    for number, acc in enumerate([1.0, 2.0, math.nan, 4.0]):
        repeater.on_trial_complete(f"t{number}", {"acc": acc})
    assert inner.told == {"t0": 1.5}


@pytest.mark.parametrize("name", [name for name in SEARCHERS if name != "limited_batch"])
def test_a_saved_searcher_goes_on_with_the_same_suggestions(name, tmp_path):
    first, second = SEARCHERS[name](), SEARCHERS[name]()
    for made in (first, second):
        made.set_search_properties("acc", "max", SPACE, num_samples=8)
    for number in range(4):
        complete(first, f"t{number}", first.suggest(f"t{number}")["lr"])
    first.save(str(tmp_path / "state.pkl"))
    second.restore(str(tmp_path / "state.pkl"))
    assert second.suggest("next") == first.suggest("next")


def test_a_gaussian_process_finds_the_top_of_a_hill():
    searcher = BayesOptSearch(random_search_steps=4, random_state=1)
    assert searcher.set_search_properties("acc", "max", {"x": tune.uniform(-2, 2), "fixed": 3}, num_samples=9)
    best = -math.inf
    for number in range(9):
        config = searcher.suggest(f"t{number}")
        if not isinstance(config, dict):
            continue
        assert config["fixed"] == 3
        value = -((config["x"] - 0.7) ** 2)
        best = max(best, value)
        complete(searcher, f"t{number}", value)
    assert best > -0.05
    with pytest.raises(ValueError, match="float ranges only"):
        BayesOptSearch().set_search_properties("acc", "max", {"x": tune.choice([1, 2])})


def test_hyperopt_tries_given_points_first():
    searcher = HyperOptSearch(points_to_evaluate=[{"lr": 0.01, "net": {"width": 16}}], random_state_seed=0)
    searcher.set_search_properties("acc", "max", SPACE, num_samples=2)
    assert searcher.suggest("a") == {"lr": 0.01, "net": {"width": 16}, "fixed": 3}
    complete(searcher, "a", 1.0)
    assert isinstance(searcher.suggest("b"), dict)
