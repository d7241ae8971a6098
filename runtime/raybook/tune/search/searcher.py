"""The searcher's base class under the module path that Ray's users import it from."""

from raybook.tune.core.searcher import Searcher

__all__ = ["Searcher"]
