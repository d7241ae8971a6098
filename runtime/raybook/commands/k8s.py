"""``raybook k8s render | apply | status | scale | logs | delete``: clusters, jobs and services of KubeRay's.

Options are values in short; what they leave open comes from ``--values FILE``. Exit codes: 0 done, 1 it could not be done
(a cluster that failed, a server that refuses), 2 wrong usage.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import msgspec

KINDS = {"cluster": "RayCluster", "job": "RayJob", "service": "RayService", "cronjob": "RayCronJob"}
WAIT_S = 600.0


@click.group()
def k8s() -> None:
    """Clusters on Kubernetes, run by KubeRay's operator."""


class Bounds(click.ParamType):
    """``MIN:MAX``, or one number for both."""

    name = "MIN:MAX"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+)(?::(\d+))?", str(value))
        if match is None:
            self.fail(f"{value!r} is not of the form MIN:MAX, as in 0:8.", param, context)
        return int(match[1]), int(match[2] or match[1])


class Pair(click.ParamType):
    """``KEY=VALUE``."""

    name = "KEY=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, rest = str(value).partition("=")
        if not equals or not key:
            self.fail(f"{value!r} is not of the form KEY=VALUE.", param, context)
        return key, rest


class Taint(click.ParamType):
    """``KEY[=VALUE][:EFFECT]``, as kubectl writes taints."""

    name = "KEY[=VALUE][:EFFECT]"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> dict[str, str]:
        if isinstance(value, dict):
            return value
        key_value, _, effect = str(value).partition(":")
        key, equals, rest = key_value.partition("=")
        if not key or effect not in ("", "NoSchedule", "PreferNoSchedule", "NoExecute"):
            self.fail(f"{value!r} is not of the form KEY[=VALUE][:EFFECT].", param, context)
        toleration = {"key": key, "operator": "Equal" if equals else "Exists", "effect": effect}
        return toleration | ({"value": rest} if equals else {})


_OPTIONS = (
    click.option("--kind", type=click.Choice(list(KINDS)), default="cluster", show_default=True),
    click.option("--values", "values_file", type=click.Path(exists=True, dir_okay=False), help="The rest, as YAML."),
    click.option("--name"),
    click.option("-n", "--namespace"),
    click.option("--image", help="Of every pod; Ray's own unless given."),
    click.option("--engine", type=click.Choice(["ray", "native"]), help="native: raybook's own runtime."),
    click.option("--workers", type=Bounds(), help="How few and how many."),
    click.option("--cpus", type=click.FloatRange(0, min_open=True), help="Of a worker."),
    click.option("--memory", metavar="QUANTITY", help="Of a worker, as in 16Gi."),
    click.option("--gpus-per-worker", type=click.IntRange(0)),
    click.option("--node-selector", type=Pair(), multiple=True, help="Of the workers' nodes; may be repeated."),
    click.option("--toleration", type=Taint(), multiple=True, help="Of the workers; may be repeated."),
    click.option("--spot/--no-spot", default=None, help="Workers only on nodes that may be taken back; the head never."),
    click.option("--entrypoint", help="Of a job: its command."),
    click.option("--file", "files", type=click.Path(exists=True, dir_okay=False), multiple=True,
                 help="Of a job: a file that its pods find in /home/ray/job; may be repeated."),
    click.option("--schedule", help="Of a cronjob, as in '0 3 * * *'."),
    click.option("--config", type=click.Path(exists=True, dir_okay=False), help="Of a service: what `serve deploy` takes."),
)  # fmt: skip


def _values_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def values_from(kind: str, values_file: str | None, **asked: Any) -> Any:
    """The record of values that a command line means. ValueError, OSError."""
    documents = import_module("raybook.k8s.documents")
    tree = documents.read_tree(values_file) if values_file else {}
    return documents.values_of(kind, tree_from(kind, tree, asked))


def tree_from(kind: str, tree: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """The tree of a values file with what the options say otherwise. Options of workers speak of the only group; with
    several in the file that is a ValueError."""
    documents = import_module("raybook.k8s.documents")
    path = {"cluster": (), "job": ("cluster",), "service": ("cluster",), "cronjob": ("job", "cluster")}[kind]
    cluster: dict[str, Any] = {}
    for name in ("name", "namespace", "image", "engine"):
        if asked.get(name) is not None:
            cluster[name] = asked[name]
    group = _group_options(asked)
    if group:
        present = tree
        for key in path:
            present = present.get(key) or {}
        groups = list(present.get("groups") or [{}])
        if len(groups) != 1:
            raise ValueError(
                f"The values have {len(groups)} groups of workers, and options like --workers speak of one. "
                "Say it in the file."
            )
        cluster["groups"] = [{**groups[0], **group}]
    over: dict[str, Any] = cluster
    for key in reversed(path):
        over = {key: over}
    job: dict[str, Any] = {}
    if asked.get("entrypoint") is not None:
        job["entrypoint"] = asked["entrypoint"]
    if asked.get("files"):
        job["files"] = {Path(file).name: Path(file).read_text() for file in asked["files"]}
    if asked.get("config") is not None:
        over["applications"] = documents.read_tree(asked["config"]).get("applications", [])
    if asked.get("schedule") is not None:
        over["schedule"] = asked["schedule"]
    if job:
        over = documents.merged(over, {"job": job} if kind == "cronjob" else job)
    return documents.merged(tree, over)


def _group_options(asked: dict[str, Any]) -> dict[str, Any]:
    group: dict[str, Any] = {}
    if asked.get("workers") is not None:
        group["min_workers"], group["max_workers"] = asked["workers"]
    for option, field in (("cpus", "cpus"), ("memory", "memory"), ("gpus_per_worker", "gpus"), ("spot", "spot")):
        if asked.get(option) is not None:
            group[field] = asked[option]
    if asked.get("node_selector"):
        group["node_selector"] = dict(asked["node_selector"])
    if asked.get("toleration"):
        group["tolerations"] = [dict(one) for one in asked["toleration"]]
    return group


@k8s.command()
@_values_options
def render(kind: str, **asked: Any) -> None:
    """Print the manifests, for `kubectl apply -f -` and for git."""
    with _reported():
        manifests = import_module("raybook.k8s.core.render").render(values_from(kind, **asked))
        click.echo(import_module("raybook.k8s.documents").manifest_text(manifests), nl=False)


_server_options = (
    click.option("--context", help="Of the kubeconfig; its current one unless given."),
    click.option("--kubeconfig", type=click.Path(dir_okay=False), help="Unless KUBECONFIG or ~/.kube/config has it."),
)
_wait_options = (
    click.option("--wait/--no-wait", "waits", default=True, help="Until it is ready, or a job is over."),
    click.option("--timeout", type=click.FloatRange(0), default=WAIT_S, show_default=True, metavar="SECONDS"),
)


def _with(*options: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@k8s.command()
@_values_options
@_with(*_server_options, *_wait_options)
@click.option("-f", "--filename", type=click.Path(exists=True, dir_okay=False), help="Manifests, instead of values.")
@click.option("--take-over", is_flag=True, help="Also what was not made by raybook.")
def apply(
    kind: str,
    context: str | None,
    kubeconfig: str | None,
    waits: bool,
    timeout: float,
    filename: str | None,
    take_over: bool,
    **asked: Any,
) -> None:
    """Make it so: create what is missing, change what differs. Repeating it makes nothing twice."""
    with _reported(), _api(context, kubeconfig) as api:
        if filename:
            manifests = import_module("raybook.k8s.documents").read_documents(Path(filename).read_text(), filename)
        else:
            manifests = import_module("raybook.k8s.core.render").render(values_from(kind, **asked))
        operations = import_module("raybook.k8s.operations")
        for manifest, done in zip(manifests, operations.apply(api, manifests, take_over), strict=True):
            click.echo(f"{manifest['kind']} {manifest['metadata']['name']}: {done}")
        last = manifests[-1]
        if waits and last["kind"] in KINDS.values():
            metadata = last["metadata"]
            report = operations.wait(
                api, last["kind"], metadata["name"], metadata.get("namespace", "default"), timeout, click.echo
            )
            _show(report)
            _exit_on_failure(report)


_target = (
    click.argument("kind", type=click.Choice(list(KINDS))),
    click.argument("name"),
    click.option("-n", "--namespace", default="default", show_default=True),
)


@k8s.command()
@_with(*_target[:1])
@click.argument("name", required=False)
@_with(*_target[2:], *_server_options)
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("-f", "--filename", type=click.Path(exists=True, dir_okay=False), help="Of manifests, without a server.")
def status(
    kind: str,
    name: str | None,
    namespace: str,
    context: str | None,
    kubeconfig: str | None,
    style: str,
    filename: str | None,
) -> None:
    """Say how it is, and what pods wait for."""
    with _reported():
        if filename:
            documents = import_module("raybook.k8s.documents").read_documents(Path(filename).read_text(), filename)
            report_of = import_module("raybook.k8s.core.statuses").report_of
            reports = [report_of(one) for one in documents if one.get("kind") == KINDS[kind]]
        else:
            with _api(context, kubeconfig) as api:
                reports = import_module("raybook.k8s.operations").status(api, KINDS[kind], name, namespace)
        if style == "json":
            click.echo(json.dumps([msgspec.to_builtins(report) for report in reports], indent=1))
            return
        if not reports:
            click.echo(f"There is no {KINDS[kind]} in namespace {namespace}.")
        for report in reports:
            _show(report)


@k8s.command()
@_with(*_target[1:], *_server_options)
@click.option("--group", help="Of workers; the only one unless given.")
@click.option("--workers", type=click.IntRange(0), required=True)
def scale(
    name: str, namespace: str, context: str | None, kubeconfig: str | None, group: str | None, workers: int
) -> None:
    """Ask for so many workers in a group of a cluster, within its bounds."""
    with _reported(), _api(context, kubeconfig) as api:
        import_module("raybook.k8s.operations").scale(api, name, workers, group, namespace)
        click.echo(f"RayCluster {name}: {workers} workers wanted")


@k8s.command()
@_with(*_target, *_server_options)
@click.option("--follow", is_flag=True, help="Until it ends.")
@click.option("--tail", type=click.IntRange(1), metavar="LINES")
def logs(
    kind: str,
    name: str,
    namespace: str,
    context: str | None,
    kubeconfig: str | None,
    follow: bool,
    tail: int | None,
) -> None:
    """Print what its head (of a job: the job) has written."""
    with _reported(), _api(context, kubeconfig) as api:
        for line in import_module("raybook.k8s.operations").logs(api, KINDS[kind], name, namespace, follow, tail):
            click.echo(line)


@k8s.command()
@_with(*_target, *_server_options, *_wait_options)
def delete(
    kind: str, name: str, namespace: str, context: str | None, kubeconfig: str | None, waits: bool, timeout: float
) -> None:
    """Delete it, with everything that raybook and the operator made for it."""
    with _reported(), _api(context, kubeconfig) as api:
        operations = import_module("raybook.k8s.operations")
        was_there = operations.delete(api, KINDS[kind], name, namespace, timeout if waits else 0.0)
        click.echo(f"{KINDS[kind]} {name}: " + ("deleted" if was_there else "was not there"))


def _api(context: str | None, kubeconfig: str | None) -> Any:
    return import_module("raybook.k8s.api_client").connect(context, kubeconfig)


@contextmanager
def _reported() -> Iterator[None]:
    """What cannot be done is an exit code and a sentence."""
    try:
        yield
    except (ValueError, ImportError, OSError, RuntimeError) as error:
        raise click.ClickException(str(error)) from None


def _exit_on_failure(report: Any) -> None:
    if report.state == "failed":
        raise SystemExit(1)


def _show(report: Any) -> None:
    workers = f"  {report.workers_ready} of {report.workers_wanted} workers" if report.workers_max else ""
    bounds = f" (at most {report.workers_max})" if report.workers_max else ""
    result = f"  {report.result}" if report.result else ""
    click.echo(f"{report.kind} {report.name}  {report.state}{result}{workers}{bounds}")
    if report.said:
        click.echo(f"  {report.said}")
    for part in report.parts:
        click.echo(f"  {part.role or 'its'} cluster {part.name}  {part.state}")
    for line in report.waiting:
        click.echo(f"  waits: {line}")
