"""Choosing the engine: what `init(engine=...)` refuses before anything is started. No Ray is needed for it."""

from __future__ import annotations

import importlib.util

import pytest

import raybook as ray


@pytest.fixture(autouse=True)
def nothing_runs() -> None:
    assert not ray.is_initialized()


def test_an_engine_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="engine='dask' is none of native, ray"):
        ray.init(engine="dask")


@pytest.mark.parametrize("setting", [{"persist": True}, {"session": "s"}, {"autoscale": 2}, {"name": "n"}])
def test_what_ray_cannot_do_is_refused_by_name(setting: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(setting))} cannot be had with engine='ray'"):
        ray.init(engine="ray", **setting)


def test_the_environment_chooses_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYBOOK_ENGINE", "nothing")

    with pytest.raises(ValueError, match="engine='nothing'"):
        ray.init()


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed here.")
def test_without_ray_it_is_said_how_to_get_it() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'raybook\[ray\]'"):
        ray.init(engine="ray")
    assert not ray.is_initialized()
