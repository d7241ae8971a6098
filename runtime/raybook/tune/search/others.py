"""Searchers of Ray's that raybook has no adapter for. Asking for one says so, and what to use in its place."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from raybook.tune.core.searcher import Searcher


class _Missing(Searcher):
    package = ""
    module = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        name = type(self).__name__
        if find_spec(self.module) is None:
            raise ImportError(f"{name} needs the package {self.package}, which is not installed.")
        raise NotImplementedError(
            f"{self.package} is installed, but raybook has no adapter for {name}. Use OptunaSearch, or derive a searcher "
            "of your own from tune.search.Searcher."
        )


class AxSearch(_Missing):
    """Ray's searcher by Ax."""

    package, module = "ax-platform", "ax"


class TuneBOHB(_Missing):
    """Ray's searcher by hpbandster."""

    package, module = "hpbandster", "hpbandster"


class NevergradSearch(_Missing):
    """Ray's searcher by nevergrad."""

    package, module = "nevergrad", "nevergrad"


class HEBOSearch(_Missing):
    """Ray's searcher by HEBO."""

    package, module = "HEBO", "hebo"


class ZOOptSearch(_Missing):
    """Ray's searcher by zoopt."""

    package, module = "zoopt", "zoopt"
