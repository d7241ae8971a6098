"""AxSearch under the module path that Ray's users import it from."""

from raybook.tune.search.others import AxSearch

__all__ = ["AxSearch"]
