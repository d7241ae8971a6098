"""Request routers of the user's, on a real cluster."""

from __future__ import annotations

import asyncio
import os

import httpx
import pytest

from raybook import serve
from raybook.serve.config import RequestRouterConfig
from raybook.serve.exceptions import BackPressureError
from raybook.serve.request_router import FIFOMixin, LocalityMixin, MultiplexMixin, RequestRouter

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("apps"), pytest.mark.timeout(120)]


class Sticky(FIFOMixin, MultiplexMixin, LocalityMixin, RequestRouter):
    """Always the same replica: the one whose statistics say that it is the best, else the first by its id."""

    def initialize_state(self, wanted: str = "") -> None:
        self.wanted = wanted

    async def choose_replicas(self, candidate_replicas, pending_request=None):
        await asyncio.sleep(0)
        if pending_request.metadata.multiplexed_model_id == "any":
            return self.rank_replicas_via_multiplex(candidate_replicas, "any")
        ordered = sorted(candidate_replicas, key=lambda each: each.replica_id.unique_id)
        best = [each for each in ordered if each.routing_stats.get("word") == self.wanted]
        return [best[:1], ordered[:1]] if best else [ordered[:1]]


class Raises(RequestRouter):
    """Knows no replica that it likes."""

    async def choose_replicas(self, candidate_replicas, pending_request=None):
        raise LookupError("nobody is good enough")


def test_requests_go_where_the_router_says(url):
    @serve.deployment(num_replicas=3, request_router_config=RequestRouterConfig(request_router_class=Sticky))
    class Where:
        async def __call__(self, request=None):
            return str(os.getpid())

        async def items(self):
            yield os.getpid()

    handle = serve.run(Where.bind())
    assert len({handle.remote().result() for _ in range(12)}) == 1
    assert len({httpx.get(url).text for _ in range(6)}) == 1
    assert len({*handle.options(stream=True).items.remote()}) == 1
    # Ranked by models, of which nobody has any, all are equal, and the least loaded of them gets it.
    assert handle.options(multiplexed_model_id="any").remote().result()


def test_a_router_is_shown_what_replicas_record_and_its_own_arguments(eventually):
    @serve.deployment(
        num_replicas=3,
        request_router_config={
            "request_router_class": Sticky,
            "request_router_kwargs": {"wanted": "best"},
            "request_routing_stats_period_s": 0.05,
        },
    )
    class Rated:
        def __init__(self):
            self.word = ""

        def record_routing_stats(self):
            return {"word": self.word}

        async def __call__(self):
            return os.getpid()

        async def rate(self, best):
            self.word = "best" if os.getpid() == best else ""

    handle = serve.run(Rated.bind(), route_prefix=None)
    first = handle.remote().result()
    pids = {row["pid"] for row in serve.details()["applications"]["default"]["deployments"]["Rated"]["replicas"]}
    other = next(pid for pid in pids if pid != first)
    handle.broadcast("rate", other).results()
    eventually(lambda: handle.remote().result() == other)


def test_requests_wait_where_the_chosen_one_is_full(make_gate):
    gate, begun = make_gate(), make_gate()

    @serve.deployment(
        num_replicas=2,
        max_ongoing_requests=1,
        max_queued_requests=1,
        request_router_config={"request_router_class": Sticky, "max_backoff_s": 0.05},
    )
    class Narrow:
        async def __call__(self):
            await begun.open.remote()
            await gate.wait.remote()
            return os.getpid()

    handle = serve.run(Narrow.bind(), route_prefix=None)
    first = handle.remote()
    first._to_object_ref_sync()
    second = handle.remote()
    with pytest.raises(BackPressureError):
        handle.remote().result()
    with pytest.raises(TimeoutError):
        second.result(timeout_s=0.1)
    gate.open.remote()
    assert first.result(timeout_s=60) == second.result(timeout_s=60)


def test_what_a_router_raises_reaches_the_caller():
    @serve.deployment(request_router_config={"request_router_class": Raises})
    class Never:
        def __call__(self): ...

    handle = serve.run(Never.bind(), route_prefix=None)
    with pytest.raises(LookupError, match="nobody is good enough"):
        handle.remote().result()
