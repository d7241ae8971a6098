"""raybook.cross_language: Ray's names for functions and classes of other languages; they are refused when called."""

from raybook.api.other_languages import cpp_function, java_actor_class, java_function

__all__ = ["cpp_function", "java_actor_class", "java_function"]
