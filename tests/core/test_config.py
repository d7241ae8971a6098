"""Configuration: names in the environment, Ray's names where they are taken, and what is refused."""

from __future__ import annotations

import pytest

from raybook.base.config import Config, read_environment


def test_nothing_said_is_the_defaults():
    assert read_environment({"PATH": "/bin"}) == Config()


def test_fields_are_read_by_their_names():
    found = read_environment({"RAYBOOK_MEMORY_USAGE_THRESHOLD": "0.8", "RAYBOOK_TASK_OOM_RETRIES": "3"})

    assert (found.memory_usage_threshold, found.task_oom_retries) == (0.8, 3)


def test_rays_names_are_taken_and_ours_win():
    rays = {"RAY_memory_usage_threshold": "0.7", "RAY_memory_monitor_refresh_ms": "0"}

    assert read_environment(rays).memory_usage_threshold == 0.7
    assert read_environment(rays).memory_monitor_refresh_ms == 0
    assert read_environment({**rays, "RAYBOOK_MEMORY_USAGE_THRESHOLD": "0.9"}).memory_usage_threshold == 0.9


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("RAYBOOK_MEMORY_MONITOR_REFRESH_MS", "soon", "must be a number, got 'soon'"),
        ("RAY_memory_usage_threshold", "95", "between 0 and 1, got '95'"),
        ("RAYBOOK_SPILL_THRESHOLD", "-0.1", "between 0 and 1"),
    ],
)
def test_value_that_cannot_be_names_its_variable(name, value, said):
    with pytest.raises(ValueError, match=f"{name}.*{said}"):
        read_environment({name: value})
