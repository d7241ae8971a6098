"""Function cache: the code of tasks that this worker runs, from the pickle that an owner sent to the function.

One function may come from several owners; it goes when all of them have forgotten it. Messages come in on the I/O thread,
``load`` is called on the main thread.
"""

from __future__ import annotations

from typing import Any

from raybook.protocol import functions
from raybook.protocol.messages.worker import ForgetFunctions, SendFunction


class FunctionCache:
    """loaded: key → function; read directly by whoever runs tasks. error: why the last ``load`` failed."""

    def __init__(self) -> None:
        self.loaded: dict[bytes, Any] = {}
        self.error: BaseException = RuntimeError("never raised")
        self._payloads: dict[bytes, bytes] = {}
        self._senders: dict[bytes, set[bytes]] = {}

    def receive(self, client_id: bytes, message: SendFunction) -> None:
        """An owner sends code, before the first task that needs it."""
        self._senders.setdefault(message.key, set()).add(client_id)
        if message.key not in self.loaded:
            self._payloads[message.key] = message.payload

    def forget(self, client_id: bytes, message: ForgetFunctions) -> list[bytes]:
        """An owner has no task left that needs these, and sends them again if it ever has. Returns what nobody needs."""
        gone = []
        for key in message.keys:
            senders = self._senders.get(key)
            if senders is None:
                continue
            senders.discard(client_id)
            if not senders:
                del self._senders[key]
                self._payloads.pop(key, None)
                self.loaded.pop(key, None)
                gone.append(key)
        return gone

    def load(self, key: bytes, name: str) -> Any:
        """Unpickle it, or None and ``error``. name: of the task, for the message."""
        payload = self._payloads.get(key)
        try:
            if payload is None:
                raise RuntimeError(f"The code of `{name}` never arrived at this worker. Please report this.")
            function = functions.load(payload)
        except BaseException as error:  # noqa: BLE001 - unpickling imports the user's modules.
            self.error = _unimportable(error) if isinstance(error, ImportError) else error
            return None
        self.loaded[key] = function
        self._payloads.pop(key, None)
        return function


def _unimportable(error: ImportError) -> RuntimeError:
    """The code of a task needs a module that this worker does not find."""
    wrapped = RuntimeError(
        "The remote function failed to import on the worker. This may be because needed library dependencies are not "
        f"installed in the worker environment: {error}. Add them with runtime_env={{'pip': [...]}}, or the folder they are "
        "in with runtime_env={'py_modules': [...]}."
    )
    wrapped.__cause__ = error
    return wrapped
