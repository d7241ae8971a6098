"""Comet under the module path that Ray's users import it from."""

from raybook.tune.logger.comet import CometLoggerCallback

__all__ = ["CometLoggerCallback"]
