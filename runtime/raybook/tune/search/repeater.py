"""The repeater under the module path that Ray's users import it from."""

from raybook.tune.core.repeater import TRIAL_INDEX, Repeater

__all__ = ["TRIAL_INDEX", "Repeater"]
