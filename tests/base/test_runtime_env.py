"""RuntimeEnv: the dict that users write, its checks and its one form."""

from __future__ import annotations

import copy
import pickle

import pytest

from raybook.base.runtime_env import RuntimeEnv, RuntimeEnvConfig, merge


def test_fields_that_are_none_or_empty_are_not_there():
    assert RuntimeEnv(env_vars={"A": "1"}, pip=None) == {"env_vars": {"A": "1"}}
    assert RuntimeEnv(env_vars={}, pip=[], excludes=[]) == {}


def test_packages_have_one_form_however_they_are_written(tmp_path):
    (tmp_path / "requirements.txt").write_text("one\n\n# two\nthree==1\none\n")
    expected = {"packages": ["one", "three==1"], "pip_check": False}
    assert RuntimeEnv(pip=["one", "three==1", "one"])["pip"] == expected
    assert RuntimeEnv(pip=str(tmp_path / "requirements.txt"))["pip"] == expected
    assert RuntimeEnv(pip={"packages": ["one", "three==1"]}).pip_config() == expected


def test_a_field_is_checked_when_it_is_set_later():
    environment = RuntimeEnv()
    environment.set("env_vars", {"A": "1"})
    assert environment.env_vars() == {"A": "1"}
    with pytest.raises(TypeError, match="Dict\\[str, str\\], but the value 1 is of type"):
        environment["env_vars"] = {"A": 1}


def test_it_travels_as_json_and_as_a_pickle_without_being_looked_at_again(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    environment = RuntimeEnv(working_dir=str(folder), pip=["x"], config={"setup_timeout_seconds": 5})
    folder.rmdir()
    assert RuntimeEnv.deserialize(environment.serialize()) == environment
    assert pickle.loads(pickle.dumps(environment)) == environment == copy.deepcopy(environment)
    assert isinstance(pickle.loads(pickle.dumps(environment)), RuntimeEnv)
    assert type(environment.to_dict()["config"]) is dict


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"pip": ["a"], "conda": "b"}, ValueError, "cannot be specified at the same time"),
        ({"pip": {"packages": ["a"], "x": 1}}, ValueError, "can only have these fields"),
        ({"uv": {"uv_check": True}}, ValueError, "must include field 'packages'"),
        ({"uv": {"packages": "a"}}, ValueError, "is not a valid file"),
        ({"pip": {"packages": ["a"], "pip_version": 3}}, TypeError, "must be of type str"),
        ({"pip": {"packages": ["a", 1]}}, TypeError, "for 1-th item"),
        ({"conda": 3}, TypeError, "must be of type str or dict"),
        ({"conda": "absent.yml"}, ValueError, "Can't find conda YAML file"),
        ({"py_modules": [3]}, TypeError, "`py_module` must be a string"),
        ({"image_uri": "x"}, ValueError, "not supported"),
        ({"config": 3}, TypeError, "must be of type dict or RuntimeEnvConfig"),
    ],
)
def test_what_is_wrong_is_named(fields, error, text):
    with pytest.raises(error, match=text):
        RuntimeEnv(**fields)


def test_a_config_has_defaults_and_warns_of_entries_that_nobody_knows(caplog):
    assert RuntimeEnvConfig() == RuntimeEnvConfig.default_config()
    assert RuntimeEnvConfig()["setup_timeout_seconds"] == 600 and RuntimeEnvConfig()["eager_install"] is True
    read = RuntimeEnvConfig.parse_and_validate_runtime_env_config({"setup_timeout_seconds": -1, "colour": "red"})
    assert read["setup_timeout_seconds"] == -1 and "colour" in caplog.text
    for wrong, error in ((0, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match="setup_timeout_seconds"):
            RuntimeEnvConfig(setup_timeout_seconds=wrong)
    with pytest.raises(TypeError, match="eager_install must be a boolean"):
        RuntimeEnvConfig(eager_install=1)


def test_merging_goes_variable_by_variable_and_a_conflict_is_none():
    parent, child = {"env_vars": {"A": "1"}, "pip": ["x"]}, {"env_vars": {"B": "2"}}
    assert merge(parent, child) == {"env_vars": {"A": "1", "B": "2"}, "pip": ["x"]}
    assert merge(parent, {"env_vars": {"A": "2"}}) is None and merge(parent, {"pip": ["y"]}) is None
    assert merge(parent, {"env_vars": {"A": "2"}}, override=True) == {"env_vars": {"A": "2"}, "pip": ["x"]}
    assert merge(None, None) == {}
