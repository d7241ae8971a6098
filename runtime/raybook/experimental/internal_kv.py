"""internal_kv: the cluster's key-value table under Ray's names, for small facts that processes leave for each other.

Keys and values are bytes or text, which is stored as UTF-8; what comes back is bytes. Keys live in a room of their own
beside what raybook itself keeps in the table. Every function is one round trip to the GCS (deleting by prefix: one for each
key) and raises RuntimeError while nothing is started.
"""

from __future__ import annotations

from raybook.api.context import current_runtime
from raybook.api.kv import kv_delete, kv_get, kv_keys, kv_put

ROOM = "user_kv:"


def _internal_kv_initialized() -> bool:
    """Whether the table can be asked."""
    return current_runtime.engine is not None


def _internal_kv_get(key: str | bytes, *, namespace: str | bytes | None = None) -> bytes | None:
    """The value of a key; None when there is none."""
    return kv_get(_room(namespace), _bytes(key))


def _internal_kv_exists(key: str | bytes, *, namespace: str | bytes | None = None) -> bool:
    """Whether there is such a key."""
    return kv_get(_room(namespace), _bytes(key)) is not None


def _internal_kv_put(
    key: str | bytes, value: str | bytes, overwrite: bool = True, *, namespace: str | bytes | None = None
) -> bool:
    """Set a key. Returns whether it was there before; without ``overwrite`` it then keeps its value."""
    return not kv_put(_room(namespace), _bytes(key), _bytes(value), overwrite)


def _internal_kv_del(key: str | bytes, *, del_by_prefix: bool = False, namespace: str | bytes | None = None) -> int:
    """Forget a key, or all that begin so; returns how many there were."""
    room = _room(namespace)
    keys = kv_keys(room, _bytes(key)) if del_by_prefix else [_bytes(key)]
    return sum(kv_delete(room, each) for each in keys)


def _internal_kv_list(prefix: str | bytes, *, namespace: str | bytes | None = None) -> list[bytes]:
    """The keys that begin so."""
    return kv_keys(_room(namespace), _bytes(prefix))


def _bytes(text: str | bytes) -> bytes:
    if isinstance(text, str):
        return text.encode()
    if isinstance(text, bytes):
        return text
    raise TypeError(f"Keys and values are str or bytes, got {type(text)}.")


def _room(namespace: str | bytes | None) -> str:
    return ROOM + _bytes(namespace or b"").decode()
