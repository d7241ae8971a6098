"""HyperBandScheduler under the module path of Ray. It is pure, so it lives in `raybook.tune.core`."""

from raybook.tune.core.hyperband import HyperBandScheduler

__all__ = ["HyperBandScheduler"]
