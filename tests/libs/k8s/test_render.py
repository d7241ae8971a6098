"""Values become manifests: what is always written, and what the operator's schemas say of it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from raybook.k8s import (
    Cluster,
    CronJob,
    FaultTolerance,
    Group,
    Head,
    Job,
    Network,
    Service,
    Toleration,
    manifest_text,
    render,
    values_of,
)
from raybook.k8s.core.pods import GPU_LABELS, SPOT_LABELS
from raybook.k8s.documents import merged

APPLICATION = {"name": "app", "import_path": "fruit:app", "route_prefix": "/"}
RICH = Cluster(
    name="team",
    namespace="research",
    head=Head(cpus=1.5, labels={"disk": "fast"}, env={"A": "1"}),
    groups=[
        Group(
            name="cpu", min_workers=1, max_workers=8, workers=2, spot=True, idle_timeout_s=120, labels={"kind": "cpu"}
        ),
        Group(
            name="gpu",
            gpus=4,
            node_selector={"pool": "a100"},
            tolerations=[Toleration("team", "Equal", "research", "NoSchedule")],
            priority=1,
        ),
    ],
    network=Network(
        mode="deny-all", api_server="10.0.0.1/32:6443", from_namespaces=["hub"], metrics_from=["monitoring"]
    ),
    service_account="ray",
    pull_secrets=["registry"],
    labels={"team": "research"},
    annotations={"who": "us"},
    tls=True,
)
EVERY_KIND = {
    "a cluster as it comes": Cluster(),
    "a cluster with everything": RICH,
    "a cluster with a Redis": Cluster(
        fault_tolerance=FaultTolerance(redis_address="redis:6379", redis_secret="redis/key")
    ),
    "a cluster that is open": Cluster(network=Network(mode="open"), token_auth=False, fault_tolerance=None),
    "a cluster of raybook's own": Cluster(engine="native", image="registry/raybook:1"),
    "a job": Job(
        cluster=RICH,
        entrypoint="python /home/ray/job/a.py",
        files={"a.py": "print(1)"},
        runtime_env={"pip": ["x==1.10"], "env_vars": {"A": "1"}},
        entrypoint_cpus=1,
        deadline_s=60,
        retries=2,
    ),
    "a service": Service(cluster=RICH, applications=[APPLICATION]),
    "a service that moves by and by": Service(applications=[APPLICATION], upgrade="incremental", gateway_class="istio"),
    "a cron job": CronJob(job=Job(entrypoint="true"), schedule="0 3 * * *", time_zone="Europe/Berlin"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY_KIND)
def test_a_manifest_is_what_the_crd_allows(name: str, assert_valid: Callable[[dict[str, Any]], None]) -> None:
    manifest = render(EVERY_KIND[name])[-1]

    assert_valid(manifest)


@pytest.mark.parametrize("name", EVERY_KIND)
def test_yaml_is_read_back_as_it_was_rendered(name: str) -> None:
    manifests = render(EVERY_KIND[name])

    assert list(yaml.safe_load_all(manifest_text(manifests))) == manifests


def spec_of(cluster: Cluster) -> dict[str, Any]:
    (manifest,) = render(cluster)
    return manifest["spec"]


def terms_of(template: dict[str, Any]) -> list[list[dict[str, Any]]]:
    affinity = template["spec"]["affinity"]["nodeAffinity"]
    terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    return [term["matchExpressions"] for term in terms]


def test_bounds_of_the_autoscaler_are_always_written() -> None:
    spec = spec_of(Cluster())

    assert spec["enableInTreeAutoscaling"] is True
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_head_stands_on_no_node_that_may_be_taken_back() -> None:
    (term,) = terms_of(spec_of(RICH)["headGroupSpec"]["template"])

    refused = {(one["key"], *one["values"]) for one in term if one["operator"] == "NotIn"}
    assert refused == set(SPOT_LABELS)


def test_a_spot_group_stands_only_on_nodes_that_may_be_taken_back() -> None:
    terms = terms_of(spec_of(RICH)["workerGroupSpecs"][0]["template"])

    assert len(terms) == len(SPOT_LABELS)
    assert {(term[0]["key"], *term[0]["values"]) for term in terms if term[0]["operator"] == "In"} == set(SPOT_LABELS)


def test_groups_with_gpus_and_groups_without_stand_apart() -> None:
    cpu, gpu = (group["template"] for group in spec_of(RICH)["workerGroupSpecs"])

    for term in terms_of(cpu):
        assert {one["key"] for one in term if one["operator"] == "DoesNotExist"} == set(GPU_LABELS)
    assert not [one for term in terms_of(gpu) for one in term if one["key"] in GPU_LABELS]
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in gpu["spec"]["tolerations"]
    assert cpu["spec"]["tolerations"] and "nvidia.com/gpu" not in str(cpu["spec"]["tolerations"])


def test_no_two_pods_share_a_node_unless_told() -> None:
    shared = spec_of(Cluster(one_pod_a_node=False))["headGroupSpec"]["template"]["spec"]["affinity"]
    apart = spec_of(Cluster())["headGroupSpec"]["template"]["spec"]["affinity"]

    assert "podAntiAffinity" not in shared
    (rule,) = apart["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert rule["topologyKey"] == "kubernetes.io/hostname"


def test_what_is_asked_for_is_the_limit() -> None:
    spec = spec_of(RICH)

    for template in (spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])):
        (container,) = template["spec"]["containers"]
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert container["readinessProbe"] and container["livenessProbe"]
    assert spec["headGroupSpec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "1500m"


def test_tokens_tables_and_walls_are_there_unless_told_otherwise() -> None:
    closed, opened = spec_of(Cluster()), spec_of(EVERY_KIND["a cluster that is open"])

    assert closed["authOptions"] == {"mode": "token"} and opened["authOptions"] == {"mode": "disabled"}
    assert closed["gcsFaultToleranceOptions"]["backend"] == "rocksdb" and "gcsFaultToleranceOptions" not in opened
    assert closed["networkPolicy"]["mode"] == "DenyAllIngress" and "networkPolicy" not in opened


def test_workers_have_no_key_to_kubernetes() -> None:
    for group in spec_of(RICH)["workerGroupSpecs"]:
        assert group["template"]["spec"]["automountServiceAccountToken"] is False


def test_a_job_brings_its_files_and_takes_its_cluster_along() -> None:
    files, job = render(EVERY_KIND["a job"])

    assert files["kind"] == "ConfigMap" and files["data"] == {"a.py": "print(1)"}
    assert job["spec"]["shutdownAfterJobFinishes"] is True and job["spec"]["backoffLimit"] == 2
    volumes = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["volumes"]
    assert {"name": "job-files", "configMap": {"name": files["metadata"]["name"]}} in volumes
    assert yaml.safe_load(job["spec"]["runtimeEnvYAML"])["pip"] == ["x==1.10"]


def test_raybooks_own_image_has_no_autoscaler_of_rays() -> None:
    spec = spec_of(EVERY_KIND["a cluster of raybook's own"])

    assert spec["enableInTreeAutoscaling"] is False and "autoscalerOptions" not in spec
    assert spec["headGroupSpec"]["template"]["spec"]["containers"][0]["image"] == "registry/raybook:1"


def test_gpu_pods_have_rays_image_with_cuda() -> None:
    cpu, gpu = (group["template"]["spec"]["containers"][0]["image"] for group in spec_of(RICH)["workerGroupSpecs"])

    assert (cpu, gpu) == ("rayproject/ray:2.60.0", "rayproject/ray:2.60.0-gpu")


@pytest.mark.parametrize(
    ("values", "path"),
    [
        (Cluster(groups=[Group(min_workers=3, max_workers=2)]), "groups[0].max_workers: 2 is less than 3"),
        (Cluster(groups=[Group(workers=9)]), "groups[0].workers: 9 is not from 0 to 4"),
        (Cluster(groups=[Group(), Group()]), "groups[1].name"),
        (Cluster(groups=[Group(memory="lots")]), "groups[0].memory: 'lots' is no quantity"),
        (Cluster(groups=[Group(cpus=0)]), "groups[0].cpus"),
        (Cluster(name="Team_1"), "name: 'Team_1'"),
        (Cluster(engine="native"), "image: engine native needs an image"),
        (Cluster(head=Head(gpus=1)), "head.gpus"),
        (Cluster(ray_version="2.40.0"), "token_auth"),
        (Cluster(network=Network(mode="deny-all")), "network.api_server"),
        (Job(), "entrypoint: a job needs a command"),
        (Job(entrypoint="x", files={"a/b": ""}), "files: 'a/b'"),
        (Job(entrypoint="x", files={"a": "x" * 1_000_001}), "files: 1,000,001 bytes"),
        (Job(entrypoint="x", cluster=Cluster(name="a" * 48)), "cluster.name"),
        (Service(), "applications: a service needs at least one"),
        (Service(applications=[{}]), "applications[0].import_path"),
        (Service(applications=[APPLICATION], upgrade="incremental"), "gateway_class"),
        (CronJob(job=Job(entrypoint="x"), schedule="daily"), "schedule: 'daily'"),
    ],
)
def test_wrong_values_are_refused_with_their_path(values: Any, path: str) -> None:
    with pytest.raises(ValueError, match="nothing was made") as refusal:
        render(values)

    assert path in str(refusal.value)


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(ValueError) as refusal:
        render(Cluster(name="X", namespace="Y", groups=[Group(cpus=-1, memory="?")]))

    assert len(str(refusal.value).splitlines()) == 5


def test_a_field_that_nobody_knows_is_refused_with_its_path() -> None:
    with pytest.raises(ValueError, match=r"wokers.*\$\.groups\[0\]"):
        values_of("cluster", {"groups": [{"wokers": 3}]})


def test_what_options_say_goes_over_what_the_file_says() -> None:
    assert merged({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 3}, "d": [2]}) == {"a": {"b": 3, "c": 2}, "d": [2]}
