"""The analysis under the module path that Ray's users import it from."""

from raybook.tune.experiment_analysis import ExperimentAnalysis

__all__ = ["ExperimentAnalysis"]
