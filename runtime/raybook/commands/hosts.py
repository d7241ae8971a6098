"""``raybook up | down HOSTS.yaml``: clusters on machines that ssh reaches. What the file may say is in ``ssh_hosts``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from raybook.ssh_hosts import HostsFile, Launcher, Outcome, Progress, read_hosts_file
from raybook.ssh_hosts.ssh import SshError

file_argument = click.argument("hosts_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
format_option = click.option(
    "--format",
    "style",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Of the last word.",
)


@click.command()
@file_argument
@format_option
def up(hosts_file: Path, style: str) -> None:
    """Start the cluster that a hosts file describes: what is not running yet. Exit code 1 when a machine failed; the others
    run then."""
    hosts = _read(hosts_file)
    try:
        with Launcher(hosts, _show) as launcher:
            outcome = launcher.up()
    except SshError as error:
        raise click.ClickException(
            f"{error}\nNothing can join without a head; `raybook down` removes what is there."
        ) from None
    if style == "json":
        _echo_json(outcome)
    else:
        running = len(outcome.started) + len(outcome.kept)
        click.echo(
            f"Cluster {hosts.name} runs on {running} of {len(hosts.workers) + 1} machines, at {outcome.address}."
        )
        if hosts.head is None:
            click.echo(f'  from Python here:  raybook.init(address="{hosts.name}")')
        else:
            click.echo(f"  its head:          {hosts.head.label}")
        click.echo(f"  end it:            raybook down {hosts_file}")
    _exit(outcome)


@click.command()
@file_argument
@format_option
def down(hosts_file: Path, style: str) -> None:
    """End the cluster that a hosts file describes, and remove what `up` has put on its machines."""
    hosts = _read(hosts_file)
    try:
        with Launcher(hosts, _show) as launcher:
            outcome = launcher.down()
    except SshError as error:
        raise click.ClickException(str(error)) from None
    if style == "json":
        _echo_json(outcome)
    elif not outcome.failures:
        click.echo(f"Nothing of cluster {hosts.name} is left.")
    _exit(outcome)


def _read(path: Path) -> HostsFile:
    try:
        return read_hosts_file(path)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None


def _show(progress: Progress) -> None:
    # To standard error: what is printed last may be for a program.
    click.echo(f"[{progress.host}] {progress.step}: {progress.text}", err=True)


def _echo_json(outcome: Outcome) -> None:
    row = {"address": outcome.address, "started": outcome.started, "kept": outcome.kept, "failures": outcome.failures}
    click.echo(json.dumps(row, indent=1))


def _exit(outcome: Outcome) -> None:
    if outcome.failures:
        count = len(outcome.failures)
        click.echo(f"{count} machine{'s' * (count != 1)} failed: {', '.join(outcome.failures)}.", err=True)
        sys.exit(1)
