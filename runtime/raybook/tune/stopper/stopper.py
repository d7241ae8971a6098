"""Stoppers under the module path that Ray's users import them from."""

from raybook.tune.core.stopper import CombinedStopper, Stopper

__all__ = ["CombinedStopper", "Stopper"]
