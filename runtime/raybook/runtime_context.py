"""raybook.runtime_context: where Ray's users find the runtime context. Defined in ``api/runtime_context``."""

from raybook.api.runtime_context import RuntimeContext, get_runtime_context

__all__ = ["RuntimeContext", "get_runtime_context"]
