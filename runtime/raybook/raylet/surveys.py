"""Surveys: asks every process of this node what it knows of its own, and gathers the answers.

One that does not answer within ``ANSWER_S_MAX`` (its interpreter is busy) is named as silent; one that dies meanwhile is
not waited for. Passes answers on unread.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

import msgspec

from raybook.protocol.messages.survey import USAGE, NodeSurvey, ProcessAccount, SurveyAnswer, SurveyNode, SurveyQuery
from raybook.raylet.clients import Client, ClientTable
from raybook.raylet.usage_report import usage_rows

ANSWER_S_MAX = 1.0


@dataclass(slots=True)
class _Round:
    waiting: dict[bytes, Client]
    accounts: list[ProcessAccount]
    done: asyncio.Future[None]


class Surveys:
    """Any number of rounds at once."""

    def __init__(self, node_id: bytes, clients: ClientTable) -> None:
        self._node_id = node_id
        self._clients = clients
        self._rounds: dict[int, _Round] = {}
        self._last_id = 0

    async def ask(self, request: SurveyNode) -> NodeSurvey:
        """One round."""
        if request.kind == USAGE:
            return await self._usage()
        clients = {client.client_id: client for client in self._clients}
        if not clients:
            return NodeSurvey([])
        self._last_id += 1
        survey_id = self._last_id
        asked = self._rounds[survey_id] = _Round(clients, [], asyncio.get_running_loop().create_future())
        try:
            for client in list(clients.values()):
                client.connection.send(SurveyQuery(survey_id, request.kind, request.limit, request.order))
            await asyncio.wait([asked.done], timeout=ANSWER_S_MAX)
        finally:
            del self._rounds[survey_id]
        return NodeSurvey(asked.accounts, [client.pid for client in asked.waiting.values()])

    async def _usage(self) -> NodeSurvey:
        known = [(client.kind, client.pid) for client in self._clients]
        rows = await asyncio.get_running_loop().run_in_executor(None, usage_rows, known)
        return NodeSurvey([ProcessAccount(b"", os.getpid(), self._node_id, msgspec.msgpack.encode(rows))])

    def answered(self, client: Client, answer: SurveyAnswer) -> None:
        """A process told what it knows; too late, it is dropped."""
        asked = self._rounds.get(answer.survey_id)
        if asked is None or asked.waiting.pop(client.client_id, None) is None:
            return
        asked.accounts.append(
            ProcessAccount(client.client_id, client.pid, self._node_id, answer.rows, answer.running, answer.left_out)
        )
        self._look(asked)

    def gone(self, client: Client) -> None:
        """A process is dead or has left."""
        for asked in list(self._rounds.values()):
            if asked.waiting.pop(client.client_id, None) is not None:
                self._look(asked)

    @staticmethod
    def _look(asked: _Round) -> None:
        if not asked.waiting and not asked.done.done():
            asked.done.set_result(None)
