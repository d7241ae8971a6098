"""What fits together in a sweep and what is refused, before anything runs."""

from __future__ import annotations

import pytest

from raybook import tune
from raybook.tune.schedulers import ASHAScheduler, PopulationBasedTraining
from raybook.tune.search import ConcurrencyLimiter, Searcher
from raybook.tune.search.optuna import OptunaSearch
from raybook.tune.sweep_assembly import prepare_scheduler, prepare_search
from raybook.tune.tune_config import ResumeConfig, TuneConfig


class OwnSpace(Searcher):
    """A searcher as users write one: it has its space, and takes none."""

    def suggest(self, trial_id):
        return {"net": {"width": 8}}


def test_a_searcher_with_its_own_space_gets_what_param_space_fixes_as_constants():
    plan = prepare_search(TuneConfig(search_alg=OwnSpace(), metric="acc", mode="max"), {"net": {"depth": 2}, "seed": 1})
    assert plan.constants == {"net": {"depth": 2}, "seed": 1}
    assert (plan.searcher.metric, plan.searcher.mode) == ("acc", "max")
    with pytest.raises(ValueError, match="OwnSpace did not take this param_space"):
        prepare_search(TuneConfig(search_alg=OwnSpace()), {"lr": tune.uniform(0, 1)})


def test_the_number_of_trials_is_known_where_it_can_be():
    space = {"x": tune.grid_search([1, 2, 3])}
    assert prepare_search(TuneConfig(num_samples=2), space).total == 6
    assert prepare_search(TuneConfig(num_samples=-1), space).total is None
    limited = ConcurrencyLimiter(OptunaSearch(seed=0), max_concurrent=2)
    config = TuneConfig(search_alg=limited, num_samples=5, metric="acc", mode="max")
    assert prepare_search(config, {"x": tune.uniform(0, 1)}).total == 5


def test_a_mode_alone_means_what_a_function_returns():
    scheduler = prepare_scheduler(TuneConfig(mode="max", scheduler=ASHAScheduler()))
    assert (scheduler.metric, scheduler.mode) == ("_metric", "max")
    with pytest.raises(ValueError, match="needs a metric and a mode"):
        prepare_scheduler(TuneConfig(scheduler=ASHAScheduler()))


def test_population_based_training_takes_no_model_based_search():
    pbt = PopulationBasedTraining(hyperparam_mutations={"lr": [1, 2]})
    with pytest.raises(ValueError, match="Search algorithms cannot be used with PopulationBasedTraining"):
        prepare_scheduler(TuneConfig(metric="a", mode="max", scheduler=pbt, search_alg=OptunaSearch(seed=0)))


def test_records_keep_rays_order_and_refuse_what_is_gone():
    assert TuneConfig("max", "acc").metric == "acc" and ResumeConfig().unfinished is ResumeConfig.ResumeType.RESUME
    with pytest.raises(DeprecationWarning):
        TuneConfig(chdir_to_trial_dir=False)
    with pytest.raises(DeprecationWarning):
        tune.RunConfig(local_dir="/tmp")
