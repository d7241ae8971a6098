"""The search space: bounds, quantisation, grids, dependent values, and equal seeds."""

from __future__ import annotations

import copy
import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybook import tune
from raybook.tune.core.variants import draw, grid_points, grid_size, variants, varying_leaves

SEEDS = st.integers(0, 2**32)


def draws(domain, count=300, seed=0):
    rng = random.Random(seed)
    return [domain.draw(rng) for _ in range(count)]


@given(SEEDS, st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_uniform_stays_within_its_bounds(seed, lower, width):
    value = tune.uniform(lower, lower + width).draw(random.Random(seed))
    assert lower <= value <= lower + width


@given(SEEDS, st.integers(1, 50), st.integers(1, 50))
def test_quantised_values_are_multiples_within_the_bounds(seed, low_steps, more_steps):
    quantum = 0.25
    lower, upper = low_steps * quantum, (low_steps + more_steps) * quantum
    for make in (tune.quniform, tune.qloguniform):
        value = make(lower, upper, quantum).draw(random.Random(seed))
        assert lower <= value <= upper
        assert math.isclose(value / quantum, round(value / quantum))


def test_randint_excludes_its_upper_bound_and_qrandint_includes_it():
    assert set(draws(tune.randint(0, 3))) == {0, 1, 2}
    assert set(draws(tune.qrandint(2, 6, 2))) == {2, 4, 6}
    assert set(draws(tune.lograndint(1, 4))) == {1, 2, 3}
    assert max(draws(tune.qlograndint(2, 8, 2))) == 8


def test_loguniform_is_even_in_the_logarithm():
    values = draws(tune.loguniform(1e-4, 1e0), count=4000)
    below = sum(value < 1e-2 for value in values) / len(values)
    assert 0.46 < below < 0.54


def test_randn_has_its_mean_and_its_quantum():
    values = draws(tune.randn(3.0, 2.0), count=4000)
    assert abs(sum(values) / len(values) - 3.0) < 0.15
    assert all(math.isclose(value / 0.5, round(value / 0.5)) for value in draws(tune.qrandn(0, 1, 0.5)))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: tune.uniform(2, 1), "2 is not below 1"),
        (lambda: tune.loguniform(0, 1), "above 0"),
        (lambda: tune.quniform(0, 1, 0.3), "not a multiple"),
        (lambda: tune.quniform(0, 1, -0.5), "quantum must be above 0"),
        (lambda: tune.choice([]), "at least one value"),
        (lambda: tune.grid_search([]), "at least one value"),
        (lambda: tune.randn(0, 0), "standard deviation"),
    ],
)
def test_a_domain_that_makes_no_sense_is_refused_where_it_is_made(make, text):
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize(
    "make", [lambda: tune.grid_search("abc"), lambda: tune.randint(0.5, 3), lambda: tune.sample_from(3)]
)
def test_an_argument_of_the_wrong_type_is_refused_where_it_is_given(make):
    with pytest.raises(TypeError):
        make()


def test_the_grid_is_the_product_and_the_first_grid_varies_fastest():
    space = {"a": tune.grid_search([1, 2]), "b": {"c": tune.grid_search(["x", "y", "z"])}, "d": 7}
    points = list(grid_points(space))
    assert [(point["a"], point["b"]["c"]) for point in points] == [
        (1, "x"), (2, "x"), (1, "y"), (2, "y"), (1, "z"), (2, "z"),
    ]  # fmt: skip
    assert all(point["d"] == 7 for point in points)
    assert grid_size(space) == 6


def test_a_grid_inside_a_grids_value_counts_for_its_own_points():
    space = {"model": tune.grid_search([{"kind": "tree", "depth": tune.grid_search([1, 2])}, {"kind": "linear"}])}
    assert [point["model"] for point in grid_points(space)] == [
        {"kind": "tree", "depth": 1},
        {"kind": "tree", "depth": 2},
        {"kind": "linear"},
    ]


def test_each_grid_point_is_sampled_num_samples_times():
    space = {"a": tune.grid_search([1, 2]), "lr": tune.uniform(0, 1)}
    configs = list(variants(space, 3, random.Random(0)))
    assert [config["a"] for config in configs] == [1, 2] * 3
    assert len({config["lr"] for config in configs}) == 6


def test_a_constant_grid_search_draws_once_for_all_points_of_a_sample():
    space = {"a": tune.grid_search([1, 2]), "lr": tune.uniform(0, 1)}
    configs = list(variants(space, 2, random.Random(0), constant_grid=True))
    assert configs[0]["lr"] == configs[1]["lr"] != configs[2]["lr"] == configs[3]["lr"]


def test_sample_from_reads_what_was_drawn_in_every_spelling():
    space = {
        "sum": tune.sample_from(lambda spec: spec.config.a + spec.config["b"]["c"]),
        "a": tune.randint(0, 10),
        "b": {"c": tune.randint(10, 20)},
        "twice": tune.sample_from(lambda config: 2 * config["sum"]),
        "fixed": tune.sample_from(lambda: 5),
    }
    config = draw(space, random.Random(1))
    assert config["sum"] == config["a"] + config["b"]["c"]
    assert config["twice"] == 2 * config["sum"]
    assert config["fixed"] == 5


def test_sample_from_values_that_read_each_other_are_named():
    space = {
        "a": tune.sample_from(lambda spec: spec.config.b),
        "b": tune.sample_from(lambda spec: spec.config.a),
    }
    with pytest.raises(ValueError, match="a, b read each other in a circle"):
        draw(space, random.Random(0))


def test_an_error_in_a_sample_from_function_reaches_the_user_as_it_is():
    with pytest.raises(AttributeError, match="no parameter 'lrr'"):
        draw({"lr": 0.1, "x": tune.sample_from(lambda spec: spec.config.lrr)}, random.Random(0))


def test_a_chosen_category_may_hold_domains_of_its_own():
    space = {"model": tune.choice([{"kind": "tree", "depth": tune.randint(1, 5)}])}
    assert draw(space, random.Random(0))["model"]["depth"] in range(1, 5)


def test_the_space_is_left_as_it_was_and_variants_share_no_containers():
    space = {"layers": [tune.randint(1, 9), tune.randint(1, 9)], "fixed": {"list": [1]}}
    before = copy.deepcopy(space)
    first, second = itertools.islice(variants(space, -1, random.Random(0)), 2)
    first["fixed"]["list"].append(2)
    assert second["fixed"]["list"] == [1]
    assert space == before


@settings(max_examples=30)
@given(SEEDS)
def test_equal_seeds_give_equal_configurations(seed):
    space = {"a": tune.uniform(0, 1), "b": tune.choice("xyz"), "c": tune.grid_search([1, 2]), "d": tune.randn()}
    assert list(variants(space, 3, random.Random(seed))) == list(variants(space, 3, random.Random(seed)))


def test_a_space_without_parameters_gives_num_samples_equal_trials():
    assert list(variants({}, 3, random.Random(0))) == [{}, {}, {}]


def test_varying_leaves_tell_trials_apart():
    space = {"lr": tune.uniform(0, 1), "net": {"width": tune.grid_search([8, 16]), "depth": 2}}
    config = {"lr": 0.5, "net": {"width": 8, "depth": 2}}
    assert varying_leaves(space, config) == {"lr": 0.5, "net/width": 8}
