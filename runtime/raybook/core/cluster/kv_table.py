"""Key-value table of the cluster: bytes by (namespace, key). A dictionary with the four verbs; one writer, no deadline.

Decides only what "added" means: put made the key, or delete removed it.
"""

from __future__ import annotations

from collections.abc import Iterator


class KvTable:
    """Namespaces appear with their first key and go with their last."""

    def __init__(self) -> None:
        self._spaces: dict[str, dict[bytes, bytes]] = {}

    def put(self, namespace: str, key: bytes, value: bytes, *, overwrite: bool = True) -> bool:
        """True when the key is new. An existing value stays when ``overwrite`` is false."""
        space = self._spaces.setdefault(namespace, {})
        added = key not in space
        if added or overwrite:
            space[key] = value
        return added

    def get(self, namespace: str, key: bytes) -> bytes | None:
        return self._spaces.get(namespace, {}).get(key)

    def delete(self, namespace: str, key: bytes) -> bool:
        """True when there was such a key."""
        space = self._spaces.get(namespace)
        if space is None or space.pop(key, None) is None:
            return False
        if not space:
            del self._spaces[namespace]
        return True

    def keys(self, namespace: str, prefix: bytes = b"") -> list[bytes]:
        """Keys that start so, in the order of their making. Cost: one pass over the namespace."""
        return [key for key in self._spaces.get(namespace, {}) if key.startswith(prefix)]

    def items(self) -> Iterator[tuple[str, bytes, bytes]]:
        """Everything: (namespace, key, value)."""
        for namespace, space in self._spaces.items():
            for key, value in space.items():
                yield namespace, key, value
