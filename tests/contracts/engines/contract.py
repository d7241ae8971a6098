"""The engine contract: which engines it is checked on, and how a row says what an engine refuses.

A row is a test whose name is a sentence. It runs on every engine; what an engine cannot do it has to refuse at the call, by
name, and the row then checks the refusal. ``table.py`` writes the rows and their results into docs/engines.md.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

NATIVE, SESSION, RAY = "native", "session", "ray"
ENGINES = (NATIVE, SESSION, RAY)
CHOICE = "RAYBOOK_CONTRACT_ENGINES"
"""Names with commas between; default: all that are installed."""
PATIENCE_S = 50
"""How long a row waits for what should be there at once: as long as one test may take."""
REFUSALS = "contract_refusals"


@dataclass(frozen=True)
class Engine:
    """name: of the engine. ray: ``raybook``, connected to a cluster of four CPUs, two pretended GPUs and two "disk"."""

    name: str
    ray: ModuleType


def chosen() -> list[str]:
    """The engines of this run."""
    named = [name.strip() for name in os.environ.get(CHOICE, "").split(",") if name.strip()]
    unknown = set(named) - set(ENGINES)
    if unknown:
        raise pytest.UsageError(f"{CHOICE}: {', '.join(sorted(unknown))} is none of {', '.join(ENGINES)}.")
    if named:
        return named
    return list(ENGINES) if has_ray() else [NATIVE, SESSION]


def has_ray() -> bool:
    """Whether a real Ray can be imported here."""
    return importlib.util.find_spec("ray") is not None


def refused(**words: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Engine → a word of the refusal: what the row asks of that engine is refused with a ValueError that has it."""

    def mark(row: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(row)
        def checked(engine: Engine, *args: Any, **kwargs: Any) -> None:
            word = words.get(engine.name)
            if word is None:
                row(engine, *args, **kwargs)
                return
            with pytest.raises(ValueError, match=word):
                row(engine, *args, **kwargs)

        setattr(checked, REFUSALS, words)
        return checked

    return mark
