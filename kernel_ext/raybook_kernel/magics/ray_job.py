"""``%ray_job``: a notebook or script as a RayJob of KubeRay's, from a cell: submit, look, read, delete."""

from __future__ import annotations

from pathlib import Path

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_magic, magics_class

import raybook.k8s as k8s
from raybook_kernel.completer import complete_line_magic
from raybook_kernel.magics.arguments import ArgumentMistake, Command, CommandTable, Option, Request
from raybook_kernel.magics.kubernetes_options import PLACE_OPTIONS
from raybook_kernel.magics.values import cluster_name, cpu_count, size_bytes
from raybook_kernel.on_kubernetes import JOB, submit_job

MAGIC = "ray_job"
_WHERE = tuple(option for option in PLACE_OPTIONS if option.name in ("namespace", "context"))
_TABLE = CommandTable(
    MAGIC,
    "Jobs on Kubernetes, each on a cluster of its own: %ray_job COMMAND",
    (
        Command(
            "submit",
            "Run a script or notebook there and show what it prints; the cluster goes when it is over.",
            ("FILE",),
            (
                Option("--name", "NAME", "what to call it; default: the file's name and some letters", cluster_name),
                Option("--cpus", "N", "CPUs of each worker", cpu_count),
                Option("--memory", "SIZE", "memory of each worker, e.g. 8GiB", size_bytes),
                *PLACE_OPTIONS,
                Option("--no-wait", "", "return when it is submitted"),
            ),
        ),
        Command("status", "How it is, and what pods wait for; without a name: all.", ("[NAME]",), _WHERE),
        Command("logs", "What it has printed.", ("NAME",), _WHERE),
        Command("delete", "Delete it, with its cluster.", ("NAME",), _WHERE),
        Command("help", "This page.", ()),
    ),
)


@magics_class
class RayJobMagics(Magics):
    """The magic and its sub-commands."""

    @line_magic(MAGIC)  # type: ignore[arg-type]
    def ray_job(self, line: str) -> None:
        """Run scripts and notebooks as jobs on Kubernetes. `%ray_job help` lists the commands."""
        try:
            request = _TABLE.parse(line)
            if request.wants_help or request.command is None or request.command.name == "help":
                print(
                    _TABLE.help(None if request.command is None or request.command.name == "help" else request.command)
                )
                return
            getattr(self, f"_{request.command.name}")(request)
        except (ArgumentMistake, ValueError, OSError, RuntimeError, TimeoutError) as error:
            raise UsageError(str(error)) from None

    def _submit(self, request: Request) -> None:
        path = Path(request.words[0]).expanduser()
        try:
            report = submit_job(path, request.values, print)
        except KeyboardInterrupt:
            print("The job goes on. `%ray_job status`, `%ray_job logs NAME` and `%ray_job delete NAME` are about it.")
            raise
        print(_described(report))
        if report.state == "failed":
            raise UsageError(f"RayJob {report.name} has failed: {report.said or report.result}.")

    def _status(self, request: Request) -> None:
        name = request.words[0] if request.words else None
        with k8s.connect(request.values.get("context")) as api:
            reports = k8s.status(api, JOB, name, _namespace(request))
        for report in reports:
            print(_described(report))
            for line in report.waiting:
                print(f"  {line}")
        if not reports:
            print(f"There is no {JOB} in namespace {_namespace(request)}.")

    def _logs(self, request: Request) -> None:
        with k8s.connect(request.values.get("context")) as api:
            for line in k8s.logs(api, JOB, request.words[0], _namespace(request)):
                print(line)

    def _delete(self, request: Request) -> None:
        with k8s.connect(request.values.get("context")) as api:
            was_there = k8s.delete(api, JOB, request.words[0], _namespace(request))
        print(f"{JOB} {request.words[0]}: " + ("deleted" if was_there else "was not there"))


def _namespace(request: Request) -> str:
    return str(request.values.get("namespace") or "default")


def _described(report: k8s.Report) -> str:
    return f"{report.kind} {report.name}: {report.state}{f', {report.result}' if report.result else ''}"


def register(shell: InteractiveShell) -> None:
    """Make the magic and its completion known to a shell."""
    shell.register_magics(RayJobMagics(shell))
    complete_line_magic(shell, MAGIC, _TABLE.complete)
