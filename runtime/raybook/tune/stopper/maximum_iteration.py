"""Stoppers under the module path that Ray's users import them from."""

from raybook.tune.core.stopper import MaximumIterationStopper

__all__ = ["MaximumIterationStopper"]
