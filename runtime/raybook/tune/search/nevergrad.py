"""NevergradSearch under the module path that Ray's users import it from."""

from raybook.tune.search.others import NevergradSearch

__all__ = ["NevergradSearch"]
