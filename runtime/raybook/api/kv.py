"""Key-value table of the GCS: small facts that processes of one cluster leave for each other. One round trip each."""

from __future__ import annotations

from raybook.api.context import started_engine
from raybook.protocol.messages.gcs import KvDelete, KvGet, KvKeys, KvPut


def kv_put(namespace: str, key: bytes, value: bytes, overwrite: bool = True) -> bool:
    """Set a key, and say whether it is new; one that is there stays as it is without ``overwrite``. RuntimeError when
    nothing was started."""
    return started_engine().gcs_call("KvPut", KvPut(namespace, key, value, overwrite)).added


def kv_get(namespace: str, key: bytes) -> bytes | None:
    """The value of a key; None when there is none."""
    return started_engine().gcs_call("KvGet", KvGet(namespace, key)).value


def kv_delete(namespace: str, key: bytes) -> bool:
    """Forget a key, and say whether there was one."""
    return started_engine().gcs_call("KvDelete", KvDelete(namespace, key)).added


def kv_keys(namespace: str, prefix: bytes = b"") -> list[bytes]:
    """All keys of a namespace that begin so."""
    return list(started_engine().gcs_call("KvKeys", KvKeys(namespace, prefix)).keys)
