"""SearchAlgorithm under the module path that Ray's users import it from: here every searcher is one."""

from raybook.tune.core.searcher import Searcher as SearchAlgorithm

__all__ = ["SearchAlgorithm"]
