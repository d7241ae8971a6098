"""HEBOSearch under the module path that Ray's users import it from."""

from raybook.tune.search.others import HEBOSearch

__all__ = ["HEBOSearch"]
