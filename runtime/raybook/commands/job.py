"""``raybook job submit | status | stop | delete | logs | list``: the Jobs API from a terminal.

Exit codes: 0 done (of ``submit`` and ``logs --follow``: and the job succeeded), 1 it could not be done or the job failed,
2 wrong usage.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from raybook.commands.state import format_option
from raybook.commands.tables import show
from raybook.jobs.client import JobSubmissionClient
from raybook.jobs.records import JobDetails, JobStatus

POLL_S = 0.2


def _address_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--address",
        metavar="ADDRESS",
        help="http://host:8265, or the name, id or address of a cluster of this machine; the newest here, unless given.",
    )(command)


@click.group()
def job() -> None:
    """Submit shell commands to a cluster, and look after them."""


@job.command(context_settings={"ignore_unknown_options": True})
@_address_option
@click.option("--submission-id", "--job-id", "submission_id", help="A name for the job; made up unless given.")
@click.option(
    "--runtime-env", "env_file", type=click.Path(exists=True), help="A JSON (or YAML) file with a runtime_env."
)
@click.option("--runtime-env-json", metavar="JSON", help="A runtime_env.")
@click.option("--working-dir", help="A folder to run in, which is sent along; wins over the one in the runtime_env.")
@click.option("--metadata-json", metavar="JSON", help="Strings to keep with the job.")
@click.option("--entrypoint-num-cpus", type=float, help="CPUs that the command itself holds.")
@click.option("--entrypoint-num-gpus", type=float, help="GPUs that the command itself holds.")
@click.option("--entrypoint-memory", type=int, metavar="BYTES", help="Memory that the command itself holds.")
@click.option("--entrypoint-resources", metavar="JSON", help="Custom resources that the command itself holds.")
@click.option("--entrypoint-label-selector", metavar="JSON", help="Labels of the nodes it may run on.")
@click.option("--no-wait", is_flag=True, help="Return at once, and show no log.")
@click.argument("entrypoint", nargs=-1, required=True, type=click.UNPROCESSED)
def submit(
    address: str | None,
    submission_id: str | None,
    env_file: str | None,
    runtime_env_json: str | None,
    working_dir: str | None,
    metadata_json: str | None,
    entrypoint_num_cpus: float | None,
    entrypoint_num_gpus: float | None,
    entrypoint_memory: int | None,
    entrypoint_resources: str | None,
    entrypoint_label_selector: str | None,
    no_wait: bool,
    entrypoint: tuple[str, ...],
) -> None:
    """Run a command on the cluster, and show what it prints until it ends: raybook job submit -- python train.py"""
    if env_file and runtime_env_json:
        raise click.UsageError("Give --runtime-env or --runtime-env-json, not both.")
    environment = _read_environment(env_file) if env_file else _object("--runtime-env-json", runtime_env_json) or {}
    if working_dir:
        environment["working_dir"] = working_dir
    with _Errors():
        client = JobSubmissionClient(address)
        name = client.submit_job(
            entrypoint=entrypoint[0] if len(entrypoint) == 1 else shlex.join(entrypoint),
            submission_id=submission_id,
            runtime_env=environment,
            metadata=_object("--metadata-json", metadata_json),
            entrypoint_num_cpus=entrypoint_num_cpus,
            entrypoint_num_gpus=entrypoint_num_gpus,
            entrypoint_memory=entrypoint_memory,
            entrypoint_resources=_object("--entrypoint-resources", entrypoint_resources),
            entrypoint_label_selector=_object("--entrypoint-label-selector", entrypoint_label_selector),
        )
        click.echo(f"Job '{name}' submitted successfully")
        click.echo(f"  its log:     raybook job logs {name}")
        click.echo(f"  its status:  raybook job status {name}")
        click.echo(f"  end it:      raybook job stop {name}")
        if not no_wait:
            _follow(client, name)


@job.command()
@_address_option
@click.argument("job-id")
def status(address: str | None, job_id: str) -> None:
    """Show where a job is."""
    with _Errors():
        _echo_status(JobSubmissionClient(address).get_job_info(job_id), job_id)


@job.command()
@_address_option
@click.option("--no-wait", is_flag=True, help="Do not wait for its end.")
@click.argument("job-id")
def stop(address: str | None, no_wait: bool, job_id: str) -> None:
    """End a job: SIGTERM to all its processes, then SIGKILL."""
    with _Errors():
        client = JobSubmissionClient(address)
        click.echo(f"Attempting to stop job '{job_id}'")
        if not client.stop_job(job_id):
            click.echo(f"Job '{job_id}' had ended already")
            return
        while not no_wait:
            details = client.get_job_info(job_id)
            if details.status.is_terminal():
                _echo_status(details, job_id)
                return
            time.sleep(POLL_S)


@job.command()
@_address_option
@click.argument("job-id")
def delete(address: str | None, job_id: str) -> None:
    """Forget a job that has ended; its log stays."""
    with _Errors():
        JobSubmissionClient(address).delete_job(job_id)
        click.echo(f"Job '{job_id}' deleted successfully")


@job.command()
@_address_option
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends.")
@click.argument("job-id")
def logs(address: str | None, follow: bool, job_id: str) -> None:
    """Show what a job's command has printed."""
    with _Errors():
        client = JobSubmissionClient(address)
        if follow:
            _follow(client, job_id)
        else:
            click.echo(client.get_job_logs(job_id), nl=False)


@job.command("list")
@_address_option
@format_option
def list_command(address: str | None, style: str) -> None:
    """Show all jobs, submitted ones and drivers'."""
    with _Errors():
        found = JobSubmissionClient(address).list_jobs()
    if style == "json":
        show([details.to_json() for details in found], "Jobs", style)
        return
    rows = [
        {
            "submission_id": details.submission_id or "",
            "job_id": details.job_id or "",
            "type": str(details.type),
            "status": str(details.status),
            "entrypoint": details.entrypoint,
            "message": (details.message or "").partition("\n")[0],
        }
        for details in found
    ]
    show(rows, "Jobs", style)


class _Errors:
    """Turns what the client raises into a line and exit code 1."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, (ConnectionError, RuntimeError, ValueError, TypeError)):
            raise click.ClickException(str(error)) from None


def _follow(client: JobSubmissionClient, name: str) -> None:
    async def tail() -> None:
        async for text in client.tail_job_logs(name):
            click.echo(text, nl=False)

    asyncio.run(tail())
    details = client.get_job_info(name)
    _echo_status(details, name)
    if details.status is JobStatus.FAILED:
        sys.exit(1)


def _echo_status(details: JobDetails, name: str) -> None:
    if details.status is JobStatus.SUCCEEDED:
        click.echo(f"Job '{name}' succeeded")
    elif details.status is JobStatus.STOPPED:
        click.echo(f"Job '{name}' was stopped")
    elif details.status is JobStatus.FAILED:
        click.echo(f"Job '{name}' failed")
        click.echo(f"Status message: {details.message}")
    else:
        click.echo(f"Status for job '{name}': {details.status}")
        click.echo(f"Status message: {details.message}")


def _object(option: str, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"{option} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise click.BadParameter(f"{option} must be a JSON object.")
    return value


def _read_environment(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if path.endswith((".yaml", ".yml")):
        try:
            import yaml
        except ImportError:
            raise click.UsageError(
                f"{path}: reading YAML needs PyYAML (pip install pyyaml); JSON needs nothing."
            ) from None
        value = yaml.safe_load(text)
        if not isinstance(value, dict):
            raise click.BadParameter(f"{path} must hold a mapping.")
        return value
    return _object(path, text) or {}
