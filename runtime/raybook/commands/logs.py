"""``raybook logs``: what workers and daemons of this machine have written, while their cluster lives."""

from __future__ import annotations

from pathlib import Path

import click

from raybook.commands.ask import ask, cluster_at
from raybook.commands.state import address_option, format_option
from raybook.commands.tables import show
from raybook.io import session_dir
from raybook.io.cluster_registry import ClusterRecord
from raybook.io.log_file import read_log
from raybook.protocol.messages.gcs import ListNodes, ListWorkers
from raybook.protocol.output_marks import without_marks


@click.command()
@click.argument("worker", required=False)
@click.option("--tail", type=click.IntRange(1), default=1_000, show_default=True, help="So many last lines.")
@click.option("--err", is_flag=True, help="Of a worker: stderr instead of stdout.")
@address_option
@format_option
def logs(worker: str | None, tail: int, err: bool, address: str, style: str) -> None:
    """List log files, or print one: of a WORKER (pid, or id or its beginning) or by the file's name."""
    record = cluster_at(address)
    files = _files(record)
    if worker is None:
        show(
            [{"file": path.name, "size_bytes": path.stat().st_size, "path": str(path)} for path in files], "Logs", style
        )
        return
    path = _file_of(record, files, worker, ".err" if err else ".out")
    if path is None:
        raise click.ClickException(
            f"There is no log of {worker!r} on this machine. `raybook logs` lists those there are."
        )
    lines = without_marks(read_log(path).splitlines())[-tail:]
    for line in lines:
        click.echo(line.decode("utf-8", "replace"))


def _files(record: ClusterRecord) -> list[Path]:
    """Log files of the cluster's nodes on this machine."""
    folders = [Path(record.session_dir)]
    for node in ask(record, ListNodes())[0].nodes:
        folder = Path(node.socket_address.removeprefix("unix:")).parent
        if node.alive and folder not in folders:
            folders.append(folder)
    return [path for folder in folders for path in sorted((folder / session_dir.LOGS).glob("*"))]


def _file_of(record: ClusterRecord, files: list[Path], worker: str, suffix: str) -> Path | None:
    ids = [row.worker_id.hex() for row in ask(record, ListWorkers())[0].workers if str(row.pid) == worker]
    for path in files:
        if path.name == worker or any(path.name == f"worker-{each}{suffix}" for each in ids):
            return path
    matching = [path for path in files if path.name.startswith(f"worker-{worker}") and path.suffix == suffix]
    return matching[0] if len(matching) == 1 else None
