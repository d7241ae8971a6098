"""Searchers under Ray's import paths: `raybook.tune.search.optuna.OptunaSearch` and the like.

`optuna` itself is imported when an OptunaSearch is made, so this package costs nothing without it.
"""

from raybook.tune.core.searcher import FINISHED, ConcurrencyLimiter, Searcher
from raybook.tune.search.basic_variant import BasicVariantGenerator

__all__ = ["FINISHED", "BasicVariantGenerator", "ConcurrencyLimiter", "Searcher"]
