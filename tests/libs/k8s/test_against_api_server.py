"""What raybook asks of Kubernetes, against an API server that is kmock's, over HTTP, with the official client."""

from __future__ import annotations

import base64
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

if importlib.util.find_spec("kubernetes") is None:
    pytest.skip("The client (raybook[k8s]) is not installed.", allow_module_level=True)

from raybook.cli import main
from raybook.k8s import (
    Cluster,
    Group,
    Job,
    KubernetesError,
    apply,
    connect,
    delete,
    logs,
    render,
    scale,
    status,
    wait,
)
from tests.libs.k8s.api_server import Server, api_server

CLUSTERS, PODS = "ray.io/v1/rayclusters", "v1/pods"
VALUES = Cluster(name="team", groups=[Group(min_workers=1, max_workers=5)])
READY = {"status": {"state": "ready", "readyWorkerReplicas": 1}}
pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with api_server(tmp_path) as server:
        yield server


@pytest.fixture
def api(server: Server) -> Iterator[Any]:
    with connect(kubeconfig=str(server.kubeconfig)) as api:
        yield api


def pod(name: str = "p", kind: str = "worker", **status: Any) -> dict[str, Any]:
    labels = {"ray.io/cluster": "team", "ray.io/node-type": kind, "ray.io/group": "workers"}
    return {"metadata": {"name": name, "labels": labels}, "status": status}


def test_applying_twice_makes_nothing_twice(server: Server, api: Any) -> None:
    assert apply(api, render(VALUES)) == ["created"]
    assert apply(api, render(VALUES)) == ["unchanged"]
    assert server.requests("post", "rayclusters") == 1
    assert server.requests("patch", "rayclusters") == 0


def test_a_change_is_written_and_the_autoscalers_workers_are_left(server: Server, api: Any) -> None:
    apply(api, render(VALUES))
    scale(api, "team", 4)

    assert apply(api, render(Cluster(name="team", groups=VALUES.groups, idle_timeout_s=7))) == ["changed"]
    spec = server.get(CLUSTERS, "team")["spec"]
    assert spec["autoscalerOptions"]["idleTimeoutSeconds"] == 7
    assert spec["workerGroupSpecs"][0]["replicas"] == 4


def test_after_a_conflict_what_is_there_now_decides(server: Server, api: Any) -> None:
    apply(api, render(VALUES))
    # The emulator keeps what it refuses to write: as when the answer of a change was lost on the way.
    server.refuse("patch /apis/ray.io/v1/namespaces/default/rayclusters/team", 409, "changed meanwhile", times=1)

    assert apply(api, render(Cluster(name="team", groups=VALUES.groups, idle_timeout_s=7))) == ["unchanged"]
    assert server.requests("patch", "rayclusters") == 1
    assert server.get(CLUSTERS, "team")["spec"]["autoscalerOptions"]["idleTimeoutSeconds"] == 7


def test_a_stranger_of_the_same_name_is_left_alone(server: Server, api: Any) -> None:
    server.put(CLUSTERS, "team", {"kind": "RayCluster", "spec": {"rayVersion": "1.0.0"}})

    with pytest.raises(KubernetesError, match="was not made by raybook; it was left alone"):
        apply(api, render(VALUES))
    assert server.get(CLUSTERS, "team")["spec"] == {"rayVersion": "1.0.0"}
    assert apply(api, render(VALUES), take_over=True) == ["changed"]


def test_workers_are_scaled_within_their_bounds_only(server: Server, api: Any) -> None:
    apply(api, render(VALUES))

    scale(api, "team", 5)
    with pytest.raises(ValueError, match="not within the bounds of workers, 1 to 5"):
        scale(api, "team", 6)
    with pytest.raises(ValueError, match="no group 'gpu'; it has workers"):
        scale(api, "team", 1, group="gpu")
    assert server.get(CLUSTERS, "team")["spec"]["workerGroupSpecs"][0]["replicas"] == 5


def test_waiting_ends_when_the_stream_says_ready(server: Server, api: Any) -> None:
    apply(api, render(VALUES))

    def say(line: str) -> None:
        said.append(line)
        server.put(CLUSTERS, "team", READY)

    said: list[str] = []
    report = wait(api, "RayCluster", "team", timeout_s=30, say=say)

    assert report.state == "ready" and report.workers_ready == 1
    assert said == ["RayCluster team: pending"]


def test_a_stream_that_is_cut_off_is_taken_up_again(server: Server, api: Any) -> None:
    apply(api, render(VALUES))
    # A stream that ends at once, as a server's does that is restarted.
    server.run(lambda: server.emulator["watch"] ** 100 << (b"",))
    looks: list[str] = []

    def say(line: str) -> None:
        looks.append(line)

    server.put(PODS, "p", pod(phase="Pending"))
    with pytest.raises(TimeoutError, match="its containers are being made"):
        wait(api, "RayCluster", "team", timeout_s=1, say=say)
    server.put(CLUSTERS, "team", READY)

    assert wait(api, "RayCluster", "team", timeout_s=30).state == "ready"


def test_a_pod_that_no_node_takes_says_why(server: Server, api: Any) -> None:
    apply(api, render(VALUES))
    scheduled = {
        "type": "PodScheduled",
        "status": "False",
        "message": "0/3 nodes: 3 Insufficient nvidia.com/gpu.",
    }
    server.put(PODS, "p", pod(conditions=[scheduled]))

    with pytest.raises(
        TimeoutError, match="a pod of workers: no node takes it: 0/3 nodes: 3 Insufficient nvidia.com/gpu"
    ):
        wait(api, "RayCluster", "team", timeout_s=0)
    (report,) = status(api, "RayCluster", "team", "default")
    assert report.waiting and server.get(CLUSTERS, "team") is not None


def test_a_failed_job_ends_the_wait_with_its_reason(server: Server, api: Any) -> None:
    job = Job(cluster=Cluster(name="nightly"), entrypoint="false", files={"a.py": "x"})
    assert apply(api, render(job)) == ["created", "created"]
    failed = {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed", "message": "exit code 1"}
    server.put("ray.io/v1/rayjobs", "nightly", {"status": failed})

    report = wait(api, "RayJob", "nightly", timeout_s=30)

    assert (report.state, report.result, report.said) == ("failed", "FAILED", "AppFailed: exit code 1")


def test_what_a_job_printed_is_fetched_with_the_clusters_token(server: Server, api: Any) -> None:
    done = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED", "jobId": "j1", "rayClusterName": "nightly-x"}
    server.put("ray.io/v1/rayjobs", "nightly", {"kind": "RayJob", "status": done})
    server.put("v1/secrets", "nightly-x", {"data": {"auth_token": base64.b64encode(b"t0ken").decode()}})
    page = "/api/v1/namespaces/default/services/nightly-x-head-svc:8265/proxy/api/jobs/j1/logs"
    server.run(lambda: server.emulator[f"get {page}"] ** 100 << {"logs": "one\ntwo\nthree\n"})

    assert list(logs(api, "RayJob", "nightly", follow=True)) == ["one", "two", "three"]
    assert list(logs(api, "RayJob", "nightly", tail=1)) == ["three"]
    asked = server.run(
        lambda: [one.headers.get("X-Ray-Authorization") for one in server.emulator if one.url.path == page]
    )
    assert asked == ["Bearer t0ken", "Bearer t0ken"]


def test_deleting_takes_the_files_along_and_may_be_repeated(server: Server, api: Any) -> None:
    apply(api, render(Job(cluster=Cluster(name="nightly"), entrypoint="true", files={"a.py": "x"})))

    assert delete(api, "RayJob", "nightly", timeout_s=30) is True
    assert delete(api, "RayJob", "nightly", timeout_s=30) is False
    assert server.get("ray.io/v1/rayjobs", "nightly") is None
    assert server.get("v1/configmaps", "nightly-files") is None


def test_deleting_waits_for_pods(server: Server, api: Any) -> None:
    apply(api, render(VALUES))
    server.put(PODS, "p", pod(phase="Running"))

    with pytest.raises(TimeoutError, match="1 of its pods are still ending"):
        delete(api, "RayCluster", "team", timeout_s=0.1)


def test_expired_credentials_are_said(server: Server, api: Any) -> None:
    server.refuse("/apis/ray.io/v1/namespaces/default/rayclusters/team", 401, "token has expired")

    with pytest.raises(KubernetesError, match=r"refuses the credentials .*token has expired.*Log in again"):
        apply(api, render(VALUES))


def test_a_missing_permission_names_verb_and_resource(server: Server, api: Any) -> None:
    server.refuse("post /apis/ray.io/v1/namespaces/default/rayclusters", 403, "forbidden")

    with pytest.raises(KubernetesError, match=r"You may not create rayclusters\.ray\.io in namespace default"):
        apply(api, render(VALUES))


def test_a_cluster_without_kuberay_is_told_how_to_get_it(tmp_path: Path) -> None:
    with api_server(tmp_path, has_kuberay=False) as server, connect(kubeconfig=str(server.kubeconfig)) as api:
        with pytest.raises(KubernetesError, match=r"does not know RayCluster.*helm install kuberay-operator"):
            apply(api, render(VALUES))


def test_a_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with api_server(tmp_path) as server:
        kubeconfig = str(server.kubeconfig)
    with (
        connect(kubeconfig=kubeconfig) as api,
        pytest.raises(KubernetesError, match=r"at http://127\S+ does not answer"),
    ):
        apply(api, render(VALUES))


def test_a_missing_kubeconfig_is_said(tmp_path: Path) -> None:
    with pytest.raises(KubernetesError, match="kubeconfig cannot be used"):
        connect(kubeconfig=str(tmp_path / "none"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["k8s", *arguments])


def test_the_terminal_goes_from_values_to_nothing_left(server: Server) -> None:
    where = ("--kubeconfig", str(server.kubeconfig))
    values = ("--name", "team", "--workers", "1:3", "--cpus", "2", "--memory", "4Gi")

    made = run("apply", *values, "--no-wait", *where)
    assert (made.exit_code, made.output) == (0, "RayCluster team: created\n")
    server.put(CLUSTERS, "team", READY)
    again = run("apply", *values, *where)
    assert (
        again.output.splitlines()[0] == "RayCluster team: unchanged"
        and "ready  1 of 1 workers (at most 3)" in again.output
    )
    assert run("scale", "team", "--workers", "3", *where).exit_code == 0
    assert "1 of 3 workers" in run("status", "cluster", "team", *where).output
    assert run("delete", "cluster", "team", *where).output == "RayCluster team: deleted\n"
    assert run("status", "cluster", *where).output == "There is no RayCluster in namespace default.\n"
    missing = run("status", "cluster", "team", *where)
    assert missing.exit_code == 1 and "There is no RayCluster team in namespace default." in missing.output
