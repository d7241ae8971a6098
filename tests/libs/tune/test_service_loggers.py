"""Loggers of services that are not installed here: what they call, heard by stand-ins for the libraries, and what they say
without them."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from raybook import tune
from raybook.testing.fake_trial_executor import Step
from raybook.testing.virtual_sweep import VirtualSweep as Sweep
from raybook.tune.callback import CallbackObserver
from raybook.tune.logger.aim import AimLoggerCallback
from raybook.tune.logger.comet import CometLoggerCallback
from raybook.tune.logger.mlflow import MLflowLoggerCallback, setup_mlflow
from raybook.tune.logger.wandb import WandbLoggerCallback, setup_wandb


class Ear:
    """An object that notes every call on it, with a name; what a call returns notes under that name, too."""

    def __init__(self, heard, name=""):
        self._heard, self._name = heard, name

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args, **kwargs):
            self._heard.append((f"{self._name}{name}", args, kwargs))
            return Ear(self._heard, f"{name}.")

        return call

    def __setitem__(self, key, value):
        self._heard.append((f"{self._name}set", (key, value), {}))


def calls(heard, name):
    return [(args, kwargs) for called, args, kwargs in heard if called == name]


def sweep_with(callback):
    """Two trials of two reports, the second of which fails, with this callback."""

    def script(launch):
        yield Step({"acc": 0.5, "text": "x", "inner": {"loss": 1}})
        if launch.config["x"] == 2:
            yield Step(error=ValueError("x"))
        yield Step({"acc": float("nan"), "inner": {"loss": 0.5}})

    sweep = Sweep(script, {"x": tune.grid_search([1, 2]), "net": {"width": 8}})
    sweep.controller._observers = (*sweep.controller._observers, CallbackObserver([callback]))
    return sweep.run()


@pytest.fixture
def install(monkeypatch):
    def put(**modules):
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name.replace("__", "."), module)

    return put


@pytest.mark.parametrize(
    ("make", "package"),
    [
        (MLflowLoggerCallback, "mlflow"),
        (setup_mlflow, "mlflow"),
        (WandbLoggerCallback, "wandb"),
        (setup_wandb, "wandb"),
        (CometLoggerCallback, "comet-ml"),
        (AimLoggerCallback, "aim"),
    ],
)
def test_without_its_library_a_logger_says_what_to_install(make, package, monkeypatch):
    for module in ("mlflow", "wandb", "comet_ml", "aim"):
        monkeypatch.setitem(sys.modules, module, None)
    for kind in (ImportError, RuntimeError):
        with pytest.raises(kind, match=f"needs the package {package}, which is not installed: pip install {package}"):
            make()


def test_mlflow_gets_a_run_for_each_trial_with_its_parameters_numbers_and_end(install):
    heard = []

    class Client(Ear):
        def __init__(self, **kwargs):
            super().__init__(heard)
            heard.append(("client", (), kwargs))

        def get_experiment_by_name(self, name):
            return None

        def create_experiment(self, name, artifact_location=None):
            heard.append(("create_experiment", (name,), {}))
            return "7"

        def create_run(self, experiment_id, tags, run_name):
            heard.append(("create_run", (experiment_id, tags["team"]), {}))
            return SimpleNamespace(info=SimpleNamespace(run_id=f"run of {run_name}"))

    mlflow = ModuleType("mlflow")
    mlflow.tracking = SimpleNamespace(MlflowClient=Client)
    install(mlflow=mlflow)
    sweep_with(MLflowLoggerCallback("file:/tmp/x", experiment_name="sweep", tags={"team": "a"}, save_artifact=True))
    assert calls(heard, "client") == [((), {"tracking_uri": "file:/tmp/x", "registry_uri": None})]
    assert calls(heard, "create_experiment") == [(("sweep",), {})]
    assert calls(heard, "create_run") == [(("7", "a"), {})] * 2
    run = "run of trainable_t_00000"
    assert (("run of trainable_t_00000", "net/width", 8), {}) in calls(heard, "log_param")
    losses = [
        (args[2], kwargs["step"]) for args, kwargs in calls(heard, "log_metric") if args[:2] == (run, "inner/loss")
    ]
    assert losses == [(1.0, 1), (0.5, 2)]
    assert [args[2] for args, _ in calls(heard, "log_metric") if args[:2] == (run, "acc")] == [0.5]  # No NaN.
    assert sorted(kwargs["status"] for _, kwargs in calls(heard, "set_terminated")) == ["FAILED", "FINISHED"]
    assert len(calls(heard, "log_artifacts")) == 2


def test_wandb_gets_a_run_for_each_trial_beside_the_others(install, monkeypatch, tmp_path):
    heard = []
    wandb = ModuleType("wandb")
    wandb.init = Ear(heard).init
    install(wandb=wandb)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    key = tmp_path / "key"
    key.write_text("secret\n")
    callback = WandbLoggerCallback(
        "project", api_key_file=str(key), excludes=["inner/loss"], log_config=True, job_type="t"
    )
    sweep_with(callback)
    import os

    assert os.environ.pop("WANDB_API_KEY") == "secret"
    settings = [kwargs for _, kwargs in calls(heard, "init")]
    assert [each["id"] for each in settings] == ["t_00000", "t_00001"]
    assert all(each["reinit"] == "create_new" and each["job_type"] == "t" for each in settings)
    assert settings[0]["project"] == "project" and settings[0]["config"] == {"x": 1, "net/width": 8}
    logged = [args[0] for args, _ in calls(heard, "init.log")]
    assert all("inner/loss" not in each and each["config/x"] in (1, 2) for each in logged) and len(logged) == 3
    assert sorted(kwargs["exit_code"] for _, kwargs in calls(heard, "init.finish")) == [0, 1]
    with pytest.raises(ValueError, match="Both WandB"):
        WandbLoggerCallback(api_key="a", api_key_file="b").setup()


def test_comet_gets_an_experiment_for_each_trial(install):
    heard = []
    comet, config = ModuleType("comet_ml"), ModuleType("comet_ml.config")
    comet.OfflineExperiment = Ear(heard).OfflineExperiment
    config.set_global_experiment = Ear(heard).set_global_experiment
    install(comet_ml=comet, comet_ml__config=config)
    sweep_with(CometLoggerCallback(online=False, tags=["a"], project_name="p", log_env_cpu=True))
    settings = [kwargs for _, kwargs in calls(heard, "OfflineExperiment")]
    assert len(settings) == 2 and settings[0]["project_name"] == "p"
    assert settings[0]["log_env_cpu"] is True and settings[0]["log_git_patch"] is False
    assert (("a",), {}) not in calls(heard, "OfflineExperiment.add_tags")
    assert calls(heard, "OfflineExperiment.add_tags") == [((["a"],), {})] * 2
    metrics = [args[0] for args, _ in calls(heard, "OfflineExperiment.log_metrics")]
    assert metrics[0]["inner/loss"] == 1.0 and "done" not in metrics[0]
    assert len(calls(heard, "OfflineExperiment.end")) == 2


def test_aim_gets_a_run_for_each_trial_with_the_metrics_asked_for(install):
    heard = []
    aim = ModuleType("aim")
    aim.Run = Ear(heard).Run
    install(aim=aim)
    sweep_with(AimLoggerCallback("repo", metrics=["acc"]))
    assert [kwargs["repo"] for _, kwargs in calls(heard, "Run")] == ["repo", "repo"]
    assert (("hparams", {"x": 1}), {}) in calls(heard, "Run.set")
    tracked = [(kwargs["name"], kwargs["value"], kwargs["step"]) for _, kwargs in calls(heard, "Run.track")]
    assert tracked == [("ray/tune/acc", 0.5, 1)] * 2
    assert len(calls(heard, "Run.close")) == 2
    with pytest.raises(TypeError, match="must be a list of names"):
        AimLoggerCallback(metrics="acc")


def test_a_run_of_a_trials_own_needs_a_name_only_outside_of_trials(install):
    heard = []
    mlflow = ModuleType("mlflow")
    mlflow.tracking = SimpleNamespace(MlflowClient=lambda: SimpleNamespace(get_experiment_by_name=lambda name: None))
    for name in ("set_tracking_uri", "start_run", "log_params"):
        setattr(mlflow, name, getattr(Ear(heard), name))
    install(mlflow=mlflow)
    with pytest.raises(ValueError, match="outside of a trial needs an experiment_name"):
        setup_mlflow()
    with pytest.raises(ValueError, match="MLflow has no experiment named 'a'"):
        setup_mlflow(experiment_name="a")
    assert setup_mlflow({"net": {"width": 8}}, experiment_id="3", tracking_uri="u") is mlflow
    assert calls(heard, "start_run") == [((), {"experiment_id": "3", "run_name": None, "tags": {}})]
    assert calls(heard, "log_params") == [(({"net/width": 8},), {})]
