"""What every provider of nodes must do, as a suite: subclass it, and give it a provider.

class TestRacks(NodeProviderContract):
    node_type = "worker"

    @pytest.fixture
    def provider(self): ...
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from raybook.autoscaler.providers import NodeProvider, ProvidedNode

WAIT_S = 20.0


class NodeProviderContract:
    """``provider`` is a fixture of the subclass; ``node_type`` a type that it can make."""

    node_type = "worker"

    def test_nothing_is_there_before_anything_was_asked_for(self, provider: NodeProvider) -> None:
        assert provider.non_terminated_nodes() == []

    def test_what_was_asked_for_is_listed_with_names_of_its_own(self, provider: NodeProvider) -> None:
        provider.create_nodes(self.node_type, 2, "request-1")
        nodes = wait_for(lambda: _all_of(provider, 2))
        assert len({node.instance_id for node in nodes}) == 2
        assert {node.node_type for node in nodes} == {self.node_type}
        assert {node.request for node in nodes} <= {"request-1", ""}

    def test_what_is_taken_down_disappears_and_the_rest_stays(self, provider: NodeProvider) -> None:
        provider.create_nodes(self.node_type, 2, "request-1")
        first, second = wait_for(lambda: _all_of(provider, 2))
        provider.terminate_nodes([first.instance_id])
        (left,) = wait_for(lambda: _all_of(provider, 1))
        assert left.instance_id == second.instance_id

    def test_taking_down_twice_or_what_is_unknown_is_no_mistake(self, provider: NodeProvider) -> None:
        provider.create_nodes(self.node_type, 1, "request-1")
        (node,) = wait_for(lambda: _all_of(provider, 1))
        provider.terminate_nodes([node.instance_id, "unknown"])
        provider.terminate_nodes([node.instance_id])
        wait_for(lambda: provider.non_terminated_nodes() == [])

    def test_an_unknown_type_is_refused(self, provider: NodeProvider) -> None:
        with pytest.raises(ValueError, match="no-such-type"):
            provider.create_nodes("no-such-type", 1, "request-1")
        assert provider.non_terminated_nodes() == []

    def test_failures_are_told_once(self, provider: NodeProvider) -> None:
        provider.take_failures()
        assert provider.take_failures() == []


def _all_of(provider: NodeProvider, count: int) -> list[ProvidedNode]:
    nodes = provider.non_terminated_nodes()
    return nodes if len(nodes) == count else []


def wait_for(look: Callable[[], object], within_s: float = WAIT_S):  # type: ignore[no-untyped-def]
    """The first answer that is true."""
    deadline = time.monotonic() + within_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"It has not come within {within_s:g} s."
        time.sleep(0.02)
