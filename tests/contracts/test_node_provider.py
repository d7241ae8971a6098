"""The contract of providers, for the scripted one; the real one is in tests/many_nodes. And how providers are called."""

from __future__ import annotations

import asyncio
import threading

import pytest

from raybook.autoscaler.assembly import make_loop
from raybook.autoscaler.provider_calls import ProviderCalls, ProviderTrouble
from raybook.base.config import Config
from raybook.protocol.messages.daemons import NodeOptions
from raybook.testing.node_provider_contract import NodeProviderContract
from raybook.testing.scripted_provider import ScriptedProvider


class TestScriptedProvider(NodeProviderContract):
    @pytest.fixture
    def provider(self):
        return ScriptedProvider()


def test_what_a_method_raises_is_told_with_its_name():
    def create_nodes():
        raise RuntimeError("no quota")

    async def call():
        with pytest.raises(ProviderTrouble, match="create_nodes raised RuntimeError: no quota"):
            await ProviderCalls().call(create_nodes)

    asyncio.run(call())


def test_even_system_exit_of_a_provider_is_only_an_answer():
    def create_nodes():
        raise SystemExit(1)

    async def call():
        with pytest.raises(ProviderTrouble, match="SystemExit"):
            await ProviderCalls().call(create_nodes)

    asyncio.run(call())


def test_a_method_that_hangs_is_not_called_again_until_it_returned():
    gate, entered = threading.Event(), []

    def list_nodes():
        entered.append(True)
        gate.wait()
        return "late"

    async def call():
        calls = ProviderCalls(timeout_s=0.05)
        for _ in range(3):
            with pytest.raises(ProviderTrouble, match="not returned"):
                await calls.call(list_nodes)
        assert len(entered) == 1
        gate.set()
        while calls._running:
            await asyncio.sleep(0.001)
        assert await calls.call(list_nodes) == "late"

    asyncio.run(call())


def test_a_hanging_method_does_not_hold_up_another():
    gate = threading.Event()

    def create_nodes():
        gate.wait()

    async def call():
        calls = ProviderCalls(timeout_s=5)
        hanging = asyncio.ensure_future(calls.call(create_nodes))
        await asyncio.sleep(0)
        assert await calls.call(lambda_named) == 7
        gate.set()
        await hanging

    def lambda_named():
        return 7

    asyncio.run(call())


@pytest.mark.parametrize("module", ["nowhere.Racks", "json.nothing", "json.JSONDecoder"])
def test_provider_that_cannot_be_used_is_named(module):
    configuration = {"provider": {"type": "external", "module": module}}
    with pytest.raises((ValueError, TypeError), match=module.replace(".", r"\.")):
        make_loop(configuration, NodeOptions(-1, "", "", ""), None, lambda: 0, Config())
