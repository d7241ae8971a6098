"""Deployments' lives on a real cluster: upgrades under load, deaths, failures to start, scaling, the controller's end."""

from __future__ import annotations

import os
import signal
import threading

import httpx
import pytest

import raybook
from raybook import serve
from raybook.exceptions import ActorDiedError
from raybook.serve.core.names import CONTROLLER_NAME, NAMESPACE

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("apps"), pytest.mark.timeout(120)]


class Load:
    """Keep-alive connections that ask again and again, in threads, until the end of the block."""

    def __init__(self, url: str, connections: int = 4) -> None:
        self._url = url
        self._over = threading.Event()
        self.answers: list[str] = []
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(connections)]

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while not self._over.is_set():
                try:
                    answer = client.get("/")
                    if answer.status_code == 200:
                        self.answers.append(answer.text)
                    else:
                        self.failures.append(f"{answer.status_code} {answer.text}")
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def replicas_of(name: str, app: str = "default") -> list[dict]:
    from raybook.serve.api import details

    return details()["applications"][app]["deployments"][name]["replicas"]


def test_an_upgrade_under_load_fails_no_request(url, eventually):
    def version(word):
        @serve.deployment(num_replicas=2, graceful_shutdown_wait_loop_s=0.2)
        class Versioned:
            async def __call__(self):
                return word

        return Versioned.bind()

    serve.run(version("one"))
    with Load(url) as load:
        eventually(lambda: "one" in load.answers)
        for word in ("two", "three"):
            serve.run(version(word))
            seen = len(load.answers)
            eventually(lambda: word in load.answers[seen:])  # noqa: B023 - asked in this turn of the loop only.
    assert load.failures == []
    assert {"one", "two", "three"} <= set(load.answers)


def test_connections_move_to_a_single_replica_and_on_to_its_successor(url, eventually):
    def version(word):
        @serve.deployment(graceful_shutdown_wait_loop_s=0.3)
        class Single:
            async def __call__(self):
                return word

        return Single.bind()

    serve.run(version("one"))
    proxies = raybook.get(raybook.get_actor(CONTROLLER_NAME, NAMESPACE).proxies.remote())
    (proxy,) = proxies.values()

    def given():
        return raybook.get(proxy.__ray_call__.remote(lambda self: self._doors.given))

    with Load(url) as load:
        eventually(lambda: "one" in load.answers)
        eventually(lambda: given() >= 4)
        before = given()
        for word in ("two", "three"):
            serve.run(version(word))
            eventually(lambda: word in load.answers[-5:])  # noqa: B023 - asked in this turn of the loop only.
        eventually(lambda: given() >= before + 8)
    assert load.failures == []


def test_a_constructor_that_raises_is_told_and_the_old_version_goes_on(url):
    def build(fails):
        @serve.deployment(max_constructor_retry_count=2)
        class Fragile:
            def __init__(self):
                if fails:
                    raise RuntimeError("no model file")

            async def __call__(self):
                return "alive"

        return Fragile.bind()

    serve.run(build(False))
    with pytest.raises(RuntimeError, match="no model file"):
        serve.run(build(True))
    overview = serve.status().applications["default"]
    assert overview.status == "DEPLOY_FAILED"
    assert "no model file" in overview.message
    assert overview.deployments["Fragile"].status_trigger == "REPLICA_STARTUP_FAILED"
    assert httpx.get(url).text == "alive"
    serve.run(build(False))
    assert serve.status().applications["default"].status == "RUNNING"


def test_a_first_deployment_that_fails_answers_503(url):
    @serve.deployment(max_constructor_retry_count=1)
    class Never:
        def __init__(self):
            raise ValueError("not today")

        async def __call__(self): ...

    with pytest.raises(RuntimeError, match="not today"):
        serve.run(Never.bind())
    assert httpx.get(url).status_code == 503


def test_a_user_config_alone_changes_a_running_replica(url):
    @serve.deployment(user_config={"word": "a"})
    class Configured:
        def __init__(self):
            self.pid = os.getpid()

        def reconfigure(self, config):
            self.word = config["word"]

        async def __call__(self):
            return {"word": self.word, "pid": self.pid}

    serve.run(Configured.bind())
    before = httpx.get(url).json()
    serve.run(Configured.options(user_config={"word": "b"}).bind())
    after = httpx.get(url).json()
    assert (before["word"], after["word"]) == ("a", "b")
    assert before["pid"] == after["pid"]


def test_a_replica_that_dies_is_replaced(url, eventually):
    @serve.deployment
    class Mortal:
        async def __call__(self):
            return str(os.getpid())

        def die(self):
            os._exit(1)

    handle = serve.run(Mortal.bind())
    first = httpx.get(url).text
    with pytest.raises(ActorDiedError):
        handle.die.remote().result()
    answer = httpx.get(url, timeout=60)
    assert answer.status_code == 200 and answer.text != first
    eventually(lambda: serve.status().applications["default"].status == "RUNNING")


def test_an_unhealthy_replica_is_replaced(eventually):
    @serve.deployment(health_check_period_s=0.05, graceful_shutdown_timeout_s=0)
    class Ill:
        def __init__(self):
            self.is_ill = False

        async def check_health(self):
            if self.is_ill:
                raise RuntimeError("ill")

        async def fall_ill(self):
            self.is_ill = True

        async def ask(self):
            return os.getpid(), self.is_ill

    handle = serve.run(Ill.bind(), route_prefix=None)
    pid, _ = handle.ask.remote().result()
    handle.fall_ill.remote().result()
    eventually(lambda: any(row["pid"] not in (pid, None) for row in replicas_of("Ill")))
    eventually(lambda: serve.status().applications["default"].status == "RUNNING")
    assert handle.ask.remote().result()[1] is False


def test_scaling_up_and_down_keeps_ranks_dense():
    @serve.deployment
    class Many:
        async def __call__(self): ...

    for count in (3, 1, 2):
        serve.run(Many.options(num_replicas=count, graceful_shutdown_wait_loop_s=0.05).bind(), route_prefix=None)
        running = [row for row in replicas_of("Many") if row["state"] == "RUNNING"]
        assert sorted(row["rank"] for row in running) == list(range(count))


def test_a_deployment_scales_from_zero_up_and_back(make_gate, eventually):
    gate = make_gate()

    @serve.deployment(
        max_ongoing_requests=2,
        graceful_shutdown_wait_loop_s=0.05,
        autoscaling_config={
            "min_replicas": 0, "max_replicas": 3, "target_ongoing_requests": 1, "look_back_period_s": 0.3,
            "upscale_delay_s": 0.1, "downscale_delay_s": 0.3, "metrics_interval_s": 0.1,
        },
    )  # fmt: skip
    class Elastic:
        async def __call__(self):
            await gate.wait.remote()
            return "ok"

    handle = serve.run(Elastic.bind(), route_prefix=None)
    assert replicas_of("Elastic") == []
    responses = [handle.remote() for _ in range(6)]
    eventually(lambda: sum(row["state"] == "RUNNING" for row in replicas_of("Elastic")) == 3)
    raybook.get(gate.open.remote())
    assert {response.result(timeout_s=60) for response in responses} == {"ok"}
    eventually(lambda: replicas_of("Elastic") == [])


def test_a_custom_policy_decides_from_what_it_is_shown(eventually):
    def policy(context):
        state = dict(context.policy_state)
        state["calls"] = state.get("calls", 0) + 1
        assert context.deployment_name == "Ruled"
        assert context.capacity_adjusted_max_replicas == 4
        return (2 if state["calls"] > 2 else 1), state

    @serve.deployment(
        autoscaling_config={
            "min_replicas": 1, "max_replicas": 4, "upscale_delay_s": 0, "policy": {"policy_function": policy},
        },
    )  # fmt: skip
    class Ruled:
        async def __call__(self): ...

    serve.run(Ruled.bind(), route_prefix=None)
    eventually(lambda: len(replicas_of("Ruled")) == 2)


def test_models_are_found_where_they_are_loaded():
    @serve.deployment(num_replicas=2)
    class Zoo:
        def __init__(self):
            self.loads = 0

        @serve.multiplexed(max_num_models_per_replica=2)
        async def load(self, model_id: str):
            self.loads += 1
            return model_id.upper()

        async def __call__(self, request=None):
            model = await self.load(serve.get_multiplexed_model_id())
            return [model, os.getpid(), self.loads]

    handle = serve.run(Zoo.bind(), route_prefix=None)
    asked = handle.options(multiplexed_model_id="tiger")
    rows = [asked.remote().result() for _ in range(10)]
    assert {row[0] for row in rows} == {"TIGER"}
    assert len({row[1] for row in rows}) == 1
    assert rows[-1][2] == 1


def test_requests_flow_while_the_controller_is_dead_and_the_next_one_goes_on(url, eventually):
    @serve.deployment(num_replicas=2)
    class Steady:
        async def __call__(self):
            return str(os.getpid())

    serve.run(Steady.bind())
    pids = {httpx.get(url).text for _ in range(20)}
    controller = raybook.get_actor(CONTROLLER_NAME, NAMESPACE)
    pid = raybook.get(controller.__ray_call__.remote(lambda self: os.getpid()))
    with Load(url, connections=2) as load:
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: raybook.get(controller.__ray_call__.remote(lambda self: os.getpid())) != pid)
        eventually(lambda: serve.status().applications["default"].status == "RUNNING")
    assert load.failures == []
    assert set(load.answers) <= pids
    serve.run(Steady.options(num_replicas=1, graceful_shutdown_wait_loop_s=0.05).bind())
    assert httpx.get(url).status_code == 200


def test_a_deployment_that_waits_for_resources_says_so(eventually):
    @serve.deployment(ray_actor_options={"num_cpus": 100})
    class Huge: ...

    serve._run(Huge.bind(), _blocking=False, route_prefix=None)
    eventually(lambda: "taken more than" in serve.status().applications["default"].message)
    assert serve.status().applications["default"].status == "DEPLOYING"


def test_a_redeployed_application_forgets_deployments_it_no_longer_has(eventually):
    @serve.deployment(graceful_shutdown_wait_loop_s=0.05)
    class Part:
        def __call__(self):
            return "part"

    @serve.deployment
    class Whole:
        def __init__(self, part=None): ...

        def __call__(self):
            return "whole"

    serve.run(Whole.bind(Part.bind()), route_prefix=None)
    assert serve.run(Whole.bind(), route_prefix=None).remote().result() == "whole"
    eventually(lambda: set(serve.status().applications["default"].deployments) == {"Whole"})
