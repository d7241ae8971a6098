"""A raylet with real workers from a real zygote, a fake GCS and fake drivers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile

import msgspec
import pytest

from raybook.base.config import Config
from raybook.base.facts import Fact
from raybook.base.resources import shape_of
from raybook.base.specs import ActorSpec, Endpoint
from raybook.io.channel import LocalChannel, RemoteError
from raybook.io.process import is_alive, start_time
from raybook.io.transport import connect
from raybook.protocol.auth import AuthenticationFailed, new_token
from raybook.protocol.messages import gcs as gm
from raybook.protocol.messages import node as nm
from raybook.protocol.messages import raylet as rm
from raybook.protocol.messages import store as sm
from raybook.raylet.service import Raylet
from raybook.raylet.zygote_client import start_zygote
from raybook.testing.fake_driver import FakeDriver
from raybook.testing.fake_gcs import FakeGcs

BUDGET_BYTES = 64 << 20
CONFIG = Config(worker_idle_ms=300, fact_interval_ms=20, extent_bytes_min=1 << 20)


class Node:
    """A started raylet and what is around it."""

    def __init__(self, folder: str, amounts: dict, config: Config) -> None:
        self.folder = folder
        self.token = new_token()
        self.fake = FakeGcs()
        self.gone: list[bytes] = []
        self.drivers: list[FakeDriver] = []
        self.zygote = start_zygote(worker_main="raybook.testing.scripted_worker")
        self.raylet = Raylet(
            b"node-id!", config, folder, self.token, LocalChannel(self.fake), shape_of(amounts), BUDGET_BYTES,
            self.zygote, {},
        )  # fmt: skip
        self.raylet.on_driver_gone = self.gone.append

    async def driver(self, **register) -> FakeDriver:
        driver = FakeDriver(self.address, self.token, **register)
        self.drivers.append(driver)
        driver.welcome = await driver.join()
        return driver

    async def tell_worker(self, endpoint: Endpoint, line: str) -> None:
        reader, writer = await asyncio.open_unix_connection(endpoint.address.removeprefix("unix:"))
        writer.write(line.encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.readline(), 10)
        writer.close()

    async def available(self, driver: FakeDriver, call_id: int = 77) -> dict:
        driver.send(rm.GcsCall(call_id, "ListNodes", msgspec.msgpack.encode(gm.ListNodes())))
        reply = await driver.expect(rm.GcsReply, lambda message: message.call_id == call_id)
        return msgspec.msgpack.decode(reply.reply, type=gm.NodeList).nodes[0].resources_available


def node_test(config: Config = CONFIG, **amounts):
    """Run an async test with a node of these amounts; everything is gone afterwards."""

    def decorate(test):
        def run() -> None:
            async def body() -> None:
                with tempfile.TemporaryDirectory(prefix="rb") as folder:
                    node = Node(folder, amounts or {"CPU": 1}, config)
                    node.address = await node.raylet.start()
                    try:
                        await test(node)
                    finally:
                        for driver in node.drivers:
                            driver.close()
                        await node.raylet.stop("end of the test")
                        assert node.zygote.process.poll() is not None
                        assert not os.path.exists(node.address.removeprefix("unix:"))

            asyncio.run(body())

        run.__name__ = test.__name__
        run.__doc__ = test.__doc__
        return run

    return decorate


def actor_spec(**changes) -> ActorSpec:
    fields = {
        "actor_id": b"a" * 16,
        "job_id": b"job-----",
        "class_name": "Counter",
        "owner": Endpoint(b"owner---", b"node-id!", "unix:/nowhere"),
        "resources": {},
        "placement": {"CPU": 10_000},
        "creation": b"",
    }
    return ActorSpec(**fields | changes)


@node_test()
async def test_a_driver_is_welcomed_with_the_arena_and_its_job_is_known(node):
    driver = await node.driver(namespace="lab", entrypoint="notebook")
    welcome = driver.welcome
    assert (welcome.node_id, welcome.cluster_id, welcome.session_dir) == (b"node-id!", b"cluster!", node.folder)
    assert os.fstat(driver.arena_fd).st_size == welcome.arena_bytes >= BUDGET_BYTES
    job = node.fake.requests("RegisterJob")[0]
    assert (job.job_id, job.namespace, job.pid) == (welcome.job_id, "lab", os.getpid())
    registered = node.fake.requests("RegisterNode")[0].node
    assert registered.socket_address == node.address and registered.resources_total == {"CPU": 10_000}


@node_test()
async def test_what_everyone_is_told_while_a_driver_waits_for_its_job_reaches_it_after_its_welcome(node):
    gate = node.fake.gates["RegisterJob"] = asyncio.Event()
    joining = asyncio.create_task(node.driver())
    await node.fake.wait_for("RegisterJob")
    node.raylet.set_observed(True)
    gate.set()
    driver = await joining
    assert isinstance(driver.welcome, rm.Registered)
    assert (await driver.expect(rm.Observed)).active


@node_test()
async def test_a_driver_whose_job_is_not_taken_hears_that_and_nothing_else(node):
    gate = node.fake.gates["RegisterJob"] = asyncio.Event()
    node.fake.refuse["RegisterJob"] = RemoteError("ValueError", "no more jobs")
    joining = asyncio.create_task(node.driver())
    await node.fake.wait_for("RegisterJob")
    node.raylet.set_observed(True)
    gate.set()
    driver = await joining
    assert isinstance(driver.welcome, rm.Refused) and "no more jobs" in driver.welcome.reason
    assert driver.messages == []


@node_test()
async def test_a_client_with_another_protocol_is_refused_with_both_numbers(node):
    driver = await node.driver(protocol_version=99)
    assert isinstance(driver.welcome, rm.Refused)
    assert " ".join(driver.welcome.reason.split()).count("protocol 99 1 differs") == 1


@node_test()
async def test_a_worker_that_was_not_forked_here_is_refused(node):
    driver = await node.driver(kind="worker")
    assert isinstance(driver.welcome, rm.Refused)


@node_test()
async def test_a_peer_without_the_token_gets_nothing(node):
    loop = asyncio.get_running_loop()
    with pytest.raises(AuthenticationFailed):
        await loop.run_in_executor(None, connect, node.address, b"\0" * 32, rm.RayletMessage)


@node_test(CPU=2)
async def test_demand_is_granted_up_to_the_cpus_and_continues_on_return(node):
    driver = await node.driver()
    driver.demand(0, 3, CPU=1)
    first, second = await driver.expect(rm.LeaseGranted), await driver.expect(rm.LeaseGranted)
    assert first.worker.client_id != second.worker.client_id
    assert first.assignment.resources == {"CPU": 10_000}
    assert start_time(first.worker_pid)
    driver.send(rm.ReturnLease(first.lease_id))
    third = await driver.expect(rm.LeaseGranted)
    assert third.worker == first.worker
    assert third.epoch > first.epoch


@node_test()
async def test_a_crash_is_told_to_the_owner_with_signal_and_last_lines(node):
    driver = await node.driver()
    driver.demand(0, 1, CPU=1)
    lease = await driver.expect(rm.LeaseGranted)
    await node.tell_worker(lease.worker, "error the disk is on fire")
    await node.tell_worker(lease.worker, "signal 11")
    lost = await driver.expect(rm.LeaseLost)
    assert lost.died and lost.lease_id == lease.lease_id and lost.exit_code == -11
    assert "SIGSEGV" in lost.reason and "the disk is on fire" in lost.reason
    driver.demand(0, 1, CPU=1)
    assert (await driver.expect(rm.LeaseGranted)).worker_pid != lease.worker_pid


@node_test()
async def test_an_idle_lease_of_one_class_makes_room_for_another(node):
    driver = await node.driver()
    driver.demand(0, 1, CPU=1)
    first = await driver.expect(rm.LeaseGranted)
    driver.demand(1, 1, CPU=1)
    lost = await driver.expect(rm.LeaseLost)
    assert (lost.lease_id, lost.died) == (first.lease_id, False)
    second = await driver.expect(rm.LeaseGranted)
    assert second.class_key == 1 and second.worker == first.worker and second.epoch > first.epoch


@node_test()
async def test_a_busy_worker_keeps_its_lease_until_it_is_idle(node):
    driver = await node.driver()
    driver.demand(0, 1, CPU=1)
    first = await driver.expect(rm.LeaseGranted)
    await node.tell_worker(first.worker, "busy")
    driver.demand(1, 1, CPU=1)
    assert await node.available(driver) == {"CPU": 0}
    assert node.raylet.decider.leases.waiting()
    await node.tell_worker(first.worker, "idle")
    assert (await driver.expect(rm.LeaseGranted)).class_key == 1


@node_test()
async def test_a_blocked_worker_lends_its_cpu_to_a_new_one(node):
    driver = await node.driver()
    driver.demand(0, 5, CPU=1)
    pids = set()
    for _ in range(5):
        lease = await driver.expect(rm.LeaseGranted)
        pids.add(lease.worker_pid)
        await node.tell_worker(lease.worker, "busy")
        await node.tell_worker(lease.worker, "blocked")
    assert len(pids) == 5


@node_test()
async def test_infeasible_demand_is_told_once_and_stays_queued(node):
    driver = await node.driver()
    driver.demand(0, 1, CPU=8)
    told = await driver.expect(rm.DemandInfeasible)
    assert told.class_key == 0 and "{CPU: 8}" in told.text and "{CPU: 1}" in told.text
    driver.demand(0, 2, CPU=8)
    driver.demand(1, 1, CPU=1)
    await driver.expect(rm.LeaseGranted)
    assert not [message for message in driver.messages if isinstance(message, rm.DemandInfeasible)]
    stats = await node.raylet.service.call("GetNodeStats", nm.GetNodeStats())
    assert any("class 0" in line for line in stats.waiting)


@node_test()
async def test_extents_are_granted_returned_and_refused(node):
    driver = await node.driver()
    driver.send(sm.RequestExtent(1, 100_000))
    granted = await driver.expect(sm.ExtentGranted)
    assert granted.request_id == 1 and granted.size >= 100_000
    assert os.pwrite(driver.arena_fd, b"x" * 10, granted.offset) == 10
    driver.send(sm.RequestExtent(2, 2 * BUDGET_BYTES))
    refused = await driver.expect(sm.ExtentRefused)
    assert refused.request_id == 2 and "object store" in refused.text
    driver.send(sm.ReturnExtent(granted.offset, granted.size))
    driver.send(sm.RequestExtent(3, BUDGET_BYTES // 2))
    assert (await driver.expect(sm.ExtentGranted)).request_id == 3


@node_test()
async def test_gcs_calls_are_relayed_with_their_errors(node):
    driver = await node.driver()
    driver.send(rm.GcsCall(1, "KvPut", msgspec.msgpack.encode(gm.KvPut("space", b"k", b"v"))))
    driver.send(rm.GcsCall(2, "KvGet", msgspec.msgpack.encode(gm.KvGet("space", b"k"))))
    await driver.expect(rm.GcsReply, lambda reply: reply.call_id == 1)
    reply = await driver.expect(rm.GcsReply, lambda reply: reply.call_id == 2)
    assert msgspec.msgpack.decode(reply.reply, type=gm.KvReply).value == b"v"
    node.fake.refuse["CreateActor"] = RemoteError("ActorAlreadyExistsError", "taken")
    driver.send(rm.GcsCall(3, "CreateActor", msgspec.msgpack.encode(gm.CreateActor(actor_spec()))))
    reply = await driver.expect(rm.GcsReply, lambda reply: reply.call_id == 3)
    assert (reply.error_code, reply.error_text) == ("ActorAlreadyExistsError", "taken")
    driver.send(rm.GcsCall(4, "NoSuchThing", b""))
    assert (await driver.expect(rm.GcsReply, lambda reply: reply.call_id == 4)).error_code == "ValueError"


@node_test()
async def test_an_actor_lives_and_its_crash_is_reported(node):
    service = node.raylet.service
    spec = actor_spec()
    assert (await service.call("PlaceActor", nm.PlaceActor(spec, 0))).accepted
    alive = await node.fake.wait_for("ActorStateReport", lambda report: report.state == "ALIVE")
    assert alive.actor_id == spec.actor_id and alive.pid and alive.endpoint.node_id == b"node-id!"
    stats = await service.call("GetNodeStats", nm.GetNodeStats())
    assert [(worker.state, worker.assigned) for worker in stats.workers if worker.actor_id] == [("ACTOR", {})]
    await node.tell_worker(alive.endpoint, "exit 3")
    dead = await node.fake.wait_for("ActorStateReport", lambda report: report.state == "DEAD")
    assert not dead.intended and not dead.creation_failed and "exit code 3" in dead.reason


@node_test()
async def test_an_actor_that_leaves_is_reported_as_intended(node):
    await node.raylet.service.call("PlaceActor", nm.PlaceActor(actor_spec(), 0))
    alive = await node.fake.wait_for("ActorStateReport")
    await node.tell_worker(alive.endpoint, "leave done")
    dead = await node.fake.wait_for("ActorStateReport", lambda report: report.state == "DEAD")
    assert dead.intended and "done" in dead.reason


@node_test()
async def test_a_failing_init_is_reported_with_its_exception_and_only_once(node):
    await node.raylet.service.call("PlaceActor", nm.PlaceActor(actor_spec(creation=b"fails"), 0))
    dead = await node.fake.wait_for("ActorStateReport")
    assert (dead.state, dead.creation_failed, dead.payload) == ("DEAD", True, b"pickled")
    await node.fake.wait_for("OwnerGone")
    assert len(node.fake.requests("ActorStateReport")) == 1


@node_test()
async def test_an_actor_that_can_never_fit_is_not_accepted(node):
    reply = await node.raylet.service.call("PlaceActor", nm.PlaceActor(actor_spec(resources={"GPU": 10_000}), 0))
    assert not reply.accepted and "GPU" in reply.reason


@node_test()
async def test_a_stopped_actor_dies_and_a_watcher_hears_of_changes(node):
    driver = await node.driver()
    spec = actor_spec()
    node.fake.actors[spec.actor_id] = gm.ActorInfo(spec.actor_id, "Counter", "PENDING_CREATION")
    driver.send(rm.WatchActor(spec.actor_id))
    assert (await driver.expect(rm.ActorUpdate)).state == "PENDING_CREATION"
    await node.raylet.service.call("PlaceActor", nm.PlaceActor(spec, 0))
    alive = await node.fake.wait_for("ActorStateReport")
    info = gm.ActorInfo(spec.actor_id, "Counter", "ALIVE", endpoint=alive.endpoint)
    await node.raylet.service.call("ActorChanged", nm.ActorChanged(info))
    assert (await driver.expect(rm.ActorUpdate)).endpoint == alive.endpoint
    await node.raylet.service.call("StopActor", nm.StopActor(spec.actor_id, 0, reason="ray.kill"))
    dead = await node.fake.wait_for("ActorStateReport", lambda report: report.state == "DEAD")
    assert "ray.kill" in dead.reason


@node_test(CPU=2)
async def test_a_dead_drivers_busy_workers_are_killed_and_its_job_is_finished(node):
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        driver = await node.driver(pid=process.pid)
        driver.demand(0, 1, CPU=1)
        lease = await driver.expect(rm.LeaseGranted)
        await node.tell_worker(lease.worker, "busy")
        started = start_time(lease.worker_pid)
        process.kill()
        process.wait()
        # The socket is still open here, as it would be in a child that the driver forked.
        gone = await node.fake.wait_for("OwnerGone", lambda request: request.client_id == lease.worker.client_id)
        assert "gone" in gone.reason
        assert not is_alive(lease.worker_pid, started)
        assert node.gone == [driver.client_id]
        assert node.fake.requests("FinishJob")[0].job_id == driver.welcome.job_id
    finally:
        process.stdin.close()
        process.kill()
        process.wait()


@node_test()
async def test_a_driver_that_leaves_gives_its_idle_worker_back(node):
    first, second = await node.driver(), await node.driver()
    first.demand(0, 1, CPU=1)
    lease = await first.expect(rm.LeaseGranted)
    first.close()
    second.demand(0, 1, CPU=1)
    assert (await second.expect(rm.LeaseGranted)).worker == lease.worker
    assert node.gone == [first.client_id]


@node_test(CPU=2)
async def test_an_idle_lease_counts_as_available_and_a_busy_one_does_not(node):
    driver = await node.driver()
    driver.demand(0, 1, CPU=1)
    lease = await driver.expect(rm.LeaseGranted)
    await node.tell_worker(lease.worker, "busy")
    assert await node.available(driver) == {"CPU": 10_000}
    await node.tell_worker(lease.worker, "idle")
    assert await node.available(driver) == {"CPU": 20_000}


@node_test()
async def test_idle_workers_above_the_cpus_end(node):
    driver = await node.driver()
    driver.demand(0, 2, CPU=1)
    first = await driver.expect(rm.LeaseGranted)
    await node.tell_worker(first.worker, "blocked")
    second = await driver.expect(rm.LeaseGranted)
    for lease in (first, second):
        driver.send(rm.ReturnLease(lease.lease_id))
    ended = await node.fake.wait_for("OwnerGone")
    assert ended.client_id in (first.worker.client_id, second.worker.client_id)
    stats = await node.raylet.service.call("GetNodeStats", nm.GetNodeStats())
    assert [worker.state for worker in stats.workers] == ["IDLE"]


@node_test()
async def test_facts_reach_a_subscriber_and_prints_become_facts(node):
    driver = await node.driver()
    driver.send(rm.Subscribe())
    driver.send(rm.PublishFacts([Fact("trial", "t1", {"loss": 0.5})]))
    delta = await driver.expect(rm.FactsDelta)
    assert any(fact.key == "t1" for fact in delta.facts)
    await node.raylet.service.call("SetObserved", nm.SetObserved(True))
    assert (await driver.expect(rm.Observed)).active
    driver.demand(0, 1, CPU=1)
    lease = await driver.expect(rm.LeaseGranted)
    await node.tell_worker(lease.worker, "print hello from the worker")
    found = await driver.expect(
        rm.FactsDelta,
        lambda delta: any((fact.row or {}).get("line") == "hello from the worker" for fact in delta.facts),
    )
    assert found.version == len(node.fake.facts)
    assert any(fact.kind == "store" for fact in node.fake.facts)


@node_test()
async def test_the_node_goes_on_when_its_zygote_dies(node):
    driver = await node.driver()
    driver.demand(0, 1, CPU=1)
    lease = await driver.expect(rm.LeaseGranted)
    node.zygote.process.kill()
    lost = await driver.expect(rm.LeaseLost)
    assert lost.died and lost.lease_id == lease.lease_id
    driver.demand(0, 1, CPU=1)
    assert (await driver.expect(rm.LeaseGranted)).worker_pid != lease.worker_pid


@node_test()
async def test_a_stop_goes_to_the_gcs_as_the_end_of_the_cluster(node):
    driver = await node.driver()
    driver.send(rm.Stop("ray.shutdown"))
    assert (await node.fake.wait_for("StopCluster")).reason == "ray.shutdown"


def test_stopping_leaves_no_process():
    async def body() -> None:
        with tempfile.TemporaryDirectory(prefix="rb") as folder:
            node = Node(folder, {"CPU": 1}, CONFIG)
            node.address = await node.raylet.start()
            driver = await node.driver()
            driver.demand(0, 1, CPU=1)
            lease = await driver.expect(rm.LeaseGranted)
            started = start_time(lease.worker_pid)
            await node.raylet.stop("test")
            assert not is_alive(lease.worker_pid, started)
            driver.close()

    asyncio.run(body())
