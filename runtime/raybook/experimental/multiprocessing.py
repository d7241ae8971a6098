"""Where ``Pool`` was in older versions of Ray."""

from raybook.util.multiprocessing import Pool

__all__ = ["Pool"]
