"""Ids of preprocessor classes, by which serialized ones find their class again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from raybook.data.preprocessor import SerializablePreprocessorBase

Kind = TypeVar("Kind", bound=type)

_REGISTRY: dict[str, type[SerializablePreprocessorBase]] = {}


class UnknownPreprocessorError(ValueError):
    """A serialized preprocessor is of a class that has not been imported here."""

    def __init__(self, preprocessor_type: str) -> None:
        self.preprocessor_type = preprocessor_type
        super().__init__(
            f"Unknown preprocessor type: {preprocessor_type}. Import the module that defines it before deserializing."
        )


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
        _REGISTRY[identifier] = cls
        return cls

    return decorate


def lookup_class(identifier: str) -> type[SerializablePreprocessorBase]:
    """The class of an id. UnknownPreprocessorError."""
    if identifier not in _REGISTRY:
        raise UnknownPreprocessorError(identifier)
    return _REGISTRY[identifier]
