"""Searchers under Ray's import paths: `raybook.tune.search.optuna.OptunaSearch` and the like.

The libraries behind them are imported when a searcher is made, so this package costs nothing without them.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

from raybook.tune.core.concurrency_limiter import ConcurrencyLimiter
from raybook.tune.core.repeater import Repeater
from raybook.tune.core.searcher import FINISHED, Searcher
from raybook.tune.core.space import grid_search
from raybook.tune.search.basic_variant import BasicVariantGenerator

SearchAlgorithm = Searcher
SearchGenerator = Searcher

SEARCH_ALG_IMPORT = {
    "variant_generator": ("basic_variant", "BasicVariantGenerator"),
    "random": ("basic_variant", "BasicVariantGenerator"),
    "ax": ("ax", "AxSearch"),
    "hyperopt": ("hyperopt", "HyperOptSearch"),
    "bayesopt": ("bayesopt", "BayesOptSearch"),
    "bohb": ("bohb", "TuneBOHB"),
    "nevergrad": ("nevergrad", "NevergradSearch"),
    "optuna": ("optuna", "OptunaSearch"),
    "zoopt": ("zoopt", "ZOOptSearch"),
    "hebo": ("hebo", "HEBOSearch"),
}


def create_searcher(search_alg: str, **kwargs: Any) -> Searcher:
    """Make a searcher by name ("optuna", "hyperopt", "random", …), with those of kwargs that it knows.

    Raises ValueError for an unknown name, ImportError where the library behind it is missing.
    """
    name = search_alg.lower()
    if name not in SEARCH_ALG_IMPORT:
        raise ValueError(f"The `search_alg` argument must be one of {list(SEARCH_ALG_IMPORT)}. Got: {search_alg}")
    module, class_name = SEARCH_ALG_IMPORT[name]
    made = getattr(import_module(f"raybook.tune.search.{module}"), class_name)
    known = inspect.signature(made).parameters
    return made(**{key: value for key, value in kwargs.items() if key in known})


__all__ = [
    "FINISHED",
    "BasicVariantGenerator",
    "ConcurrencyLimiter",
    "Repeater",
    "SearchAlgorithm",
    "SearchGenerator",
    "Searcher",
    "create_searcher",
    "grid_search",
]
