"""The concurrency limiter under the module path that Ray's users import it from."""

from raybook.tune.core.concurrency_limiter import ConcurrencyLimiter

__all__ = ["ConcurrencyLimiter"]
