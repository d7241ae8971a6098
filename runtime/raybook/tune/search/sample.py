"""Domains under Ray's import path."""

from raybook.tune.core.space import Categorical, Domain, Float, Function, Integer

__all__ = ["Categorical", "Domain", "Float", "Function", "Integer"]
