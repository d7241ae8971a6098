"""Key desk: the key-value table's methods. A key that is acknowledged is written; one that cannot be written is not kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from raybook.core.cluster.kv_table import KvTable
from raybook.gcs import records
from raybook.gcs.ledger import Ledger
from raybook.protocol.messages import gcs as messages


class KeyDesk:
    """``methods``: what of the GCS service is done here, by name."""

    def __init__(self, ledger: Ledger) -> None:
        self.table = KvTable()
        self.methods: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "KvPut": self._put,
            "KvGet": self._get,
            "KvDelete": self._delete,
            "KvKeys": self._keys,
        }
        self._ledger = ledger

    async def _put(self, request: messages.KvPut) -> messages.KvReply:
        self._ledger.must_write()
        space, key = request.namespace, request.key
        before = self.table.get(space, key)
        added = self.table.put(space, key, request.value, overwrite=request.overwrite)
        if added or request.overwrite:
            await self._write(space, key, request.value, before)
        return messages.KvReply(added=added)

    async def _get(self, request: messages.KvGet) -> messages.KvReply:
        return messages.KvReply(value=self.table.get(request.namespace, request.key))

    async def _delete(self, request: messages.KvDelete) -> messages.KvReply:
        self._ledger.must_write()
        before = self.table.get(request.namespace, request.key)
        removed = self.table.delete(request.namespace, request.key)
        if removed:
            await self._write(request.namespace, request.key, None, before)
        return messages.KvReply(added=removed)

    async def _keys(self, request: messages.KvKeys) -> messages.KvReply:
        return messages.KvReply(keys=self.table.keys(request.namespace, request.prefix))

    async def _write(self, space: str, key: bytes, value: bytes | None, before: bytes | None) -> None:
        """RemoteError when the store does not take it; all is then as it was, unless somebody else wrote meanwhile."""
        await self._ledger.run([records.write_key(space, key, value)], ())
        if not self._ledger.trouble:
            return
        if self.table.get(space, key) == value:
            if before is None:
                self.table.delete(space, key)
            else:
                self.table.put(space, key, before)
            await self._ledger.run([records.write_key(space, key, before)], ())
        self._ledger.must_write()
