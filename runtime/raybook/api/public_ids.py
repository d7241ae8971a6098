"""Public ids: the classes of identifiers that users meet. Each is the bytes it names, with Ray's methods on them.

Inside, ids are plain bytes (``base/ids``); they get a class where they leave. Sizes are ours, and differ from Ray's;
with Ray as the engine, ids are Ray's and have its sizes.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

from raybook.api.context import started_engine
from raybook.base.ids import ACTOR_ID_BYTES, CLIENT_ID_BYTES, OBJECT_ID_BYTES, TASK_ID_BYTES


class BaseID(bytes):
    """An identifier. Equal to others of the same bytes; ``hex()`` is what the state API shows."""

    SIZE: ClassVar[int] = CLIENT_ID_BYTES
    RAY_SIZE: ClassVar[int] = 28

    def __new__(cls, id: bytes = b"") -> Any:
        """ValueError when it has the wrong size."""
        if not isinstance(id, bytes):
            raise TypeError(f"A {cls.__name__} is made from bytes, got {type(id).__name__}.")
        if id and len(id) not in (cls.SIZE, cls.RAY_SIZE):
            raise ValueError(f"A {cls.__name__} has {cls.SIZE} bytes, got {len(id)}.")
        return super().__new__(cls, id or cls.nil_bytes())

    @classmethod
    def nil_bytes(cls) -> bytes:
        """What ``nil`` holds."""
        return b"\xff" * cls.SIZE

    @classmethod
    def nil(cls) -> Any:
        """The id that names nothing."""
        return cls(cls.nil_bytes())

    @classmethod
    def from_hex(cls, hex_id: str) -> Any:
        """The id that ``hex()`` wrote. ValueError for anything else."""
        return cls(bytes.fromhex(hex_id))

    @classmethod
    def from_binary(cls, id_bytes: bytes) -> Any:
        """The id of these bytes."""
        return cls(id_bytes)

    @classmethod
    def from_random(cls) -> Any:
        """An id that names nothing yet."""
        return cls(os.urandom(cls.SIZE))

    @classmethod
    def size(cls) -> int:
        """Bytes."""
        return cls.SIZE

    def binary(self) -> bytes:
        """The bytes."""
        return bytes(self)

    def is_nil(self) -> bool:
        """Whether it names nothing."""
        return bytes(self) == self.nil_bytes()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hex()})"

    def __str__(self) -> str:
        return repr(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (bytes(self),)


class UniqueID(BaseID):
    """Any id of eight bytes."""


class JobID(BaseID):
    """One driver's work."""

    RAY_SIZE = 4

    @classmethod
    def from_int(cls, value: int) -> Any:
        """The id that ``int()`` tells."""
        return cls(value.to_bytes(cls.SIZE, "big"))

    def int(self) -> int:
        """It as a number."""
        return int.from_bytes(self, "big")


class NodeID(BaseID):
    """A node."""


class WorkerID(BaseID):
    """A worker or driver process."""


class ClusterID(BaseID):
    """A cluster."""


class TaskID(BaseID):
    """A task or actor call. Begins with its owner's WorkerID."""

    SIZE = TASK_ID_BYTES
    RAY_SIZE = 24

    def job_id(self) -> JobID:
        """The id of this process's job, the only one whose tasks it hears of."""
        return JobID(started_engine().job_id)


class ActorID(BaseID):
    """An actor. Begins with its creator's WorkerID."""

    SIZE = ACTOR_ID_BYTES
    RAY_SIZE = 16


class PlacementGroupID(BaseID):
    """A placement group."""

    SIZE = ACTOR_ID_BYTES
    RAY_SIZE = 18


class FunctionID(BaseID):
    """An exported function: the hash of its pickle."""

    SIZE = 16


class ActorClassID(FunctionID):
    """An exported class."""


OBJECT_ID_SIZE = OBJECT_ID_BYTES
