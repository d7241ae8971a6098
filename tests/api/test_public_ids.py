"""Public ids, and the other names that users of Ray find beside the verbs."""

from __future__ import annotations

import pickle

import pytest

import raybook
from raybook.job_config import JobConfig

IDS = [
    raybook.ActorClassID,
    raybook.ActorID,
    raybook.ClusterID,
    raybook.FunctionID,
    raybook.JobID,
    raybook.NodeID,
    raybook.PlacementGroupID,
    raybook.TaskID,
    raybook.UniqueID,
    raybook.WorkerID,
]


@pytest.mark.parametrize("kind", IDS)
def test_an_id_is_made_from_what_it_shows(kind):
    some = kind.from_random()
    assert kind.from_hex(some.hex()) == kind(some.binary()) == pickle.loads(pickle.dumps(some)) == some
    assert len(some.binary()) == kind.size() and not some.is_nil()
    assert kind.nil().is_nil() and kind.nil() != some
    assert repr(some) == f"{kind.__name__}({some.hex()})"


def test_an_id_of_the_wrong_size_or_type_is_refused():
    with pytest.raises(ValueError, match="8 bytes"):
        raybook.JobID(b"short")
    with pytest.raises(TypeError, match="bytes"):
        raybook.JobID("0011223344556677")


def test_a_job_config_holds_what_init_takes():
    config = JobConfig(ray_namespace="here", runtime_env={"env_vars": {"A": "1"}}, metadata={"who": "me"})
    config.set_metadata("why", "test")
    assert (config.ray_namespace, config.metadata) == ("here", {"who": "me", "why": "test"})
    assert JobConfig.from_json({"ray_namespace": "there"}).ray_namespace == "there"
    config.set_py_logging_config(raybook.LoggingConfig(encoding="JSON"))
    assert config.py_logging_config.encoding == "JSON"
    with pytest.raises(TypeError, match="LoggingConfig"):
        config.set_py_logging_config("JSON")
    for refused in ({"jvm_options": ["-Xmx1g"]}, {"default_actor_lifetime": "detached"}):
        with pytest.raises(ValueError):
            JobConfig(**refused)


def test_a_logging_config_refuses_what_cannot_be():
    assert raybook.LoggingConfig().encoding == "TEXT"
    for refused in ({"encoding": "XML"}, {"log_level": "LOUD"}, {"additional_log_standard_attrs": ["colour"]}):
        with pytest.raises(ValueError):
            raybook.LoggingConfig(**refused)


def test_other_languages_are_refused_by_name():
    assert raybook.Language.PYTHON == 0
    with pytest.raises(NotImplementedError, match="Python only"):
        raybook.java_function("Maths", "add")
