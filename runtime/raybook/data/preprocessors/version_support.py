"""Ids of preprocessor classes, by which serialized ones find their class again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from raybook.data.preprocessor import REGISTRY, SerializablePreprocessorBase, UnknownPreprocessorError

Kind = TypeVar("Kind", bound=type)


def SerializablePreprocessor(version: int, identifier: str) -> Callable[[Kind], Kind]:
    """Class decorator: serialize under this id and version. TypeError for other classes."""

    def decorate(cls: Kind) -> Kind:
        if not issubclass(cls, SerializablePreprocessorBase):
            raise TypeError(
                f"Class {cls.__module__}.{cls.__qualname__} must inherit from SerializablePreprocessorBase to use "
                "@SerializablePreprocessor decorator."
            )
        cls.set_version(version)
        cls.set_preprocessor_class_id(identifier)
        REGISTRY[identifier] = cls
        return cls

    return decorate


__all__ = ["SerializablePreprocessor", "UnknownPreprocessorError"]
