"""Stoppers under the module path that Ray's users import them from."""

from raybook.tune.core.plateau import ExperimentPlateauStopper

__all__ = ["ExperimentPlateauStopper"]
