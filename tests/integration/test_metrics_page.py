"""The page for Prometheus: what it tells of a cluster, and of what users' code counted."""

from __future__ import annotations

import os
import re
import time
import urllib.request
from collections.abc import Callable

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

import raybook as ray
from raybook.api.local_cluster import list_clusters
from raybook.gcs.metrics_page import usage_metrics
from raybook.protocol.messages.survey import ProcessAccount
from raybook.util.metrics import Counter, Gauge, Histogram

pytestmark = pytest.mark.raybook_only


@pytest.fixture(scope="module")
def address() -> str:
    ray.shutdown()
    ray.init(num_cpus=2, resources={"licence": 3}, name="metrics-test", _metrics_export_port=0)
    yield lambda: next(record.metrics_address for record in list_clusters() if record.name == "metrics-test")
    ray.shutdown()


Samples = Callable[..., list[float]]


@pytest.fixture
def samples(address: Callable[[], str], eventually: Callable) -> Samples:
    """Values of the page's samples of one name whose labels include the given ones."""
    eventually(address)

    def read(name: str, **labels: str) -> list[float]:
        # Not through a proxy: this is a page of our own on loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        text = opener.open(f"http://{address()}/metrics", timeout=5).read().decode()
        return [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]

    return read


def test_the_page_tells_of_tasks_actors_resources_and_the_store(samples: Samples, eventually: Callable):
    @ray.remote
    def counted():
        return None

    @ray.remote(resources={"licence": 1})
    class Keeper:
        def stay(self):
            return None

    keeper = Keeper.remote()
    ray.get([counted.remote() for _ in range(20)] + [keeper.stay.remote()])
    held = ray.put(bytes(2_000_000))
    assert samples("ray_tasks", Name="counted", State="FINISHED") == [20]
    assert samples("ray_actors", State="ALIVE") == [1]
    assert samples("ray_cluster_active_nodes") == [1]
    eventually(lambda: samples("ray_resources", Name="licence", State="USED") == [1])
    assert samples("ray_object_store_memory")[0] >= 2_000_000
    assert samples("ray_workers", State="ACTOR") == [1]
    assert 0 <= samples("ray_scheduler_placement_time_s", quantile="0.5")[0] < 10
    del held


def test_what_users_count_is_summed_over_processes_and_gauges_are_kept_apart(samples: Samples, eventually: Callable):
    hits = Counter("hits", tag_keys=("who",))
    spread = Histogram("spread", boundaries=[1, 10])
    level = Gauge("level")

    @ray.remote
    def count():
        hits.inc(2, tags={"who": "task"})
        spread.observe(5)

    ray.get([count.remote() for _ in range(10)])
    spread.observe(50)
    level.set(7)
    eventually(lambda: samples("ray_hits_total", who="task") == [20])
    eventually(lambda: samples("ray_spread_bucket", le="10.0") == [10])
    assert samples("ray_spread_bucket", le="+Inf") == [11] and samples("ray_spread_sum") == [100]
    assert samples("ray_level") == [7]


def test_the_page_tells_what_processes_use_also_of_one_whose_interpreter_is_busy(
    samples: Samples, eventually: Callable
):
    @ray.remote
    def burn(seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            re.match("(a*)*b", "a" * 18)
        return os.getpid()

    ref = burn.remote(1.0)
    own = str(os.getpid())
    assert samples("ray_component_rss_mb", Component="driver", pid=own)[0] > 5
    assert samples("ray_component_rss_mb", Component="raylet")[0] > 5
    pid = str(ray.get(ref))
    assert samples("ray_component_cpu_seconds_total", Component="worker", pid=pid)[0] > 0.1
    busy, total = samples("ray_node_cpu_busy_seconds_total"), samples("ray_node_cpu_seconds_total")
    assert 0 < busy[0] < total[0]


def test_gpus_are_told_with_their_use_and_memory():
    rows = [{"gpu": 1, "utilization": 0.5, "memory_used_bytes": 3 << 20, "memory_total_bytes": 9 << 20}]
    account = ProcessAccount(b"", 1, b"\xaa", msgspec.msgpack.encode(rows))
    told = {family.name: family.samples for family in usage_metrics([account])}
    assert told["ray_node_gpus_utilization"][0].value == 50 and told["ray_node_gram_used"][0].value == 3
    assert told["ray_node_gpus_utilization"][0].labels == {"GpuIndex": "1", "NodeId": "aa"}


def test_a_cluster_serves_no_page_unless_asked_to(address: Callable[[], str]):
    ray.shutdown()
    ray.init(num_cpus=1, name="no-page")
    assert [record.metrics_address for record in list_clusters() if record.name == "no-page"] == [""]
    with pytest.raises(ValueError, match="_metrics_export_port"):
        ray.shutdown()
        ray.init(_metrics_export_port=-5)
