"""raybook.types: where Ray's users find ObjectRef for annotations: ``def f(x: ObjectRef[int])``."""

from raybook.api import ObjectRef

__all__ = ["ObjectRef"]
