"""ASHA under the module path that Ray's users import it from."""

from raybook.tune.core.asha import ASHAScheduler, AsyncHyperBandScheduler

__all__ = ["ASHAScheduler", "AsyncHyperBandScheduler"]
