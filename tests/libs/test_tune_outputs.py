"""What a sweep leaves and shows: folders, state file, facts, progress, results."""

from __future__ import annotations

import csv
import importlib
import json
import math
import os
import subprocess
import sys

import pytest

from raybook import train, tune
from raybook.ml.core.checkpoint_ledger import CheckpointLedger
from raybook.ml.core.metrics import MetricSummary
from raybook.ml.result import Result
from raybook.tune.callback import CallbackObserver
from raybook.tune.core.trial_table import Trial, TrialTable
from raybook.tune.experiment_state import ExperimentStateFile
from raybook.tune.facts import FactPublisher, short_config
from raybook.tune.progress import ProgressReporter, has_panels, is_noninteractive
from raybook.tune.result_grid import ResultGrid
from raybook.tune.trial_folder import TrialFolders

FACT_FIELDS = {
    "experiment", "experiment_id", "trial_id", "name", "state", "config", "iteration", "metric_name", "mode", "last",
    "best", "history", "resources", "started_unix_ms", "ended_unix_ms", "error", "seconds",
}  # fmt: skip


def running_table(count=1, config=None):
    table = TrialTable()
    for number in range(count):
        config_of = {"lr": 0.1 * (number + 1), **(config or {})}
        trial = Trial(f"t{number}", number, f"train_t{number}", config_of, {"CPU": 1.0}, CheckpointLedger(), config_of)
        table.add(trial, 0)
        table.apply(trial.trial_id, "launch", 0)
        table.apply(trial.trial_id, "start", 100)
    return table


def report(table, trial_id, acc, now_ms=1000, **extra):
    trial = table.get(trial_id)
    result = {"acc": acc, "training_iteration": trial.iteration + 1, "config": trial.config, **extra}
    return table.record_result(trial_id, result, "acc", now_ms)


def end(table, trial_id, edge="complete", now_ms=2000, error=None):
    trial = table.get(trial_id)
    if error is not None:
        trial.error, trial.error_details = error, "Traceback: …"
    return table.apply(trial_id, edge, now_ms)


# Folders.


def test_a_trials_folder_holds_its_configuration_its_reports_and_its_error(tmp_path):
    table, folders = running_table(config={"net": {"f": len}}), TrialFolders(tmp_path)
    trial = table.get("t0")
    trial.folder = folders.create(trial)
    for acc in (0.5, math.nan):
        report(table, "t0", acc, val={"loss": 2})
        folders.on_result(trial, trial.last_result, 1000)
    folders.on_trial_changed(end(table, "t0", "fail", error=ValueError("no")), 2000)
    assert sorted(os.listdir(trial.folder)) == [
        "error.pkl", "error.txt", "params.json", "progress.csv", "result.json",
    ]  # fmt: skip
    with open(f"{trial.folder}/params.json") as file:
        assert json.load(file) == {"lr": 0.1, "net": {"f": "<built-in function len>"}}
    with open(f"{trial.folder}/result.json") as file:
        lines = [json.loads(line) for line in file]
    assert [line["acc"] for line in lines] == [0.5, None] and lines[0]["val"] == {"loss": 2}
    with open(f"{trial.folder}/progress.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["val/loss"] for row in rows] == ["2", "2"] and rows[0]["acc"] == "0.5"
    result = Result(metrics=trial.last_result, path=trial.folder)
    assert list(result.metrics_dataframe["val/loss"]) == [2, 2]


def test_a_folder_name_is_made_safe_and_never_shared(tmp_path):
    table = running_table(3)
    folders = TrialFolders(tmp_path, dirname=lambda trial: "../lr=0.1 /x")
    names = [os.path.relpath(folders.create(trial), tmp_path) for trial in table]
    assert names == [".._lr=0.1_x", ".._lr=0.1_x_1", ".._lr=0.1_x_2"]


# Experiment state.


def test_the_state_file_is_whole_at_any_moment(tmp_path):
    table = running_table(2, config={"shape": (1, 2)})
    state = ExperimentStateFile(tmp_path, "run1", {"name": "sweep", "metric": "acc"})
    trial = report(table, "t0", 0.5)
    state.on_trial_changed(trial, 0)
    state.on_tick(table, 0)
    first = json.loads(state.path.read_text())
    assert [row["state"] for row in first["trials"]] == ["RUNNING", "RUNNING"]
    state.on_trial_changed(end(table, "t0"), 500)
    state.on_tick(table, 500)  # Within the second: not written again.
    assert json.loads(state.path.read_text()) == first
    state.on_end(table, 600)
    last = json.loads(state.path.read_text())
    assert last["trials"][0]["state"] == "TERMINATED" and last["statistics"]["RUNNING"] == 1 and last["version"] == 2
    assert last["trials"][0]["config"]["shape"] == [1, 2]
    assert os.listdir(tmp_path) == ["experiment_state-run1.json"]


# Facts.


class FactLog(list):
    def __call__(self, kind, key, record):
        json.dumps(record)  # Plain values only.
        self.append((kind, key, record))

    def of(self, kind):
        return [record for found, _, record in self if found == kind]


def publisher(log, total=None):
    return FactPublisher(log, "run1", "sweep", "acc", "max", total, epoch_ms=1_000_000)


def test_a_trial_fact_has_every_field_a_panel_reads():
    log, table = FactLog(), running_table(config={"act": len, "name": "x" * 200})
    facts = publisher(log)
    for acc in (0.5, 0.7, 0.6):
        facts.on_result(report(table, "t0", acc), {}, 1000)
    facts.on_trial_changed(end(table, "t0", "fail", error=ValueError("first line\nsecond")), 2000)
    record = log.of("trial")[-1]
    assert set(record) == FACT_FIELDS
    assert (record["state"], record["iteration"], record["last"], record["best"]) == ("ERROR", 3, 0.6, 0.7)
    assert record["history"] == [0.5, 0.7, 0.6] and record["seconds"] == 1.9
    assert (record["started_unix_ms"], record["ended_unix_ms"]) == (1_000_100, 1_002_000)
    assert record["error"] == "ValueError: first line"
    assert record["config"]["lr"] == 0.1 and len(record["config"]["name"]) == 60
    assert record["config"]["act"] == "<built-in function len>"


def test_reports_are_thinned_but_changes_of_state_and_the_last_report_are_not():
    log, table = FactLog(), running_table()
    facts = publisher(log)
    for number in range(100):
        facts.on_result(report(table, "t0", number / 100, now_ms=number), {}, number)
    assert len(log.of("trial")) == 1
    facts.on_tick(table, 300)
    assert log.of("trial")[-1]["last"] == 0.99 and len(log.of("trial")) == 2
    facts.on_tick(table, 900)
    assert len(log.of("trial")) == 2
    facts.on_result(report(table, "t0", 0.5, now_ms=901), {}, 301)
    facts.on_end(table, 302)
    assert log.of("trial")[-1]["last"] == 0.5


def test_the_experiment_fact_counts_trials_and_names_the_best():
    log, table = FactLog(), running_table(3)
    facts = publisher(log, total=5)
    facts.on_result(report(table, "t0", 0.5), {}, 1000)
    facts.on_result(report(table, "t1", 0.9), {}, 1000)
    facts.on_result(report(table, "t0", math.nan), {}, 1000)
    end(table, "t1")
    end(table, "t2", "fail", error=ValueError())
    facts.on_tick(table, 1000)
    facts.on_tick(table, 1300)  # Nothing changed: not sent again.
    [record] = log.of("experiment")
    assert record == {
        "name": "sweep", "state": "RUNNING", "metric_name": "acc", "mode": "max", "total": 5, "running": 1, "done": 1,
        "errored": 1, "best_trial": "t1", "best_value": 0.9,
    }  # fmt: skip
    facts.on_end(table, 1400)
    assert log.of("experiment")[-1]["total"] == 3 and log.of("experiment")[-1]["state"] == "FINISHED"


def test_nan_never_reaches_a_fact():
    log, table = FactLog(), running_table()
    publisher(log).on_result(report(table, "t0", math.nan), {}, 1000)
    record = log.of("trial")[0]
    assert record["last"] is None and record["best"] is None and record["history"] == [None]
    assert short_config({"a": math.inf, "b": {"c": None}}) == {"a": "inf", "b/c": None}


# Progress.


def test_progress_is_one_line_in_five_seconds_and_a_table_at_the_end():
    table, written = running_table(2), []
    reporter = ProgressReporter("sweep", "acc", "max", 2, show_lines=True, show_table=True, write=written.append)
    for second in range(0, 12):
        report(table, "t0", 0.5 + second / 100)
        reporter.on_tick(table, second * 1000)
    assert written == [
        "[sweep] 5 s: 0/2 trials done, 2 live, best acc 0.55 (t0)",
        "[sweep] 10 s: 0/2 trials done, 2 live, best acc 0.6 (t0)",
    ]
    end(table, "t0"), end(table, "t1", "fail", error=ValueError("x"))
    reporter.on_end(table, 12_000)
    assert written[-1].splitlines() == [
        "[sweep] 2 trials in 12.0 s: 1 ran to their end, 0 stopped early, 1 failed",
        "trial  state       iter  acc   config",
        "t0     TERMINATED  12    0.61  lr=0.1",
        "t1     ERROR       0     -     lr=0.2",
    ]


def test_progress_is_one_line_at_the_end_where_a_panel_shows_the_trials():
    written = []
    reporter = ProgressReporter("sweep", "acc", "max", 1, show_lines=False, show_table=False, write=written.append)
    table = running_table()
    for second in range(20):
        reporter.on_tick(table, second * 1000)
    assert written == []
    end(table, "t0")
    reporter.on_end(table, 20_000)
    assert written == ["[sweep] 1 trials in 20.0 s: 1 ran to their end, 0 stopped early, 0 failed"]


def test_panels_and_solitude_are_recognised():
    assert has_panels({"ipykernel": None, "raybook_widgets": None})
    assert not has_panels({"ipykernel": None}) and not has_panels({"raybook_widgets": None})
    assert is_noninteractive({"RAYBOOK_NONINTERACTIVE": "1"})
    assert not is_noninteractive({"RAYBOOK_NONINTERACTIVE": "0"}) and not is_noninteractive({})


# Results.


def grid(*histories, metric="acc", mode="max", errors=()):
    results, summaries = [], []
    for number, history in enumerate(histories):
        summary = MetricSummary()
        for value in history:
            summary.add(value)
        metrics = {"acc": history[-1], "training_iteration": len(history)} if history else {}
        error = ValueError("boom") if number in errors else None
        results.append(Result(metrics=metrics, config={"x": number}, error=error, path=f"/runs/{number}"))
        summaries.append({"acc": summary} if history else {})
    return ResultGrid(results, summaries, metric, mode)


@pytest.mark.parametrize(
    ("scope", "mode", "best"),
    [("last", "max", 1), ("last", "min", 0), ("all", "max", 0), ("avg", "max", 2), ("last-5-avg", "min", 1)],
)
def test_the_best_result_depends_on_the_scope(scope, mode, best):
    found = grid([0.9, 0.1, 0.1], [0.0, 0.1, 0.6], [0.5, 0.5, 0.5]).get_best_result(scope=scope, mode=mode)
    assert found.config == {"x": best}


def test_nan_is_never_best_unless_asked_for():
    outcome = grid([math.nan], [0.1])
    assert outcome.get_best_result().config == {"x": 1}
    with pytest.raises(RuntimeError, match="Every value of 'acc' is NaN"):
        grid([math.nan], [math.nan]).get_best_result()
    assert grid([math.nan], []).get_best_result(filter_nan_and_inf=False).config == {"x": 0}


def test_of_one_trial_it_is_the_best_whatever_it_reported():
    assert grid([math.nan]).get_best_result().config == {"x": 0}


def test_a_question_that_has_no_answer_says_why():
    with pytest.raises(RuntimeError, match="No trial reported a metric 'loss'. Reported were: acc"):
        grid([0.1], [0.2]).get_best_result("loss", "min")
    with pytest.raises(RuntimeError, match="No trial reported anything.*1 of 2 failed"):
        grid([], [], errors=[0]).get_best_result()
    with pytest.raises(ValueError, match="needs a metric"):
        grid([0.1], [0.2], metric=None).get_best_result()
    with pytest.raises(ValueError, match="needs a mode"):
        grid([0.1], [0.2], mode=None).get_best_result()
    with pytest.raises(ValueError, match="'best'"):
        grid([0.1], [0.2]).get_best_result(scope="best")


def test_a_grid_is_a_sequence_with_errors_and_two_pictures_of_itself():
    outcome = grid([0.25], [0.5], [], errors=[2])
    assert len(outcome) == 3 and outcome[1].config == {"x": 1} and [r.config["x"] for r in outcome[:2]] == [0, 1]
    assert outcome.num_errors == 1 and outcome.num_terminated == 2 and str(outcome.errors[0]) == "boom"
    assert repr(outcome).splitlines() == [
        "ResultGrid: 3 trials, 1 failed",
        "state       iter  acc   config",
        "ok          1     0.25  x=0",
        "ok          1     0.5   x=1",
        "ValueError  0     -     x=2",
    ]
    html = outcome._repr_html_()
    assert "<td>0.25</td>" in html and "<td>ValueError</td>" in html and "3 trials, 1 failed" in html
    assert repr(ResultGrid([], [])) == "ResultGrid: 0 trials, 0 failed"


def test_what_a_user_names_is_escaped_in_html():
    table = ResultGrid([Result(metrics={"<b>": 1}, config={"x": "<script>"})], [{}])._repr_html_()
    assert "<script>" not in table and "&lt;script&gt;" in table and "<th>&lt;b&gt;</th>" in table


def test_the_dataframe_has_one_row_a_trial_with_its_configuration():
    frame = grid([0.25], [0.5]).get_dataframe()
    assert list(frame["acc"]) == [0.25, 0.5] and list(frame["config/x"]) == [0, 1]
    with pytest.raises(ValueError, match="both"):
        grid([0.1]).get_dataframe(filter_metric="acc")


def test_a_filtered_dataframe_has_each_trials_best_report(tmp_path):
    table, folders = running_table(), TrialFolders(tmp_path)
    trial = table.get("t0")
    trial.folder = folders.create(trial)
    for acc in (0.2, 0.8, 0.5):
        report(table, "t0", acc)
        folders.on_result(trial, trial.last_result, 0)
    outcome = ResultGrid([Result(trial.last_result, path=trial.folder, config=trial.config)], [trial.summaries])
    assert list(outcome.get_dataframe("acc", "max")["acc"]) == [0.8]
    assert list(outcome.get_dataframe("acc", "max")["training_iteration"]) == [2]
    assert list(outcome.get_dataframe()["acc"]) == [0.5]


# Arguments of the Tuner.


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: tune.TuneConfig(mode="best"), ValueError),
        (lambda: tune.TuneConfig(num_samples=0), ValueError),
        (lambda: tune.TuneConfig(max_concurrent_trials=-1), ValueError),
        (lambda: tune.TuneConfig(time_budget_s=0), ValueError),
        (lambda: tune.TuneConfig(search_alg="oracle"), ValueError),
        (lambda: tune.TuneConfig(scheduler="best"), ValueError),
        (lambda: tune.TuneConfig(search_alg=7), TypeError),
        (lambda: tune.TuneConfig(scheduler=7), TypeError),
        (lambda: tune.Tuner(lambda config: None, param_space=[1]), TypeError),
    ],
)
def test_a_wrong_argument_is_refused_where_it_is_given(make, error):
    with pytest.raises(error):
        make()


# Callbacks.


def test_callbacks_hear_a_trials_life_under_rays_names():
    class Log(tune.Callback):
        def __init__(self):
            self.heard = []

        def on_trial_start(self, iteration, trials, trial, **info):
            self.heard.append(("start", trial.trial_id))

        def on_trial_result(self, iteration, trials, trial, result, **info):
            self.heard.append(("result", result["acc"], len(trials)))

        def on_trial_complete(self, iteration, trials, trial, **info):
            self.heard.append(("complete", trial.trial_id))

        def on_trial_error(self, iteration, trials, trial, **info):
            self.heard.append(("error", trial.trial_id))

        def on_experiment_end(self, trials, **info):
            self.heard.append(("end", len(trials)))

    log, table = Log(), running_table(2)
    observer = CallbackObserver([log])
    for trial in table:
        observer.on_trial_changed(trial, 100)
    observer.on_result(report(table, "t0", 0.5), table.get("t0").last_result, 1000)
    observer.on_trial_changed(end(table, "t0"), 2000)
    observer.on_trial_changed(end(table, "t1", "fail", error=ValueError()), 2000)
    observer.on_tick(table, 2000)
    observer.on_end(table, 2000)
    assert log.heard == [
        ("start", "t0"), ("start", "t1"), ("result", 0.5, 2), ("complete", "t0"), ("error", "t1"), ("end", 2),
    ]  # fmt: skip
    with pytest.raises(TypeError, match="tune.Callback"):
        CallbackObserver([print])


# Names.


@pytest.mark.parametrize(
    "path",
    """
    tune.schedulers:ASHAScheduler tune.schedulers:AsyncHyperBandScheduler tune.schedulers:FIFOScheduler
    tune.schedulers:MedianStoppingRule tune.schedulers.async_hyperband:ASHAScheduler tune.search:BasicVariantGenerator
    tune.search.optuna:OptunaSearch tune.search:ConcurrencyLimiter tune.search.concurrency_limiter:ConcurrencyLimiter
    tune.search.searcher:Searcher tune.search.sample:Domain tune.stopper:MaximumIterationStopper
    tune.stopper.stopper:Stopper tune.stopper.trial_plateau:TrialPlateauStopper tune.search.search_algorithm:SearchAlgorithm
    tune.analysis.experiment_analysis:ExperimentAnalysis tune.experiment.trial:Trial tune.experiment:Experiment
    tune.syncer:SyncConfig tune.logger.mlflow:MLflowLoggerCallback tune.logger.aim:AimLoggerCallback air:RunConfig
    air.integrations.mlflow:MLflowLoggerCallback air.integrations.wandb:WandbLoggerCallback air:ScalingConfig
    air.integrations.comet:CometLoggerCallback air.config:RunConfig air.result:Result
    tune.result_grid:ResultGrid tune.error:TuneError tune:TuneError tune:run train:RunConfig train:Checkpoint
    """.split(),
)
def test_names_are_found_where_rays_users_import_them(path):
    module, name = path.split(":")
    assert isinstance(getattr(importlib.import_module(f"raybook.{module}"), name), type) or name == "run"


def test_every_public_name_is_there_and_others_say_so():
    assert all(getattr(tune, name) is not None for name in tune.__all__)
    assert all(getattr(train, name) is not None for name in train.__all__)
    for module in (tune, train):
        with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
            _ = module.nonsense


def test_a_trials_process_imports_neither_the_controller_nor_a_heavy_library():
    code = (
        "import sys, raybook.tune.trial_actor; from raybook import tune; tune.report; "
        "heavy = {'raybook.tune.controller', 'raybook.tune.tuner', 'optuna', 'pandas', 'torch', 'rich'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=path)
    assert answer.stdout.strip() == "[]"
