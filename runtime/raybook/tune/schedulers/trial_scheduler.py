"""The scheduler contract under the module path that Ray's users import it from."""

from raybook.tune.core.scheduler import FIFOScheduler, TrialScheduler

__all__ = ["FIFOScheduler", "TrialScheduler"]
