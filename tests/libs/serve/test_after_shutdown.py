"""What is left of Serve in a driver after the cluster has been shut down: nothing that starts another one."""

from __future__ import annotations

import threading

import pytest

import raybook
from raybook import serve
from tests.libs.serve.ports import free_port


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_handles_start_no_new_cluster_when_theirs_is_gone(eventually):
    raybook.init(num_cpus=2)
    serve.start(http_options={"port": free_port()})

    @serve.deployment
    def one() -> int:
        return 1

    handle = serve.run(one.bind(), route_prefix=None)
    assert handle.remote().result() == 1
    hubs = [each for each in threading.enumerate() if each.name == "raybook-serve-hub"]
    assert hubs
    serve.shutdown()
    raybook.shutdown()
    eventually(lambda: not any(each.is_alive() for each in hubs))
    assert not raybook.is_initialized()
