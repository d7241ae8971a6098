"""What quantities mean, what the operator's statuses say, and what has to be written over what is there. Pure."""

from __future__ import annotations

import copy
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

from raybook.k8s import Cluster, Group, Report, render, report_of
from raybook.k8s.core.changes import is_ours, marked, patch_of, replacement
from raybook.k8s.core.quantities import amount_of, cpu_text
from raybook.k8s.core.statuses import KINDS, waits_of


@pytest.mark.parametrize(
    ("text", "amount"),
    [("500m", Fraction(1, 2)), ("16Gi", 16 * 2**30), ("1.5", Fraction(3, 2)), ("2e3", 2000), ("1G", 10**9)],
)
def test_a_quantity_is_read_exactly(text: str, amount: Fraction) -> None:
    assert amount_of(text) == amount


@pytest.mark.parametrize("text", ["", "4 Gi", "-1", "Gi", "1gb", "1e"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no quantity"):
        amount_of(text)


@pytest.mark.parametrize(("cpus", "text"), [(4, "4"), (0.5, "500m"), (1.0001, "1001m"), (2.0, "2")])
def test_cpus_are_written_whole_or_in_thousandths(cpus: float, text: str) -> None:
    assert cpu_text(cpus) == text


def test_every_sample_of_kuberay_is_read(samples: Path) -> None:
    found = []
    for path in sorted(samples.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document and document.get("kind") in KINDS:
                report = report_of(document)
                found.append(report.kind)
                assert report.name == document["metadata"].get("name", "")
                assert report.state in ("pending", "ready", "suspended")

    assert set(found) == set(KINDS)


def cluster(**status: Any) -> dict[str, Any]:
    spec = {"workerGroupSpecs": [{"groupName": "w", "replicas": 2, "minReplicas": 0, "maxReplicas": 4}]}
    return {"kind": "RayCluster", "metadata": {"name": "c", "namespace": "n"}, "spec": spec, "status": status}


def test_a_cluster_without_a_status_is_pending() -> None:
    report = report_of(cluster())

    assert (report.state, report.workers_ready, report.workers_wanted, report.workers_max) == ("pending", 0, 2, 4)


def test_a_failed_replica_is_said() -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota exceeded"}

    assert report_of(cluster(conditions=[condition])).said == "quota exceeded"


def test_a_job_that_completed_and_failed_has_failed() -> None:
    job = {
        "kind": "RayJob",
        "metadata": {"name": "j"},
        "status": {"jobDeploymentStatus": "Complete", "jobStatus": "FAILED"},
    }

    report = report_of(job)

    assert report.state == "failed" and report.is_over and report.result == "FAILED"


def test_a_service_shows_both_clusters_while_it_changes() -> None:
    status = {
        "activeServiceStatus": {"rayClusterName": "s-1", "rayClusterStatus": {"state": "ready"}},
        "pendingServiceStatus": {
            "rayClusterName": "s-2",
            "applicationStatuses": {"app": {"status": "DEPLOY_FAILED", "message": "no module fruit"}},
        },
        "conditions": [{"type": "Ready", "status": "True"}],
    }

    report = report_of({"kind": "RayService", "metadata": {"name": "s"}, "status": status})

    assert [(part.name, part.role, part.state) for part in report.parts] == [
        ("s-1", "active", "ready"), ("s-2", "pending", "pending"),
    ]  # fmt: skip
    assert report.state == "ready" and "no module fruit" in report.said


def pod(group: str = "w", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "labels": {"ray.io/group": group, "ray.io/node-type": "worker"}},
        "status": status,
    }


def container(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"image": "img", **state}]}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            {
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "message": "0/3 nodes: 3 Insufficient nvidia.com/gpu."}
                ]
            },
            "no node takes it: 0/3 nodes: 3 Insufficient nvidia.com/gpu.",
        ),
        (container(state={"waiting": {"reason": "ImagePullBackOff", "message": "denied"}}), "image img cannot be had"),
        (
            container(
                state={"waiting": {"reason": "CrashLoopBackOff"}},
                lastState={"terminated": {"exitCode": 127, "reason": "Error"}},
            ),
            "has no command `ray`",
        ),
        (container(state={"terminated": {"reason": "OOMKilled", "exitCode": 137}}), "killed for memory"),
        (
            container(state={"waiting": {"reason": "CreateContainerConfigError", "message": "secret gone"}}),
            "secret gone",
        ),
        ({"phase": "Running"}, "its probes do not answer yet"),
        ({"phase": "Pending"}, "its containers are being made"),
    ],
)
def test_a_pod_says_what_it_waits_for(status: dict[str, Any], words: str) -> None:
    (line,) = waits_of([pod(**status)])

    assert words in line and line.startswith("a pod of w: ")


def test_pods_that_wait_for_the_same_are_counted_and_ready_ones_are_not() -> None:
    ready = pod(phase="Running", conditions=[{"type": "Ready", "status": "True"}])

    assert waits_of([pod(phase="Pending"), pod("v", phase="Pending"), ready]) == [
        "2 pods (w, v): its containers are being made"
    ]


VALUES = Cluster(groups=[Group(min_workers=1, max_workers=5)])


def live_of(values: Cluster) -> dict[str, Any]:
    """As the server has it: with fields of its own."""
    (manifest,) = render(values)
    live = copy.deepcopy(marked(manifest))
    live["metadata"] |= {"resourceVersion": "7", "uid": "u"}
    live["spec"]["workerGroupSpecs"][0]["numOfHosts"] = 1
    return live


def test_what_is_there_already_is_not_written_again() -> None:
    assert replacement(live_of(VALUES), render(VALUES)[0]) is None


def test_the_autoscalers_workers_are_kept_within_new_bounds() -> None:
    live = live_of(VALUES)
    live["spec"]["workerGroupSpecs"][0]["replicas"] = 4

    unchanged = replacement(live, render(VALUES)[0])
    changed = replacement(live, render(Cluster(groups=[Group(min_workers=1, max_workers=3)]))[0])

    assert unchanged is None
    assert changed is not None and changed["spec"]["workerGroupSpecs"][0]["replicas"] == 3


def test_a_patch_holds_what_changed_and_the_version_that_was_read() -> None:
    live = live_of(VALUES)
    changed = replacement(live, render(Cluster(groups=VALUES.groups, idle_timeout_s=5))[0])

    assert changed is not None
    patch = patch_of(live, changed)
    assert patch["spec"]["autoscalerOptions"] == {"idleTimeoutSeconds": 5}
    assert patch["metadata"]["resourceVersion"] == "7"


def test_a_patch_takes_away_what_is_no_longer_asked_for() -> None:
    live = live_of(VALUES)
    changed = replacement(live, render(Cluster(groups=VALUES.groups, fault_tolerance=None))[0])

    assert changed is not None and patch_of(live, changed)["spec"] == {
        "gcsFaultToleranceOptions": None,
        "workerGroupSpecs": changed["spec"]["workerGroupSpecs"],
    }


def test_a_group_that_is_left_out_goes() -> None:
    live = live_of(Cluster(groups=[Group(name="a"), Group(name="b")]))

    changed = replacement(live, render(Cluster(groups=[Group(name="a")]))[0])

    assert changed is not None and [one["groupName"] for one in changed["spec"]["workerGroupSpecs"]] == ["a"]


def test_only_what_was_rendered_here_is_ours() -> None:
    assert is_ours(live_of(VALUES)) and not is_ours({"metadata": {"name": "x"}})


def test_a_report_is_over_when_nothing_more_comes() -> None:
    assert Report("RayJob", "j", "n", "complete").is_over and not Report("RayCluster", "c", "n", "ready").is_over
