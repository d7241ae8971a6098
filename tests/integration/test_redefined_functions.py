"""A cell that is run again and again: its old versions go, here and in the workers."""

from __future__ import annotations

import gc
import os
from types import ModuleType
from typing import Any

import psutil

import raybook as ray

VERSION_BYTES = 4 << 20
VERSIONS = 40


def version(number: int) -> Any:
    captured = os.urandom(VERSION_BYTES)

    @ray.remote
    def cell() -> tuple[int, int, int]:
        return number, len(captured), psutil.Process().memory_info().rss

    return cell


def test_old_versions_of_a_function_are_forgotten(cluster: ModuleType) -> None:
    mine = psutil.Process()
    ray.get(version(0).remote())
    before = mine.memory_info().rss

    sizes: dict[int, list[int]] = {}
    for number in range(1, VERSIONS):
        told, length, size = ray.get(version(number).remote())
        assert (told, length) == (number, VERSION_BYTES)
        sizes.setdefault(number // 10, []).append(size)
    gc.collect()

    everything = VERSIONS * VERSION_BYTES
    assert mine.memory_info().rss - before < everything // 2
    assert max(sizes[3]) - min(sizes[0]) < everything // 2


def test_an_old_version_that_the_user_kept_still_runs(cluster: ModuleType) -> None:
    kept = version(0)
    assert ray.get(kept.remote())[0] == 0
    for number in range(1, 12):
        ray.get(version(number).remote())

    assert ray.get([kept.remote() for _ in range(20)])[19][0] == 0
