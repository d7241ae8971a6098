"""OptunaSearch: the suggestions are Optuna's own, and the space converts both ways."""

from __future__ import annotations

import optuna
import pytest

from raybook import tune
from raybook.tune.search.optuna import OptunaSearch, SpaceInOptuna

SPACE = {
    "x": tune.uniform(-5, 5),
    "net": {"lr": tune.loguniform(1e-4, 1e-1), "width": tune.randint(4, 65)},
    "kind": tune.choice(["a", "b", "c"]),
}


def objective(config):
    return (config["x"] - 2) ** 2 + config["net"]["width"] / 64 + {"a": 0, "b": 1, "c": 2}[config["kind"]]


def sweep(search, count):
    configs = []
    for number in range(count):
        configs.append(search.suggest(f"t{number}"))
        search.on_trial_complete(f"t{number}", {"loss": objective(configs[-1])})
    return configs


def test_a_serial_sweep_suggests_exactly_what_optuna_alone_would():
    search = OptunaSearch(seed=7)
    search.set_search_properties("loss", "min", SPACE)
    ours = sweep(search, 25)

    study = optuna.create_study(direction="minimize", sampler=optuna.samplers.TPESampler(seed=7))
    theirs = []
    for _ in range(25):
        trial = study.ask()
        config = {
            "x": trial.suggest_float("x", -5, 5),
            "net": {
                "lr": trial.suggest_float("net/lr", 1e-4, 1e-1, log=True),
                "width": trial.suggest_int("net/width", 4, 64),
            },
            "kind": trial.suggest_categorical("kind", ["a", "b", "c"]),
        }
        study.tell(trial, objective(config))
        theirs.append(config)
    assert ours == theirs


def test_every_domain_has_its_distribution():
    space = SpaceInOptuna(
        {
            "u": tune.uniform(0, 1),
            "q": tune.quniform(0, 1, 0.25),
            "l": tune.loguniform(1e-3, 1),
            "i": tune.randint(0, 10),
            "qi": tune.qrandint(0, 10, 5),
            "li": tune.lograndint(1, 100),
            "c": tune.choice([1, "a", None]),
            "constant": 5,
        }
    )
    kinds = optuna.distributions
    assert space.distributions == {
        "u": kinds.FloatDistribution(0, 1),
        "q": kinds.FloatDistribution(0, 1, step=0.25),
        "l": kinds.FloatDistribution(1e-3, 1, log=True),
        "i": kinds.IntDistribution(0, 9),
        "qi": kinds.IntDistribution(0, 10, step=5),
        "li": kinds.IntDistribution(1, 99, log=True),
        "c": kinds.CategoricalDistribution([1, "a", None]),
    }


def test_categories_that_optuna_cannot_store_come_back_as_they_were():
    search = OptunaSearch(seed=0)
    search.set_search_properties("loss", "min", {"layers": tune.choice([[8], [8, 8]]), "act": tune.choice([len, sum])})
    config = search.suggest("t0")
    assert config["layers"] in ([8], [8, 8]) and config["act"] in (len, sum)


def test_log_quantised_values_are_multiples():
    search = OptunaSearch(seed=0)
    search.set_search_properties("loss", "min", {"n": tune.qlograndint(8, 64, 8), "f": tune.qloguniform(0.1, 1, 0.1)})
    for number in range(10):
        config = search.suggest(str(number))
        assert config["n"] % 8 == 0 and 8 <= config["n"] <= 64
        assert abs(config["f"] * 10 - round(config["f"] * 10)) < 1e-9


@pytest.mark.parametrize("domain", [tune.grid_search([1, 2]), tune.randn(), tune.sample_from(lambda: 1)])
def test_what_optuna_cannot_sample_is_named(domain):
    with pytest.raises(ValueError, match="'net/depth'"):
        OptunaSearch(seed=0).set_search_properties("loss", "min", {"net": {"depth": domain}})


def test_a_function_may_define_the_space_while_running():
    def space(trial):
        if trial.suggest_categorical("kind", ["tree", "linear"]) == "tree":
            trial.suggest_int("depth", 1, 4)
        return {"dataset": "digits"}

    search = OptunaSearch(space, metric="loss", mode="min", seed=1)
    assert search.set_search_properties(None, None, {})
    for number in range(8):
        config = search.suggest(str(number))
        assert config["dataset"] == "digits" and ("depth" in config) == (config["kind"] == "tree")


def test_points_come_first_and_known_rewards_are_told():
    search = OptunaSearch(points_to_evaluate=[{"x": 1.5, "kind": "b"}], seed=0)
    search.set_search_properties("loss", "min", SPACE)
    first = search.suggest("t0")
    assert first["x"] == 1.5 and first["kind"] == "b"

    known = OptunaSearch(
        {"x": tune.uniform(-5, 5)}, "loss", "min", points_to_evaluate=[{"x": 2.0}], evaluated_rewards=[0.0], seed=0
    )
    assert known.study.best_value == 0.0 and known.study.best_params == {"x": 2.0}


def test_intermediate_reports_failures_and_nan_reach_the_study():
    search = OptunaSearch(seed=0)
    search.set_search_properties("loss", "min", SPACE)
    for trial_id in ("good", "failed", "nan"):
        search.suggest(trial_id)
    search.on_trial_result("good", {"loss": 3.0, "training_iteration": 1})
    search.on_trial_complete("good", {"loss": 2.0})
    search.on_trial_complete("failed", None, error=True)
    search.on_trial_complete("nan", {"loss": float("nan")})
    states = [trial.state.name for trial in search.study.trials]
    assert states == ["COMPLETE", "FAIL", "FAIL"]
    assert search.study.trials[0].intermediate_values == {1: 3.0} and search.study.best_value == 2.0


def test_several_metrics_make_a_multi_objective_study():
    search = OptunaSearch(SPACE, metric=["loss", "size"], mode=["min", "min"], seed=0)
    search.suggest("t0")
    search.on_trial_complete("t0", {"loss": 1.0, "size": 3})
    assert [trial.values for trial in search.study.best_trials] == [[1.0, 3.0]]


def test_wrong_arguments_are_refused():
    with pytest.raises(TypeError, match="optuna.samplers"):
        OptunaSearch(sampler="tpe")
    with pytest.warns(UserWarning, match="seed"):
        OptunaSearch(sampler=optuna.samplers.RandomSampler(), seed=1)
    with pytest.raises(ValueError, match="'min' or 'max'"):
        OptunaSearch(mode="lowest")
    with pytest.raises(ValueError, match="needs a metric"):
        OptunaSearch().set_search_properties(None, None, SPACE)
    with pytest.raises(ValueError, match="one mode for each metric"):
        OptunaSearch(SPACE, metric=["a", "b"], mode=["min"])
