"""Trials and experiments under the module path that Ray's users import them from."""

from raybook.tune.trial import Trial
from raybook.tune.tune import Experiment

__all__ = ["Experiment", "Trial"]
