"""Hosts file: which machines a cluster shall have, how they are reached, and what Python they run. Checked, nothing done.

    name: lab
    head: ada@10.0.0.5
    workers:
      - ada@10.0.0.6
      - {host: 10.0.0.7, user: ada, num_gpus: 1, resources: {disk: 1}, labels: {zone: b}}
    environment: {python: "3.11", packages: [numpy]}

A machine is ``user@host``, ``user@host:port``, or a mapping with more. What stands under ``ssh`` holds for all machines that
do not say otherwise. ``head: local`` takes this machine, whose workers must be able to reach it.
"""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import Any

import msgspec

LOCAL = "local"
DEFAULT_PORT = 6399
_TARGET = re.compile(r"(?:(?P<user>[^@\s]+)@)?(?P<host>\[[0-9A-Fa-f:]+\]|[^@:\s]+)(?::(?P<port>\d+))?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_PYTHON = re.compile(r"3\.\d{1,2}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMgGtT])(i?)[bB]?|(\d+)\s*[bB]?")
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}
_UNKNOWN = re.compile(r"unknown field `(?P<field>[^`]*)`")


class HostSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One machine. ip: the address by which the others reach it; by default the one that ssh reached. Amounts as
    ``raybook start`` takes them: memory in bytes, or as "16GiB". start_options: more words for ``raybook start``."""

    host: str
    user: str = ""
    port: int = 0
    identity_file: str = ""
    ssh_options: dict[str, str] = {}
    ip: str = ""
    num_cpus: float | None = None
    num_gpus: float | None = None
    memory: int | str | None = None
    object_store_memory: int | str | None = None
    resources: dict[str, float] = {}
    labels: dict[str, str] = {}
    start_options: list[str] = []

    @property
    def target(self) -> str:
        """As ssh and people write it."""
        return f"{self.user}@{self.host}" if self.user else self.host

    @property
    def label(self) -> str:
        """Target and, where it is not the usual one, port: unlike every other machine's of a file."""
        return f"{self.target}:{self.port}" if self.port else self.target

    @property
    def folder_name(self) -> str:
        """Of its own corner in the cluster's folder: several entries may be the same machine."""
        return re.sub(r"[^A-Za-z0-9.-]", "_", self.label)


class SshDefaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For machines that do not say otherwise."""

    user: str = ""
    port: int = 0
    identity_file: str = ""
    ssh_options: dict[str, str] = {}


class EnvironmentSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The Python of every machine. interpreter: one that is there, used as it is; else uv makes an environment with
    ``python`` (default: this process's version), this very raybook with ``extras``, ``packages`` and what the local file
    ``requirements`` lists. uv_options: more words for uv's installations. variables: set for everything that is run."""

    interpreter: str = ""
    python: str = ""
    packages: list[str] = []
    requirements: str = ""
    extras: list[str] = []
    uv_options: list[str] = []
    variables: dict[str, str] = {}


class HostsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A checked file. head None: this machine. setup_commands: run in order on each machine, before anything is started."""

    name: str
    head: HostSpec | None
    workers: list[HostSpec] = []
    environment: EnvironmentSpec = EnvironmentSpec()
    setup_commands: list[str] = []
    port: int = DEFAULT_PORT
    """Of the GCS, on the head."""
    start_options: list[str] = []
    """More words for ``raybook start`` on the head."""

    def hosts(self) -> list[HostSpec]:
        """Every machine that ssh reaches, the head first."""
        return [*([self.head] if self.head is not None else []), *self.workers]


class _Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file as people write it."""

    head: str | dict[str, Any]
    workers: list[str | dict[str, Any]] = []
    name: str = ""
    ssh: SshDefaults = SshDefaults()
    environment: EnvironmentSpec = EnvironmentSpec()
    setup_commands: list[str] = []
    port: int = DEFAULT_PORT
    start_options: list[str] = []


def read_hosts_file(path: Path) -> HostsFile:
    """Read YAML or JSON. ValueError naming file and place for what cannot be meant; OSError."""
    text = path.read_text()
    try:
        data = json.loads(text) if path.suffix == ".json" else _from_yaml(text)
        hosts = read_hosts(data, path.stem)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    requirements = hosts.environment.requirements
    if not requirements:
        return hosts
    beside = path.parent / Path(requirements).expanduser()
    if not beside.is_file():
        raise ValueError(f"{path}: environment.requirements: there is no file {beside}.")
    found = msgspec.structs.replace(hosts.environment, requirements=str(beside.resolve()))
    return msgspec.structs.replace(hosts, environment=found)


def read_hosts(data: Any, default_name: str = "cluster") -> HostsFile:
    """Check what a file says. ValueError naming the place."""
    if not isinstance(data, dict):
        raise ValueError("a mapping with `head` and `workers` is needed.")
    written = _convert(data, _Written, "")
    name = written.name or re.sub(r"[^A-Za-z0-9._-]", "-", default_name).lstrip("._-") or "cluster"
    if not _NAME.fullmatch(name):
        raise ValueError(f"name: letters, digits, '.', '_' and '-' only, at most 63; got {name!r}.")
    head = None if written.head == LOCAL else _host(written.head, "head", written.ssh)
    workers = [_host(entry, f"workers[{at}]", written.ssh) for at, entry in enumerate(written.workers)]
    hosts = HostsFile(
        name, head, workers, written.environment, written.setup_commands, written.port, written.start_options
    )
    _check(hosts)
    return hosts


def host_of_target(text: str) -> HostSpec:
    """``user@host:port`` → a machine. ValueError."""
    return _host(text, "the machine", SshDefaults())


def _host(entry: str | dict[str, Any], place: str, defaults: SshDefaults) -> HostSpec:
    given: dict[str, Any] = dict(entry) if isinstance(entry, dict) else {"host": entry}
    target = given.get("host")
    match = _TARGET.fullmatch(target) if isinstance(target, str) else None
    # A word that begins with a hyphen would be an option of ssh's.
    if match is None or match["host"].startswith("-") or (match["user"] or "").startswith("-"):
        raise ValueError(f"{place}: a machine is user@host or user@host:port, got {target!r}.")
    given["host"] = match["host"].strip("[]")
    for field in ("user", "port"):
        if match[field]:
            if field in given:
                raise ValueError(f"{place}: {field} is said twice.")
            given[field] = int(match[field]) if field == "port" else match[field]
    found = _convert(given, HostSpec, place)
    if not 0 <= found.port <= 65_535:
        raise ValueError(f"{place}.port: a port is at most 65535, got {found.port}.")
    for field in ("num_cpus", "num_gpus"):
        amount = getattr(found, field)
        if amount is not None and amount < 0:
            raise ValueError(f"{place}.{field}: an amount is not negative, got {amount:g}.")
    for resource, amount in found.resources.items():
        if amount < 0:
            raise ValueError(f"{place}.resources.{resource}: an amount is not negative, got {amount:g}.")
    return msgspec.structs.replace(
        found,
        user=found.user or defaults.user,
        port=found.port or defaults.port,
        identity_file=found.identity_file or defaults.identity_file,
        ssh_options={**defaults.ssh_options, **found.ssh_options},
        memory=_size_bytes(found.memory, f"{place}.memory"),
        object_store_memory=_size_bytes(found.object_store_memory, f"{place}.object_store_memory"),
    )


def _check(hosts: HostsFile) -> None:
    seen: dict[str, bool] = {}
    for host in hosts.hosts():
        if host.label in seen:
            raise ValueError(f"{host.label} stands there twice; give it a worker's resources once.")
        seen[host.label] = True
    if not hosts.hosts():
        raise ValueError("workers: there is no machine to start anything on; `raybook start --head` starts this one.")
    if not 1 <= hosts.port <= 65_535:
        raise ValueError(f"port: of the head, 1 to 65535, got {hosts.port}.")
    environment = hosts.environment
    if environment.python and not _PYTHON.fullmatch(environment.python):
        raise ValueError(f'environment.python: a version such as "3.11" in quotes, got {environment.python!r}.')
    for variable in environment.variables:
        if not _VARIABLE.fullmatch(variable):
            raise ValueError(f"environment.variables: {variable!r} is no name of a variable.")
    if environment.interpreter and (environment.packages or environment.requirements or environment.python):
        raise ValueError(
            "environment: an interpreter is used as it is; leave out python, packages and requirements, or the interpreter."
        )


def _size_bytes(value: int | str | None, place: str) -> int | None:
    if value is None or isinstance(value, int):
        if value is not None and value <= 0:
            raise ValueError(f"{place}: a size is above 0, got {value}.")
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"{place}: a size such as 16GiB or a number of bytes, got {value!r}.")
    if match[4]:
        return int(match[4])
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** _POWERS[match[2].lower()])


def _convert(data: Any, kind: Any, place: str) -> Any:
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        text = str(error)
        where = text.rpartition(" - at `$")[2].rstrip("`") if " - at `$" in text else ""
        said = text.partition(" - at `$")[0]
        unknown = _UNKNOWN.search(said)
        if unknown is not None:
            near = difflib.get_close_matches(unknown["field"], _field_names(kind), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            said = f"there is no field {unknown['field']!r}.{hint}"
        path = f"{place}{where}".lstrip(".")
        raise ValueError(f"{path}: {said}" if path else said) from None


def _field_names(kind: Any) -> list[str]:
    """Of a record, and of the records in it."""
    names: list[str] = []
    for field in msgspec.structs.fields(kind):
        names.append(field.name)
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            names += _field_names(field.type)
    return names


def _from_yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise ValueError(
            "YAML is read by PyYAML, which is not installed: pip install 'raybook[hosts]'. A .json file needs nothing."
        ) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"this is no YAML: {' '.join(str(error).split())}") from None
