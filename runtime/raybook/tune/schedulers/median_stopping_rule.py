"""Median stopping under the module path that Ray's users import it from."""

from raybook.tune.core.median_stopping import MedianStoppingRule

__all__ = ["MedianStoppingRule"]
