"""Results under the module path that Ray's users import them from."""

from raybook.ml.result import Result

__all__ = ["Result"]
