"""``%ray_cluster``: start, connect to, look at and end clusters from a cell.

Every mistake is one line that says what to type instead; the cluster lives on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_magic, magics_class

from raybook import install_as_ray
from raybook.observe import ClusterRecord, find_cluster, view_text
from raybook.ssh_hosts import HostsFile, read_hosts, read_hosts_file
from raybook.ssh_hosts.hosts_file import LOCAL
from raybook.ssh_hosts.ssh import SshError
from raybook_kernel.cluster_access import CLIENT_SCHEME, DEFAULT_SESSION, ray_is_chosen
from raybook_kernel.cluster_table import cluster_table, node_table
from raybook_kernel.completer import complete_line_magic
from raybook_kernel.magics.arguments import ArgumentMistake, Command, CommandTable, Option, Request, nearest
from raybook_kernel.magics.values import (
    RAY,
    cluster_name,
    cpu_count,
    engine_name,
    gpu_count,
    node_bounds,
    node_count,
    seconds,
    size_bytes,
)
from raybook_kernel.session import KernelSession, session_of

MAGIC = "ray_cluster"
PRELOAD_VARIABLE = "RAYBOOK_WORKER_PRELOAD"
"""By which a cluster that starts, and nodes that it gets later, know of ``--preload``."""
HOSTS_FILES = frozenset({".yaml", ".yml", ".json"})
MISTAKES = (ArgumentMistake, ValueError, ConnectionError, RuntimeError, TimeoutError, PermissionError, SshError)


@magics_class
class RayClusterMagics(Magics):
    """The magic and its sub-commands."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._session: KernelSession = session_of(shell)
        self._table = _command_table(self._cluster_names)

    @line_magic(MAGIC)  # type: ignore[arg-type]
    def ray_cluster(self, line: str) -> None:
        """Start, connect to, look at and stop raybook clusters. `%ray_cluster help` lists the commands."""
        try:
            request = self._table.parse(line)
            if request.wants_help or request.command is None:
                print(self._table.help(request.command))
                return
            getattr(self, f"_{request.command.name}")(request)
        except MISTAKES as error:
            raise UsageError(str(error)) from None

    def complete(self, line: str) -> list[str]:
        """What Tab offers at the end of this line."""
        return self._table.complete(line)

    def _start(self, request: Request) -> None:
        values = dict(request.values)
        _refuse_for_ray(values)
        nodes, hosts = values.pop("nodes", 1), _hosts(values)
        if hosts is not None and values.get("persist"):
            raise ArgumentMistake(
                "--persist and --ssh: machines of --ssh live with this kernel. `raybook up hosts.yaml` starts such as stay."
            )
        if "autoscale" in values and (nodes != 1 or hosts is not None):
            raise ArgumentMistake("--autoscale brings nodes of this machine by itself; leave out --nodes and --ssh.")
        if self._session.is_connected:
            print(
                f"This kernel is already connected to {self._described()}; nothing was started. "
                "`%ray_cluster stop` ends it, `%ray_cluster status` shows all."
            )
            self._session.show()
            return
        values = _with_autoscale(values)
        if values.pop("as_ray", False):
            # Before the cluster: its workers learn of it from this process's environment.
            install_as_ray()
            print("`import ray` means raybook from now on, here and in this cluster's workers.")
        if "preload" in values:
            os.environ[PRELOAD_VARIABLE] = str(values.pop("preload"))
        options = _as_start_options(values)
        if nodes == 1 and hosts is None:
            self._session.start(options)
        else:
            self._session.start_nodes(nodes, hosts, print, options)
        self._tell_session()

    def _connect(self, request: Request) -> None:
        target, *rest = request.words
        if request.values.get("engine") == RAY or (target.startswith(CLIENT_SCHEME) and ray_is_chosen()):
            self._connect_to_ray(target, rest, request)
            return
        persists = bool(request.values.get("persist"))
        if rest and not persists:
            raise ArgumentMistake(
                f"`connect` does not know what to do with {rest[0]!r}. Did you mean --persist {rest[0]}?"
            )
        if self._session.is_connected:
            raise ArgumentMistake(
                f"This kernel is already connected to {self._described()}. Type `%ray_cluster stop` first."
            )
        record = find_cluster(target)
        if record is None and not _looks_like_address(target):
            known = self._cluster_names()
            listed = f" Clusters: {', '.join(known)}." if known else " There is none: `%ray_cluster start`."
            raise ArgumentMistake(f"There is no cluster {target!r}.{nearest(target, known)}{listed}")
        session = (rest[0] if rest else DEFAULT_SESSION) if persists else ""
        self._session.connect(record.node_socket if record else target, session, request.values.get("token_file", ""))
        self._tell_session()
        if record is not None and not record.persist:
            print(f"{record.title} belongs to process {record.owner.pid if record.owner else '?'} and ends with it.")

    def _connect_to_ray(self, target: str, rest: list[str], request: Request) -> None:
        """A real Ray somewhere: "auto", HOST:PORT or ray://HOST:PORT."""
        refused = [f"--{name.replace('_', '-')}" for name in request.values if name != "engine"] + rest
        if refused:
            raise ArgumentMistake(
                f"{', '.join(refused)}: not to be had with --engine ray, whose results are Ray's to keep."
            )
        if self._session.is_connected:
            raise ArgumentMistake(
                f"This kernel is already connected to {self._described()}. Type `%ray_cluster stop` first."
            )
        self._session.connect(target, engine=RAY)

    def _tell_session(self) -> None:
        """What this kernel's results outlive it in, and what is there of former kernels."""
        text = self._session.access.session_text()
        if text:
            print(text)

    def _status(self, request: Request) -> None:
        mine = self._session.access.record()
        records = self._session.access.clusters()
        print(cluster_table(records, mine.cluster_id if mine else ""))
        if self._session.is_connected:
            self._tell_session()
            self._session.settle()
            print()
            print(view_text(self._session.view()))
            for line in self._session.code_report():
                print(line)

    def _stop(self, request: Request) -> None:
        if request.words:
            self._stop_named(request.words[0])
            return
        if not self._session.is_connected:
            raise ArgumentMistake(
                "This kernel is not connected to a cluster. `%ray_cluster status` lists all; "
                "`%ray_cluster stop NAME` ends another one."
            )
        name = self._described()
        record = self._session.access.record()
        if record is not None and record.persist:
            self._end(record)
        else:
            self._session.stop()
            print(f"Stopped {name}.")

    def _stop_named(self, target: str) -> None:
        record = find_cluster(target)
        if record is None:
            known = self._cluster_names()
            raise ArgumentMistake(f"There is no cluster {target!r}.{nearest(target, known)}")
        self._end(record)

    def _end(self, record: ClusterRecord) -> None:
        if not self._session.stop_cluster(record):
            raise TimeoutError(
                f"{record.title} was asked to stop and has not ended yet (process {record.head_pid}). "
                "Look again with `%ray_cluster status`."
            )
        print(f"Stopped {record.title}.")

    def _scale(self, request: Request) -> None:
        (text,) = request.words
        try:
            wanted = node_count(text)
        except ValueError as error:
            raise ArgumentMistake(f"`scale`: {error}") from None
        self._need_cluster()
        count = self._session.access.scale(wanted, print)
        print(f"{self._described()} has {count} node{'s' * (count != 1)}.")

    def _nodes(self, request: Request) -> None:
        self._need_cluster()
        print(node_table(self._session.access.node_rows()))

    def _need_cluster(self) -> None:
        if not self._session.is_connected:
            raise ArgumentMistake(
                "This kernel is not connected to a cluster: `%ray_cluster start`, or `%ray_cluster connect NAME`."
            )

    def _help(self, request: Request) -> None:
        print(self._table.help())

    def _described(self) -> str:
        record = self._session.access.record()
        return record.title if record else self._session.name or self._session.access.ray_title() or "a cluster"

    def _cluster_names(self) -> list[str]:
        return [record.name or record.cluster_id for record in self._session.access.clusters()]


def _command_table(cluster_names: Callable[[], Iterable[str]]) -> CommandTable:
    start_options = (
        Option("--cpus", "N", "CPUs it may use at once; default: all of this machine", cpu_count),
        Option("--gpus", "N", "GPUs; default: all that are found", gpu_count),
        Option("--memory", "SIZE", "memory for tasks and actors that ask for some, e.g. 8GiB", size_bytes),
        Option("--object-store-memory", "SIZE", "size of the object store, e.g. 2GiB", size_bytes),
        Option("--name", "NAME", "what to call it; default: a name is made up", cluster_name),
        Option("--nodes", "N", "so many nodes on this machine, each with its share of it; default: 1", node_count),
        Option(
            "--ssh",
            "HOST,…|FILE",
            "and a node on each of these machines (user@host), or a hosts file's workers",
            str,
        ),
        Option("--ssh-python", "PATH", "their interpreter, which has raybook; default: uv makes an environment", str),
        Option("--autoscale", "MIN:MAX", "nodes of this machine come when work waits and go when idle", node_bounds),
        Option("--node-cpus", "N", "CPUs of each such node; default: as many as the first", cpu_count),
        Option("--idle", "SECONDS", "how long such a node may be idle; default: 60", seconds),
        Option("--engine", "native|ray", "ray: a real Ray on this machine, which ends with this kernel", engine_name),
        Option("--preload", "MODULE,…", "what all workers have imported when they start, such as torch", str),
        Option("--as-ray", "", "`import ray` means raybook, in this kernel and in the cluster's workers"),
        Option("--persist", "", "keep it, and results, when this kernel ends; stop it with `%ray_cluster stop NAME`"),
    )
    connect_options = (
        Option(
            "--persist",
            "",
            f"keep results when this kernel ends, in session SESSION ({DEFAULT_SESSION!r} unless given)",
        ),
        Option("--token-file", "FILE", "token of a cluster on another machine, copied from there", str),
        Option(
            "--engine", "native|ray", "ray: a real Ray is there, at auto, HOST:PORT or ray://HOST:PORT", engine_name
        ),
    )
    return CommandTable(
        MAGIC,
        "Clusters of this notebook: %ray_cluster COMMAND",
        (
            Command("start", "Start a cluster and show it live. It ends with this kernel.", (), start_options),
            Command(
                "connect",
                "Use a running cluster, by name or address.",
                ("ADDRESS|NAME", "[SESSION]"),
                connect_options,
                cluster_names,
            ),
            Command("status", "List all clusters of yours; this kernel's is marked.", ()),
            Command("stop", "End this kernel's cluster, or the one named.", ("[NAME]",), (), cluster_names),
            Command("scale", "Have N nodes: more on this machine, or fewer, which leave in good order.", ("N",)),
            Command("nodes", "List the nodes of this kernel's cluster.", ()),
            Command("help", "This page.", ()),
        ),
    )


def _as_start_options(values: dict[str, object]) -> dict[str, object]:
    """The magic's words are short; the API's are Ray's."""
    renamed = {"cpus": "num_cpus", "gpus": "num_gpus"}
    return {renamed.get(name, name): value for name, value in values.items()}


def _refuse_for_ray(values: dict[str, object]) -> None:
    """ArgumentMistake for what belongs to raybook's own runtime, together with ``--engine ray``."""
    if values.get("engine") != RAY:
        return
    refused = [f"--{name.replace('_', '-')}" for name in values if name not in _OF_RAY]
    if refused:
        raise ArgumentMistake(
            f"{', '.join(refused)}: not to be had with --engine ray; it belongs to raybook's own runtime."
        )


_OF_RAY = frozenset({"engine", "cpus", "gpus", "object_store_memory"})


def _with_autoscale(values: dict[str, object]) -> dict[str, object]:
    """``--autoscale`` and what goes with it, as the API takes it."""
    details = {name: values.pop(option) for option, name in _SCALING.items() if option in values}
    if "autoscale" not in values:
        if details:
            raise ArgumentMistake(
                "--node-cpus and --idle are about the nodes of --autoscale MIN:MAX, which is not there."
            )
        return values
    least, _, most = str(values["autoscale"]).rpartition(":")
    bounds = {"min_nodes": int(least or 0), "max_nodes": int(most)}
    return {**values, "autoscale": {**bounds, **details}}


_SCALING = {"node_cpus": "node_cpus", "idle": "idle_timeout_s"}


def _hosts(values: dict[str, object]) -> HostsFile | None:
    """What ``--ssh`` names; takes its options out of the values. ArgumentMistake."""
    text, python = str(values.pop("ssh", "")), str(values.pop("ssh_python", ""))
    if not text:
        if python:
            raise ArgumentMistake("--ssh-python: of which machines? Name them with --ssh user@host.")
        return None
    try:
        if Path(text).suffix in HOSTS_FILES:
            found = read_hosts_file(Path(text).expanduser())
            if python:
                raise ArgumentMistake(f"--ssh-python: {text} says which Python its machines have.")
            return found
        environment = {"interpreter": python} if python else {}
        workers = [target for target in text.split(",") if target]
        name = f"notebook-{os.getpid()}"
        return read_hosts({"name": name, "head": LOCAL, "workers": workers, "environment": environment})
    except (ValueError, OSError) as error:
        raise ArgumentMistake(f"--ssh: {error}") from None


def _looks_like_address(target: str) -> bool:
    return ":" in target or "/" in target


def register(shell: InteractiveShell) -> None:
    """Make the magic and its completion known to a shell."""
    magics = RayClusterMagics(shell)
    shell.register_magics(magics)
    complete_line_magic(shell, MAGIC, magics.complete)
