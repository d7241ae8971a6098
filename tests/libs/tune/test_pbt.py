"""Population based training: who takes over from whom, what changes, and whole sweeps in virtual time."""

from __future__ import annotations

import json
import random

import pytest

from raybook import tune
from raybook.testing.fake_trial_executor import Step
from raybook.testing.virtual_sweep import VirtualSweep
from raybook.tune.core.mutation import explore, mutated_part
from raybook.tune.core.orders import Exploit, WriteFile
from raybook.tune.core.trial_events import CONTINUE, PAUSE, SAVE, YIELD
from raybook.tune.error import TuneError
from raybook.tune.schedulers import PB2, PopulationBasedTraining, PopulationBasedTrainingReplay


@pytest.fixture(autouse=True)
def seeded():
    random.seed(1)


def population(count=8, **arguments):
    arguments = {
        "time_attr": "training_iteration", "perturbation_interval": 10,
        "hyperparam_mutations": {"factor": [100]}, "resample_probability": 0.0, **arguments,
    }  # fmt: skip
    pbt = PopulationBasedTraining(**arguments)
    assert pbt.set_search_properties("acc", "max")
    for number in range(count):
        pbt.add_trial(f"t{number}", {"id_factor": number, "factor": 1.0, "float": 2.0, "int": 10})
    pbt.on_search_end()
    for number in range(count):
        pbt.on_trial_state(f"t{number}", "RUNNING")
    return pbt


def report(pbt, trial_id, time, acc):
    return pbt.judge(trial_id, {"training_iteration": time, "acc": acc})


def ranked_population(count=8, **arguments):
    """After one interval: trial n has score 10 n."""
    pbt = population(count, **arguments)
    verdicts = [report(pbt, f"t{number}", 10, 10.0 * number) for number in range(count)]
    for number in range(count):
        pbt.on_checkpoint(f"t{number}")
    pbt.take_orders()
    return pbt, verdicts


def test_nothing_happens_before_the_interval_nor_in_the_burn_in():
    pbt = population()
    assert report(pbt, "t0", 9, 0.0) == CONTINUE
    slow = population(burn_in_period=50)
    assert report(slow, "t0", 40, 0.0) == CONTINUE and report(slow, "t1", 40, 9.0) == CONTINUE
    assert slow.take_orders() == []


def test_a_top_trial_is_told_to_save_and_others_go_on():
    pbt, verdicts = ranked_population()
    # In rising order each newcomer is the best so far, until the quantile is one of the others.
    assert verdicts[0] == CONTINUE and set(verdicts[1:]) == {SAVE}
    assert pbt.quantiles() == (["t0", "t1"], ["t6", "t7"])


def test_a_bottom_trial_takes_over_from_a_top_one_with_a_changed_configuration():
    pbt, _ = ranked_population()
    assert report(pbt, "t0", 20, -100) == YIELD
    files = [order for order in pbt.take_orders() if isinstance(order, Exploit)]
    (order,) = files
    assert order.trial_id == "t0" and order.source in ("t6", "t7")
    assert order.config["id_factor"] == int(order.source[1]) and order.config["factor"] == 100


def test_a_middling_trial_just_goes_on():
    pbt, _ = ranked_population()
    assert report(pbt, "t3", 20, 35) == CONTINUE and pbt.take_orders() == []


def test_nobody_takes_over_from_a_trial_without_a_checkpoint():
    pbt = population()
    for number in range(8):
        report(pbt, f"t{number}", 10, 10.0 * number)
    assert report(pbt, "t0", 20, -100) == CONTINUE
    assert not any(isinstance(order, Exploit) for order in pbt.take_orders())


def test_trials_take_turns_while_others_wait():
    pbt = population(count=3)
    pbt.on_trial_state("t2", "PENDING")
    assert report(pbt, "t0", 10, 1.0) == PAUSE
    pbt.on_trial_state("t0", "PAUSED")
    assert pbt.choose(["t0", "t2"]) == "t2"


def test_a_trial_that_is_over_is_in_no_quantile():
    pbt, _ = ranked_population()
    pbt.complete_trial("t7", {})
    pbt.fail_trial("t0")
    assert pbt.quantiles() == (["t1", "t2"], ["t5", "t6"])


def test_the_policy_log_tells_how_each_configuration_came_about():
    pbt, _ = ranked_population()
    report(pbt, "t0", 20, -100)
    texts = {order.name: order.text for order in pbt.take_orders() if isinstance(order, WriteFile)}
    assert set(texts) == {"pbt_global.txt", "pbt_policy_t0.txt"}
    target, source, target_step, source_step, old, new = json.loads(texts["pbt_policy_t0.txt"])
    assert (target, target_step, source_step) == ("t0", 20, 10)
    assert old["factor"] == 1.0 and new["factor"] == 100 and old["id_factor"] == int(source[1])


def test_synchronous_trials_wait_for_each_other_and_change_together():
    pbt = population(count=4, synch=True)
    assert [report(pbt, f"t{number}", 10, 10.0 * number) for number in range(1, 4)] == [PAUSE] * 3
    for number in range(1, 4):
        pbt.on_trial_state(f"t{number}", "PAUSED")
    assert pbt.choose(["t1", "t2", "t3"]) is None
    assert report(pbt, "t0", 10, 0.0) == YIELD
    assert [order.trial_id for order in pbt.take_orders() if isinstance(order, Exploit)] == ["t0"]
    assert pbt.choose(["t1", "t2", "t3"]) in ("t1", "t2", "t3")


# The published ways to change a value.


def changed(config, mutations, resample=0.0, factors=(1.2, 0.8), custom=None):
    return explore(config, mutations, resample, factors, custom, random)[0]


def test_numbers_are_scaled_and_lists_move_to_a_neighbour():
    assert {round(changed({"v": 10.0}, {"v": lambda: 99.0})["v"], 9) for _ in range(40)} == {12.0, 8.0}
    assert {changed({"v": 10}, {"v": lambda: 99})["v"] for _ in range(40)} == {12, 8}
    assert {changed({"v": 4}, {"v": [0, 4, 8, 16]})["v"] for _ in range(40)} == {0, 8}
    assert {changed({"v": 16}, {"v": [0, 4, 8, 16]})["v"] for _ in range(40)} == {8, 16}
    assert {changed({"v": 3}, {"v": [0, 4]})["v"] for _ in range(40)} == {0, 4}


def test_resampling_draws_from_the_distribution():
    values = {changed({"v": 2.0}, {"v": tune.uniform(5, 6)}, resample=1.0)["v"] for _ in range(20)}
    assert all(5 <= value <= 6 for value in values)
    assert {changed({"v": "a"}, {"v": tune.choice(["b", "c"])})["v"] for _ in range(30)} == {"b", "c"}
    assert changed({"v": True}, {"v": lambda: 0}, resample=1.0)["v"] is False


def test_nested_values_change_and_nothing_else_does():
    config = {"a": {"b": 1.0, "c": [1]}, "keep": {"x": 1}}
    new = changed(config, {"a": {"b": lambda: 9.0}}, custom=lambda c: {**c, "extra": 1})
    assert new["a"]["b"] in (1.2, 0.8) and new["keep"] == {"x": 1} and new["extra"] == 1
    assert config == {"a": {"b": 1.0, "c": [1]}, "keep": {"x": 1}}
    assert mutated_part(new, {"a": {"b": None}}) == {"a": {"b": new["a"]["b"]}}


def test_missing_parameters_are_drawn_at_the_start():
    pbt = PopulationBasedTraining(
        metric="acc", mode="max", hyperparam_mutations={"lr": tune.uniform(1, 2), "m": {"n": [3]}}
    )
    config = pbt.add_trial("a", {"x": 1})
    assert 1 <= config["lr"] <= 2 and config["m"] == {"n": 3} and config["x"] == 1


def test_wrong_arguments_are_refused():
    with pytest.raises(TuneError, match="hyperparam_mutations or a custom_explore_fn"):
        PopulationBasedTraining()
    with pytest.raises(TypeError):
        PopulationBasedTraining(hyperparam_mutations={"a": "string"})
    with pytest.raises(ValueError):
        PopulationBasedTraining(hyperparam_mutations={"a": tune.sample_from(lambda spec: 1)})
    with pytest.raises(ValueError):
        PopulationBasedTraining(hyperparam_mutations={"a": [1]}, quantile_fraction=0.6)
    with pytest.raises(ValueError):
        PopulationBasedTraining(hyperparam_mutations={"a": [1]}, perturbation_interval=0)
    with pytest.raises(RuntimeError, match="no 'training_iteration' in a result of trial t0.*require_attrs=False"):
        population().judge("t0", {"acc": 1})
    assert population(require_attrs=False).judge("t0", {"acc": 1}) == CONTINUE


# Whole sweeps.


def climber(launch):
    """The score is what the checkpoint had reached, plus the rate a step: only good rates get far."""
    level = CARRIED.get(launch.checkpoint, 0.0)
    for _ in range(launch.iteration, 40):
        level += launch.config["rate"]
        CARRIED[f"{launch.folder}/now"] = level
        yield Step({"acc": level})


CARRIED: dict[str | None, float] = {}


@pytest.mark.parametrize("synch", [False, True])
@pytest.mark.parametrize("cpus", [1, 3, 8])
def test_a_sweep_moves_its_worst_trials_to_where_its_best_are(synch, cpus):
    pbt = PopulationBasedTraining(
        time_attr="training_iteration", perturbation_interval=5, synch=synch,
        hyperparam_mutations={"rate": tune.uniform(0, 1)},
    )  # fmt: skip
    space = {"rate": tune.grid_search([0.1, 0.2, 0.3, 0.4, 0.5, 0.9])}
    sweep = VirtualSweep(climber, space, cpus=cpus, saves=True, scheduler=pbt).run()
    assert sweep.states() == ["TERMINATED"] * 6
    assert sweep.files.copied, "no trial took over from another one"
    assert "pbt_global.txt" in sweep.files.texts
    copied_from = {source for source, *_ in sweep.files.copied}
    copied_to = {target for *_, target, _ in sweep.files.copied}
    assert "t_00000" in copied_to and "t_00005" in copied_from
    assert sweep.table.get("t_00000").config["rate"] != 0.1
    assert all(trial.iteration == 40 for trial in sweep.table)


def test_a_model_based_population_stays_within_its_bounds_and_finds_better_values():
    pb2 = PB2(time_attr="training_iteration", perturbation_interval=4, hyperparam_bounds={"rate": [0.0, 1.0]})
    sweep = VirtualSweep(climber, {}, num_samples=4, cpus=4, saves=True, scheduler=pb2).run()
    rates = [trial.config["rate"] for trial in sweep.table]
    assert all(0 <= rate <= 1 for rate in rates) and sweep.files.copied
    assert "pb2_global.txt" in sweep.files.texts


def test_pb2_refuses_bounds_that_are_none():
    with pytest.raises(TuneError):
        PB2()
    with pytest.raises(ValueError):
        PB2(hyperparam_bounds={"a": [1, 2, 3]})
    with pytest.raises(ValueError):
        PB2(hyperparam_bounds={"a": [2, 1]})


def test_a_replay_trains_one_trial_with_the_schedule_of_a_policy_file(tmp_path):
    file = tmp_path / "pbt_policy_x.txt"
    rows = [
        ["other", "a", 4, 4, {"rate": 9}, {"rate": 8}],
        ["b", "c", 10, 10, {"rate": 1}, {"rate": 2}],
        ["a", "b", 20, 20, {"rate": 2}, {"rate": 3}],
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    replay = PopulationBasedTrainingReplay(str(file))
    assert replay.config == {"rate": 1}

    def script(launch):
        for _ in range(launch.iteration, 30):
            yield Step({"acc": launch.config["rate"]})

    sweep = VirtualSweep(script, {}, saves=True, scheduler=replay).run()
    rates = [result["acc"] for _, result in sweep.recorder.results]
    assert rates == [1] * 10 + [2] * 10 + [3] * 10


def test_a_replay_refuses_a_second_trial_and_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match="Policy file not found"):
        PopulationBasedTrainingReplay(str(tmp_path / "none.txt"))
    (tmp_path / "bad.txt").write_text("no json\n")
    with pytest.raises(ValueError, match="Could not read"):
        PopulationBasedTrainingReplay(str(tmp_path / "bad.txt"))
    (tmp_path / "one.txt").write_text(json.dumps(["a", "b", 1, 1, {"x": 1}, {"x": 2}]))
    replay = PopulationBasedTrainingReplay(str(tmp_path / "one.txt"))
    replay.add_trial("first", {})
    with pytest.raises(ValueError, match="More than one trial"):
        replay.add_trial("second", {})
