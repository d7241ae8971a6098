"""What cells ask of Kubernetes: clusters and jobs, against a fake API server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raybook_kernel import on_kubernetes
from raybook_kernel.magics.arguments import ArgumentMistake
from raybook_kernel.magics.kubernetes_options import kubernetes_values, refuse_without_kubernetes, worker_bounds
from tests.libs.k8s.api_server import Server, api_server

CLUSTERS, JOBS, CONFIGS = "ray.io/v1/rayclusters", "ray.io/v1/rayjobs", "v1/configmaps"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with api_server(tmp_path) as server:
        yield server


def test_options_of_workers_go_over_the_only_group_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("name: team\ngroups: [{name: cpu, memory: 4Gi, max_workers: 2}]\n")

    tree = on_kubernetes.tree_of({"values": str(file), "workers": "0:8", "memory": 1024, "node_selector": "pool=a=b"})

    group = {"name": "cpu", "memory": "1024", "min_workers": 0, "max_workers": 8, "node_selector": {"pool": "a=b"}}
    assert tree == {"name": "team", "groups": [group]}


def test_a_notebook_travels_without_its_outputs(tmp_path: Path) -> None:
    cell = {"cell_type": "code", "source": "1", "outputs": [{"data": "x" * 99}], "execution_count": 3}
    path = tmp_path / "My Work.ipynb"
    path.write_text(json.dumps({"cells": [cell], "nbformat": 4}))

    command = on_kubernetes.command_of(path)

    assert command["entrypoint"].startswith("ipython ")
    assert json.loads(command["files"]["My Work.ipynb"])["cells"][0]["outputs"] == []
    assert on_kubernetes.job_name(path).startswith("my-work-")
    with pytest.raises(ValueError, match="neither a script"):
        on_kubernetes.command_of(tmp_path / "x.txt")


def test_options_that_mean_nothing_where_they_stand_are_refused() -> None:
    with pytest.raises(ArgumentMistake, match="--persist: not to be had with --kubernetes"):
        kubernetes_values({"persist": True, "name": "team"})
    with pytest.raises(ArgumentMistake, match="--spot: of a cluster on Kubernetes"):
        refuse_without_kubernetes({"spot": True})
    with pytest.raises(ValueError, match="no range"):
        worker_bounds("3:1")


@pytest.mark.slow
def test_a_cluster_is_made_waited_for_and_described(server: Server) -> None:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        server.put(CLUSTERS, "team", {"status": {"state": "ready", "readyWorkerReplicas": 2}})

    asked = {"name": "team", "workers": "1:4", "kubeconfig": str(server.kubeconfig)}
    text = on_kubernetes.start_cluster(asked, say)

    assert said[0] == "RayCluster team: created" and "team-head-svc.default" in text and "2 workers" in text
    (group,) = server.get(CLUSTERS, "team")["spec"]["workerGroupSpecs"]
    assert (group["minReplicas"], group["maxReplicas"]) == (1, 4)


@pytest.mark.slow
def test_a_job_says_what_it_waits_for_and_how_it_ended(server: Server, tmp_path: Path, monkeypatch: Any) -> None:
    script = tmp_path / "train.py"
    script.write_text("print('trained')\n")
    monkeypatch.setattr(on_kubernetes, "LOOK_S", 0.0)
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if line == "RayJob nightly: pending":
            failed = {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "message": "exit code 1"}
            server.put(JOBS, "nightly", {"status": failed})

    report = on_kubernetes.submit_job(script, {"name": "nightly", "kubeconfig": str(server.kubeconfig)}, say)

    assert "RayJob nightly: created" in said
    assert (report.state, report.said) == ("failed", "exit code 1")
    spec = server.get(JOBS, "nightly")["spec"]
    assert spec["entrypoint"] == "python /home/ray/job/train.py" and spec["shutdownAfterJobFinishes"] is True
    assert server.get(CONFIGS, "nightly-files")["data"] == {"train.py": "print('trained')\n"}
