"""Trials under the module path that Ray's users import them from."""

from raybook.tune.trial import Trial

__all__ = ["Trial"]
