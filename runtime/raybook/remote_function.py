"""raybook.remote_function: where Ray's users find RemoteFunction. Defined in ``api/remote_function``."""

from raybook.api.remote_function import RemoteFunction

__all__ = ["RemoteFunction"]
