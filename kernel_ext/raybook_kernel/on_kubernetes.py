"""On Kubernetes: what a cell's options mean as KubeRay's manifests, applied, waited for and told of.

``%ray_cluster start --kubernetes`` and ``%ray_job`` read lines; this makes clusters and jobs. Knows nothing of the notebook.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import raybook.k8s as k8s

LOOK_S = 2.0
FOLDER = "/home/ray/job"
"""Where the pods of a job find its files (``k8s.core.values.Job``)."""
CLUSTER, JOB = "RayCluster", "RayJob"
_GROUP_FIELDS = {"cpus": "cpus", "memory": "memory", "gpus_per_worker": "gpus", "spot": "spot"}

Say = Callable[[str], None]


def tree_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The cluster's values as a tree: the file's, and the options over them. ValueError when the file has several groups and
    an option speaks of workers; OSError when it cannot be read."""
    tree: dict[str, Any] = k8s.read_tree(options["values"]) if options.get("values") else {}
    over = {name: options[name] for name in ("name", "namespace", "image") if options.get(name)}
    group: dict[str, Any] = {field: options[name] for name, field in _GROUP_FIELDS.items() if options.get(name)}
    if "memory" in group:
        group["memory"] = str(group["memory"])
    if options.get("workers"):
        least, _, most = str(options["workers"]).partition(":")
        group |= {"min_workers": int(least), "max_workers": int(most or least)}
    if options.get("node_selector"):
        key, _, value = str(options["node_selector"]).partition("=")
        group["node_selector"] = {key: value}
    if group:
        groups = list(tree.get("groups") or [{}])
        if len(groups) != 1:
            raise ValueError(
                f"{options['values']} has {len(groups)} groups of workers, and options like --workers speak of one. "
                "Say it in the file."
            )
        over["groups"] = [{**groups[0], **group}]
    return {**tree, **over}


def start_cluster(options: Mapping[str, Any], say: Say, timeout_s: float = 600.0) -> str:
    """Make a RayCluster and wait until it is ready; how to get there, in a line. Applying again makes nothing twice.
    ValueError, OSError, KubernetesError, TimeoutError with what pods wait for."""
    cluster = k8s.values_of("cluster", tree_of(options))
    with k8s.connect(options.get("context"), options.get("kubeconfig")) as api:
        _apply(api, k8s.render(cluster), say)
        report = k8s.wait(api, CLUSTER, cluster.name, cluster.namespace, timeout_s, say)
    if report.state == "failed":
        raise k8s.KubernetesError(f"RayCluster {cluster.name} has failed: {report.said or 'nobody says why'}.")
    return (
        f"RayCluster {cluster.name} is ready with {report.workers_ready} workers. A pod beside it connects to "
        f"{cluster.name}-head-svc.{cluster.namespace}:6379. `raybook k8s delete cluster {cluster.name} -n "
        f"{cluster.namespace}` ends it; this kernel does not."
    )


def submit_job(path: Path, options: Mapping[str, Any], say: Say) -> Any:
    """Run a script or notebook on a cluster of its own, which goes when it is over; its report. say: gets what the pods wait
    for, then what the job prints, as it comes. An interrupt leaves the job running. ValueError, OSError, KubernetesError."""
    tree = tree_of(options)
    tree.setdefault("name", job_name(path))
    job = k8s.values_of("job", {"cluster": tree, **command_of(path)})
    name, namespace = job.cluster.name, job.cluster.namespace
    with k8s.connect(options.get("context"), options.get("kubeconfig")) as api:
        _apply(api, k8s.render(job), say)
        if options.get("no_wait"):
            return k8s.status(api, JOB, name, namespace)[0]
        _until_it_runs(api, name, namespace, say)
        for line in k8s.logs(api, JOB, name, namespace, follow=True):
            say(line)
        return k8s.status(api, JOB, name, namespace)[0]


def command_of(path: Path) -> dict[str, Any]:
    """``entrypoint`` and ``files`` of a job that runs this. A notebook travels without its outputs and is run by IPython,
    which the image must have (raybook[notebook]). ValueError for what is neither."""
    if path.suffix == ".py":
        return {"entrypoint": f"python {FOLDER}/{path.name}", "files": {path.name: path.read_text()}}
    if path.suffix != ".ipynb":
        raise ValueError(f"{path} is neither a script (.py) nor a notebook (.ipynb).")
    notebook = json.loads(path.read_text())
    for cell in notebook.get("cells", []):
        if cell.get("cell_type") == "code":
            cell |= {"outputs": [], "execution_count": None}
    return {
        "entrypoint": f"ipython --colors=NoColor {FOLDER}/{path.name}",
        "files": {path.name: json.dumps(notebook)},
    }


def job_name(path: Path) -> str:
    """A name of its own for every submission: a job that is over is not run again under its name."""
    stem = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:30].strip("-") or "job"
    return f"{stem if stem[0].isalpha() else 'job-' + stem}-{secrets.token_hex(2)}"


def _apply(api: Any, manifests: list[dict[str, Any]], say: Say) -> None:
    for manifest, done in zip(manifests, k8s.apply(api, manifests), strict=True):
        say(f"{manifest['kind']} {manifest['metadata']['name']}: {done}")


def _until_it_runs(api: Any, name: str, namespace: str, say: Say) -> None:
    said: list[str] = []
    while True:
        report = k8s.status(api, JOB, name, namespace)[0]
        if report.is_over or (report.job_id and report.parts and report.state == "ready"):
            return
        news = [f"{JOB} {name}: {report.state}", *report.waiting, *([report.said] if report.said else [])]
        for line in news:
            if line not in said:
                say(line)
        said = news
        time.sleep(LOOK_S)
