"""The controller in virtual time: real searchers, schedulers and table; only the trials are scripts."""

from __future__ import annotations

import itertools
import math

import pytest

from raybook import tune
from raybook.ml.run_config import CheckpointConfig, FailureConfig
from raybook.testing.fake_trial_executor import Step
from raybook.testing.virtual_sweep import VirtualSweep as Sweep
from raybook.tune.core.concurrency_limiter import ConcurrencyLimiter
from raybook.tune.core.scheduler import FIFOScheduler
from raybook.tune.core.searcher import FINISHED, Searcher
from raybook.tune.core.trial_events import CONTINUE, PAUSE
from raybook.tune.error import TuneError
from raybook.tune.schedulers import ASHAScheduler
from raybook.tune.search.basic_variant import BasicVariantGenerator


def curve(values, **step):
    return lambda launch: (Step({"acc": value}, **step) for value in values)


def test_every_grid_point_runs_to_its_end_within_the_room_there_is():
    sweep = Sweep(curve([0.1, 0.2, 0.3]), {"x": tune.grid_search(list(range(5)))}, cpus=2).run()
    assert sweep.states() == ["TERMINATED"] * 5
    assert [trial.config["x"] for trial in sweep.table] == list(range(5))
    assert all(trial.iteration == 3 and trial.last_result["acc"] == 0.3 for trial in sweep.table)
    assert sweep.executor.live_max == 2 and sweep.executor.is_shut_down
    # Three seconds a trial, two at a time, five trials: three rounds and the start-ups.
    assert 9_000 <= sweep.clock.ms <= 9_200


def test_max_concurrent_trials_and_a_limiter_bound_what_is_live():
    limited = Sweep(curve([0.1]), num_samples=6, cpus=8, max_concurrent_trials=3).run()
    assert limited.executor.live_max == 3
    searcher = ConcurrencyLimiter(BasicVariantGenerator(random_state=0), max_concurrent=2)
    assert Sweep(curve([0.1]), num_samples=6, cpus=8, searcher=searcher).run().executor.live_max == 2


def test_trials_hold_fractions_of_a_resource():
    sweep = Sweep(curve([0.1]), num_samples=8, cpus=1, resources=lambda config: {"cpu": 0.25}).run()
    assert sweep.executor.live_max == 4


def test_a_searcher_knows_all_results_before_it_proposes_the_next():
    class Greedy(Searcher):
        def __init__(self):
            super().__init__()
            self.known = []

        def suggest(self, trial_id):
            return {"known": len(self.known)}

        def on_trial_complete(self, trial_id, result=None, error=False):
            self.known.append(result["acc"])

    sweep = Sweep(curve([0.5]), num_samples=4, cpus=1, searcher=Greedy()).run()
    assert [trial.config["known"] for trial in sweep.table] == [0, 1, 2, 3]


def test_asha_stops_bad_trials_early_and_spends_far_less():
    def script(launch):
        for epoch in range(1, 28):
            yield Step({"acc": launch.config["quality"] * (1 - 0.9**epoch)})

    space = {"quality": tune.grid_search([round(0.1 + 0.03 * number, 2) for number in range(27)][::-1])}
    asha = Sweep(script, space, cpus=4, scheduler=ASHAScheduler(max_t=27, reduction_factor=3)).run()
    full = Sweep(script, space, cpus=4).run()
    best = max(asha.table, key=lambda trial: trial.summaries["acc"].maximum)
    assert best.config["quality"] == 0.88 and best.state == "TERMINATED" and best.iteration == 27
    assert asha.states().count("STOPPED") >= 20
    work, full_work = (sum(trial.iteration for trial in sweep.table) for sweep in (asha, full))
    assert work * 3 <= full_work == 27 * 27


def test_stop_thresholds_end_a_trial_as_done():
    sweep = Sweep(curve([0.1, 0.5, 0.9, 1.0]), stop={"acc": 0.9}).run()
    trial = sweep.table.get("t_00000")
    assert trial.state == "TERMINATED" and trial.iteration == 3 and trial.last_result["done"] is True


def test_a_result_that_says_done_ends_its_trial():
    sweep = Sweep(lambda launch: (Step({"acc": 0.1, "done": n == 2}) for n in itertools.count())).run()
    assert sweep.table.get("t_00000").iteration == 3


def test_a_failed_trial_keeps_its_traceback_and_the_others_go_on():
    def script(launch):
        yield Step({"acc": 0.1})
        if launch.config["x"] == 1:
            yield Step(error=ZeroDivisionError("division by zero"))
        yield Step({"acc": 0.2})

    sweep = Sweep(script, {"x": tune.grid_search([0, 1, 2])}).run()
    assert sweep.states() == ["TERMINATED", "ERROR", "TERMINATED"]
    failed = sweep.table.get("t_00001")
    assert isinstance(failed.error, ZeroDivisionError) and failed.error_details == "traceback: division by zero"
    assert failed.last_result["acc"] == 0.1


def test_a_lost_trial_goes_on_from_its_last_checkpoint():
    def script(launch):
        for epoch in range(launch.iteration + 1, 7):
            if epoch == 5 and launch.attempt == 1:
                yield Step(error=RuntimeError("worker died"), is_lost=True)
            yield Step({"acc": epoch / 10}, has_checkpoint=epoch % 2 == 0)

    sweep = Sweep(script, failure_config=FailureConfig(max_failures=1)).run()
    trial = sweep.table.get("t_00000")
    assert trial.state == "TERMINATED" and trial.failures == 1 and trial.iteration == 6
    first, second = sweep.executor.launches
    assert first.checkpoint is None
    assert second.checkpoint == "memory/t_00000/checkpoint_000001" and second.iteration == 4
    assert second.next_checkpoint == 2
    assert [entry.name for entry in trial.checkpoints.entries()][-1] == "checkpoint_000002"


def test_failures_beyond_the_limit_end_the_trial():
    sweep = Sweep(lambda launch: iter([Step(error=OSError("x"))]), failure_config=FailureConfig(max_failures=2)).run()
    assert sweep.states() == ["ERROR"] and len(sweep.executor.launches) == 3


def test_fail_fast_ends_the_others_and_raise_also_raises():
    def script(launch):
        if launch.config["x"] == 0:
            yield Step(error=KeyError("x"), duration_ms=500)
        for _ in range(9):
            yield Step({"acc": 0.5})

    space = {"x": tune.grid_search([0, 1, 2])}
    calm = Sweep(script, space, failure_config=FailureConfig(fail_fast=True)).run()
    assert calm.states() == ["ERROR", "STOPPED"]
    loud = Sweep(script, space, failure_config=FailureConfig(fail_fast="raise"))
    with pytest.raises(KeyError):
        loud.run()
    assert loud.states() == ["ERROR", "STOPPED"] and loud.executor.is_shut_down and loud.recorder.ended == 1


def test_checkpoints_beyond_num_to_keep_are_deleted_once_the_new_one_is_there():
    config = CheckpointConfig(num_to_keep=2, checkpoint_score_attribute="acc")
    sweep = Sweep(curve([0.9, 0.1, 0.5, 0.2], has_checkpoint=True), checkpoint_config=config).run()
    kept = [entry.name for entry in sweep.table.get("t_00000").checkpoints.entries()]
    # The two best of all, and the latest.
    assert kept == ["checkpoint_000000", "checkpoint_000002", "checkpoint_000003"]
    assert sweep.files.deleted == [("t_00000", "checkpoint_000001")]


def test_a_time_budget_ends_the_sweep_on_time():
    sweep = Sweep(
        lambda launch: (Step({"acc": 0.5}) for _ in itertools.count()), num_samples=-1, time_budget_ms=5_500
    ).run()
    assert sweep.clock.ms == 5_500
    assert set(sweep.states()) == {"STOPPED"} and "time budget of 5.5 s" in sweep.controller.halt_reason


def test_an_unknown_metric_lists_what_was_reported_and_keeps_finished_trials():
    def script(launch):
        yield Step({"acc": 0.5} if launch.config["x"] == 0 else {"accuracy": 0.5, "val": {"loss": 1}})

    sweep = Sweep(script, {"x": tune.grid_search([0, 1, 2])}, cpus=1)
    with pytest.raises(TuneError, match=r"t_00001 reported no metric 'acc'.*It reported: accuracy, val/loss\."):
        sweep.run()
    assert sweep.states() == ["TERMINATED", "STOPPED"] and sweep.executor.is_shut_down


def test_a_trainable_that_never_reports_fails_where_a_metric_is_tuned_and_only_there():
    silent = Sweep(lambda launch: iter([])).run()
    assert silent.states() == ["ERROR"]
    assert "returned without a report" in str(silent.table.get("t_00000").error)
    assert Sweep(lambda launch: iter([]), metric=None, mode=None).run().states() == ["TERMINATED"]


def test_nan_is_recorded_and_ranks_worst():
    values = {0: [math.nan] * 3, 1: [0.2, 0.3, 0.4]}
    sweep = Sweep(
        lambda launch: (Step({"acc": value}) for value in values[launch.config["x"]]), {"x": tune.grid_search([0, 1])}
    ).run()
    assert sweep.states() == ["TERMINATED"] * 2
    assert math.isnan(sweep.table.get("t_00000").summaries["acc"].maximum)


def test_a_trial_too_big_for_the_cluster_is_an_error_at_once():
    sweep = Sweep(curve([0.1]), resources=lambda config: {"cpu": 3})
    with pytest.raises(TuneError, match="asks for"):
        sweep.run()
    assert len(sweep.table) == 0 and sweep.clock.ms == 0


def test_two_trials_of_one_name_are_an_error_that_names_both():
    sweep = Sweep(curve([0.1]), num_samples=2, trial_name=lambda trial: "same")
    with pytest.raises(ValueError, match="t_00001 would be named 'same' like trial t_00000"):
        sweep.run()
    assert sweep.executor.is_shut_down


def test_an_interrupt_ends_live_trials_and_keeps_what_they_reported():
    sweep = Sweep(curve([0.1] * 50), num_samples=4)
    for _ in range(12):
        sweep.controller.step()
    sweep.controller.request_stop("interrupted")
    sweep.run()
    assert sweep.states() == ["STOPPED", "STOPPED"] and sweep.controller.halt_reason == "interrupted"
    assert all(trial.reports > 0 for trial in sweep.table)


def test_a_paused_trial_goes_on_from_its_checkpoint_when_it_is_chosen_again():
    class PauseAtTwo(FIFOScheduler):
        def judge(self, trial_id, result):
            return PAUSE if result["training_iteration"] == 2 else CONTINUE

    def script(launch):
        for epoch in range(launch.iteration + 1, 5):
            yield Step({"acc": epoch / 10}, has_checkpoint=True)

    sweep = Sweep(script, num_samples=2, cpus=1, scheduler=PauseAtTwo()).run()
    assert sweep.states() == ["TERMINATED"] * 2
    assert [(launch.trial_id, launch.iteration) for launch in sweep.executor.launches] == [
        ("t_00000", 0), ("t_00001", 0), ("t_00000", 2), ("t_00001", 2),
    ]  # fmt: skip
    assert ("t_00000", "PAUSED") in sweep.recorder.states


def test_a_scheduler_that_leaves_everything_paused_is_an_error_not_a_hang():
    class Stubborn(FIFOScheduler):
        def judge(self, trial_id, result):
            return PAUSE

        def choose(self, waiting):
            fresh = [trial_id for trial_id in waiting if trial_id not in self.seen]
            self.seen.update(fresh[:1])
            return fresh[0] if fresh else None

        seen: set[str] = set()

    with pytest.raises(TuneError, match="nothing runs, 2 trials wait, and neither .* nor Stubborn starts one"):
        Sweep(curve([0.1, 0.2]), num_samples=2, scheduler=Stubborn()).run()


def test_a_searcher_that_waits_for_nothing_is_an_error_not_a_hang():
    class Empty(Searcher):
        def suggest(self, trial_id):
            return None

    with pytest.raises(TuneError, match="no trial is left, and neither Empty"):
        Sweep(curve([0.1]), searcher=Empty()).run()


def test_a_verdict_that_is_none_is_refused_with_the_schedulers_name():
    class Broken(FIFOScheduler):
        def judge(self, trial_id, result):
            return "MAYBE"

    sweep = Sweep(curve([0.1]), scheduler=Broken())
    with pytest.raises(TuneError, match="Broken answered 'MAYBE'"):
        sweep.run()
    assert sweep.executor.is_shut_down


def test_every_suggested_trial_is_completed_exactly_once():
    class Ledger(BasicVariantGenerator):
        def __init__(self):
            super().__init__(random_state=0)
            self.calls = []

        def suggest(self, trial_id):
            config = super().suggest(trial_id)
            if config != FINISHED:
                self.calls.append(("suggest", trial_id))
            return config

        def on_trial_complete(self, trial_id, result=None, error=False):
            self.calls.append(("complete", trial_id))

    def script(launch):
        if launch.config["x"] == 2:
            yield Step(error=ValueError("x"))
        for value in (0.1, 0.2, 0.3, 0.4):
            yield Step({"acc": value * launch.config["x"]})

    searcher = Ledger()
    scheduler = ASHAScheduler(max_t=3, reduction_factor=2)
    Sweep(script, {"x": tune.grid_search([4, 3, 2, 1, 0, 5])}, searcher=searcher, scheduler=scheduler).run()
    for kind in ("suggest", "complete"):
        assert sorted(trial for call, trial in searcher.calls if call == kind) == [f"t_{n:05d}" for n in range(6)]


def test_observers_hear_every_state_once_and_every_result():
    sweep = Sweep(curve([0.1, 0.2])).run()
    assert [state for _, state in sweep.recorder.states] == ["PENDING", "STARTING", "RUNNING", "TERMINATED"]
    assert [result["acc"] for _, result in sweep.recorder.results] == [0.1, 0.2]
    assert sweep.recorder.ended == 1


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_ten_thousand_trials_in_virtual_time():
    def script(launch):
        for epoch in range(1, 10):
            yield Step({"acc": launch.config["x"] * epoch})

    sweep = Sweep(
        script,
        {"x": tune.uniform(0, 1)},
        num_samples=10_000,
        cpus=4,
        scheduler=ASHAScheduler(max_t=9, reduction_factor=3),
    ).run()
    assert len(sweep.table) == 10_000 and sweep.executor.live_max == 4
    assert sum(trial.iteration for trial in sweep.table) < 10_000 * 9 / 3
