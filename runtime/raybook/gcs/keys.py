"""Keys: the key-value methods of the GCS. Message → table → store; decides nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from raybook.core.cluster.kv_table import KvTable
from raybook.gcs import records
from raybook.io.storage import Write
from raybook.protocol.messages import gcs as messages


class KeyDesk:
    """save: writes rows down; returns when they are."""

    def __init__(self, save: Callable[[list[Write]], Awaitable[None]]) -> None:
        self.table = KvTable()
        self._save = save
        self.methods: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "KvPut": self._put,
            "KvGet": self._get,
            "KvDelete": self._delete,
            "KvKeys": self._keys,
        }

    async def _put(self, request: messages.KvPut) -> messages.KvReply:
        space, key = request.namespace, request.key
        added = self.table.put(space, key, request.value, overwrite=request.overwrite)
        if added or request.overwrite:
            await self._save([records.write_key(space, key, request.value)])
        return messages.KvReply(added=added)

    async def _get(self, request: messages.KvGet) -> messages.KvReply:
        return messages.KvReply(value=self.table.get(request.namespace, request.key))

    async def _delete(self, request: messages.KvDelete) -> messages.KvReply:
        removed = self.table.delete(request.namespace, request.key)
        if removed:
            await self._save([records.write_key(request.namespace, request.key, None)])
        return messages.KvReply(added=removed)

    async def _keys(self, request: messages.KvKeys) -> messages.KvReply:
        return messages.KvReply(keys=self.table.keys(request.namespace, request.prefix))
