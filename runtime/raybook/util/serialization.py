"""Serialization: how instances of a class travel, told by its user. Defined in ``api/serializers``."""

from raybook.api.serializers import deregister_serializer, register_serializer

__all__ = ["deregister_serializer", "register_serializer"]
