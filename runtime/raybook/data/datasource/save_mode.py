"""What a write does with what is already there."""

from __future__ import annotations

import enum


class SaveMode(str, enum.Enum):
    """CREATE and ERROR refuse a target that holds data; APPEND adds to it; OVERWRITE empties it first; IGNORE leaves it
    as it is and writes nothing; UPSERT replaces rows of the same key, where a format can."""

    CREATE = "create"
    APPEND = "append"
    OVERWRITE = "overwrite"
    IGNORE = "ignore"
    ERROR = "error"
    UPSERT = "upsert"
