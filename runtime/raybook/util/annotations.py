"""Annotations: how stable a name is, as libraries written for Ray mark their own. They note it, and do nothing else."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from raybook.base.deprecations import RayDeprecationWarning as RayDeprecationWarning


def PublicAPI(*args: Any, stability: str = "stable", api_group: str = "Others") -> Any:
    """Mark a public name: "stable", "beta" or "alpha"."""
    if stability not in ("stable", "beta", "alpha"):
        raise ValueError(f"stability is 'stable', 'beta' or 'alpha', got {stability!r}.")
    return _mark(args, "PublicAPI", stability)


def DeveloperAPI(*args: Any, **_: Any) -> Any:
    """Mark a name for those who extend a library."""
    return _mark(args, "DeveloperAPI", "")


def Deprecated(*args: Any, message: str = "", warning: bool = False) -> Any:
    """Mark a name that will go away; with ``warning``, calling it says so."""

    def mark(target: Any) -> Any:
        _annotate(target, "Deprecated", "")
        return _warn_when_called(target, message) if warning else target

    return mark(args[0]) if args else mark


def _warn_when_called(target: Any, message: str) -> Callable[..., Any]:
    text = f"{target.__name__} is deprecated. {message}".rstrip()
    if isinstance(target, type):
        original = target.__init__  # type: ignore[misc]

        @functools.wraps(original)
        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            warnings.warn(text, RayDeprecationWarning, stacklevel=2)
            original(self, *args, **kwargs)

        target.__init__ = init  # type: ignore[misc]
        return target

    @functools.wraps(target)
    def call(*args: Any, **kwargs: Any) -> Any:
        warnings.warn(text, RayDeprecationWarning, stacklevel=2)
        return target(*args, **kwargs)

    return call


def _mark(args: tuple, kind: str, stability: str) -> Any:
    if args:
        return _annotate(args[0], kind, stability)
    return lambda target: _annotate(target, kind, stability)


def _annotate(target: Any, kind: str, stability: str) -> Any:
    target._annotated = getattr(target, "__name__", "")
    target._annotated_type = kind
    target._annotated_stability = stability
    return target
