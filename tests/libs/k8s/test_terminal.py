"""``raybook k8s render`` and ``status -f``: values and manifests at a terminal, without a server."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from raybook.cli import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["k8s", *arguments])


def test_options_go_over_the_file_of_values(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("name: file\nidle_timeout_s: 9\ngroups:\n- {name: gpu, gpus: 1, max_workers: 2}\n")

    result = run("render", "--values", str(values), "--name", "line", "--workers", "1:6", "--spot")

    manifest = yaml.safe_load(result.output)
    (group,) = manifest["spec"]["workerGroupSpecs"]
    assert manifest["metadata"]["name"] == "line"
    assert manifest["spec"]["autoscalerOptions"]["idleTimeoutSeconds"] == 9
    assert (group["groupName"], group["minReplicas"], group["maxReplicas"]) == ("gpu", 1, 6)


def test_nodes_are_chosen_by_labels_and_taints() -> None:
    result = run("render", "--node-selector", "pool=big", "--toleration", "team=a:NoSchedule", "--gpus-per-worker", "2")

    spec = yaml.safe_load(result.output)["spec"]["workerGroupSpecs"][0]["template"]["spec"]
    assert spec["nodeSelector"] == {"pool": "big"}
    assert {"key": "team", "operator": "Equal", "value": "a", "effect": "NoSchedule"} in spec["tolerations"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"


def test_a_job_takes_its_files_from_here(tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text("print(1)\n")

    result = run("render", "--kind", "job", "--file", str(script), "--entrypoint", "python /home/ray/job/main.py")

    files, job = yaml.safe_load_all(result.output)
    assert files["data"] == {"main.py": "print(1)\n"}
    assert job["spec"]["entrypoint"] == "python /home/ray/job/main.py"


def test_a_service_takes_the_config_of_serve_deploy(tmp_path: Path) -> None:
    config = tmp_path / "serve.yaml"
    config.write_text("applications:\n- {name: app, import_path: 'fruit:app'}\n")

    result = run("render", "--kind", "service", "--config", str(config))

    (application,) = yaml.safe_load(yaml.safe_load(result.output)["spec"]["serveConfigV2"])["applications"]
    assert application == {"name": "app", "import_path": "fruit:app"}


def test_a_cron_job_is_rendered_from_options() -> None:
    result = run("render", "--kind", "cronjob", "--name", "nightly", "--entrypoint", "true", "--schedule", "0 3 * * *")

    manifest = yaml.safe_load(result.output)
    assert (manifest["kind"], manifest["spec"]["schedule"]) == ("RayCronJob", "0 3 * * *")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--workers", "5:2"], 1, "max_workers: 2 is less than 5"),
        (["--workers", "many"], 2, "not of the form MIN:MAX"),
        (["--toleration", "a:Never"], 2, "not of the form KEY[=VALUE][:EFFECT]"),
        (["--engine", "native"], 1, "needs an image with raybook"),
        (["--memory", "lots"], 1, "no quantity of Kubernetes"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_made(arguments: list[str], code: int, words: str) -> None:
    result = run("render", *arguments)

    assert result.exit_code == code and words in result.output


def test_options_of_one_group_are_refused_for_several(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("groups: [{name: a}, {name: b}]\n")

    result = run("render", "--values", str(values), "--cpus", "2")

    assert result.exit_code == 1 and "2 groups of workers" in result.output


def test_the_status_of_a_manifest_is_read_from_its_file(samples: Path) -> None:
    result = run("status", "service", "-f", str(samples / "ray-service.sample.yaml"))

    assert result.exit_code == 0 and result.output.startswith("RayService ")
