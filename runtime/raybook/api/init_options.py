"""Init options: what ``init`` was asked for, checked, as one record for whoever starts or finds a cluster."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from raybook.api.autoscale_option import autoscale_bounds
from raybook.api.environment_options import check_runtime_env, environment_key
from raybook.api.job_config import JobConfig
from raybook.api.job_environment import driver_environment
from raybook.api.object_ops import check_namespace
from raybook.api.option_checks import (
    check_amount,
    check_count,
    check_name,
    check_resources,
    comes_later,
    wrong_type,
)
from raybook.base.config import AS_RAY_VARIABLE, read_environment
from raybook.base.logging_config import LoggingConfig
from raybook.base.tls_files import TlsFiles, choose_tls
from raybook.protocol.messages.daemons import AutoscaleBounds

LOCAL_ADDRESS = "local"
NATIVE, RAY = "native", "ray"
ENGINES = (NATIVE, RAY)
ENGINE_VARIABLE = "RAYBOOK_ENGINE"
CLIENT_SCHEME = "ray://"
TOKEN_VARIABLES = ("RAYBOOK_TOKEN_FILE",)
"""File with the token of a cluster on another machine (mode 0600), copied from there."""
ADDRESS_VARIABLES = ("RAYBOOK_ADDRESS", "RAY_ADDRESS")
FOLDING_VARIABLES = ("RAYBOOK_DEDUP_LOGS", "RAY_DEDUP_LOGS")
"""Set to 0, every line of every worker is printed in full."""
NEVER_FOLDED_VARIABLES = ("RAYBOOK_DEDUP_LOGS_ALLOW_REGEX", "RAY_DEDUP_LOGS_ALLOW_REGEX")
HIDDEN_VARIABLES = ("RAYBOOK_DEDUP_LOGS_SKIP_REGEX", "RAY_DEDUP_LOGS_SKIP_REGEX")
"""Patterns of workers' lines that are printed each time, and of lines that are not printed."""


class InitOptions(msgspec.Struct, frozen=True):
    """A checked ``init``. address: None starts a cluster; else "auto", a socket, or a registered cluster's name or id.

    Numbers are the user's (CPUs, bytes), None means: find out. name, persist, kernel_id: of a cluster that
    is started.
    """

    address: str | None = None
    num_cpus: float | None = None
    num_gpus: float | None = None
    memory: float | None = None
    resources: dict[str, float] = {}
    labels: dict[str, str] = {}
    object_store_memory: int | None = None
    namespace: str | None = None
    local_mode: bool = False
    log_to_driver: bool = True
    folds_output: bool = True
    never_folded: str = ""
    hidden_output: str = ""
    environment: str = ""
    """Key of the runtime environment of everything that this driver starts."""
    persist: bool = False
    metrics_port: int | None = None
    http_host: str = "127.0.0.1"
    http_port: int | None = None
    logging: str = ""
    """As ``LoggingConfig.to_json`` has it."""
    name: str = ""
    kernel_id: str = ""
    autoscale: AutoscaleBounds | None = None
    session: str = ""
    """Name of the session on the head that owns what this process makes; "" when this process owns it, or has none."""
    is_distant: bool = False
    """The address is one at which thin clients knock (``ray://``)."""
    token_file: str = ""
    tls: TlsFiles | None = None
    """What is shown to a head on another machine, and asked of it."""
    engine: str = NATIVE
    """"ray": tasks run on a real Ray cluster."""


def make_init_options(address: str | None, environ: Mapping[str, str], asked: Mapping[str, Any]) -> InitOptions:
    """Check and gather. An address in the environment counts when none is given. ValueError for cluster settings
    together with an address, TypeError for values of the wrong type."""
    asked = {**asked, "runtime_env": driver_environment(asked["runtime_env"], environ)}
    if address is None and not asked["local_mode"]:
        address = next((environ[name] for name in ADDRESS_VARIABLES if environ.get(name)), None)
    if address is not None and not isinstance(address, str):
        raise wrong_type("address", "str or None", address)
    is_distant = address is not None and address.startswith(CLIENT_SCHEME)
    if address is not None and is_distant:
        address = address.removeprefix(CLIENT_SCHEME).rstrip("/")
        if split_host_port(address) is None:
            raise ValueError(f"address={CLIENT_SCHEME + address!r} is not of the form {CLIENT_SCHEME}HOST:PORT.")
    if address in ("", LOCAL_ADDRESS):
        address = None
    engine = _engine(asked, environ)
    _check_values(asked, environ)
    if address is not None:
        _refuse_cluster_settings(address, asked)
    elif asked["session"] and not asked["persist"]:
        raise ValueError(
            f"session={asked['session']!r}: a session outlives this process only in a cluster that does. Give the address "
            "of one, or persist=True to start one."
        )
    return InitOptions(
        address=address,
        num_cpus=asked["num_cpus"],
        num_gpus=asked["num_gpus"],
        memory=asked["memory"],
        resources=dict(asked["resources"] or {}),
        labels=dict(asked["labels"] or {}),
        object_store_memory=asked["object_store_memory"],
        namespace=asked["namespace"],
        local_mode=bool(asked["local_mode"]),
        log_to_driver=bool(asked["log_to_driver"]),
        folds_output=all(environ.get(name, "1") != "0" for name in FOLDING_VARIABLES),
        never_folded=_pattern(environ, NEVER_FOLDED_VARIABLES),
        hidden_output=_pattern(environ, HIDDEN_VARIABLES),
        environment=environment_key(
            asked["runtime_env"], as_ray=address is not None and bool(environ.get(AS_RAY_VARIABLE))
        ),
        persist=bool(asked["persist"]),
        metrics_port=asked["metrics_port"],
        http_host=asked["dashboard_host"],
        http_port=_http_port(asked),
        logging=asked["logging"],
        name=asked["name"] or "",
        kernel_id=asked["_kernel_id"],
        autoscale=autoscale_bounds(asked["autoscale"]),
        session=asked["session"] or "",
        is_distant=is_distant,
        tls=choose_tls(environ),
        engine=engine,
        token_file=asked["token_file"] or next((environ[name] for name in TOKEN_VARIABLES if environ.get(name)), ""),
    )


def _engine(asked: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    """ValueError for one that is not known, or for what Ray has not."""
    engine = asked.get("engine") or environ.get(ENGINE_VARIABLE) or NATIVE
    if engine not in ENGINES:
        raise ValueError(f"engine={engine!r} is none of {', '.join(ENGINES)}.")
    if engine == RAY:
        given = [name for name in ("name", "persist", "autoscale", "session", "memory", "_temp_dir") if asked[name]]
        if given:
            raise ValueError(
                f"{', '.join(given)} cannot be had with engine='ray': it belongs to raybook's own runtime. Leave it out."
            )
    return engine


def split_host_port(address: str) -> tuple[str, int] | None:
    """``HOST:PORT`` in two; None for what is none."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or "/" in host or not port.isdigit() or not 0 < int(port) < 65536:
        return None
    return host, int(port)


def _pattern(environ: Mapping[str, str], names: Sequence[str]) -> str:
    """The first of these variables that is set. ValueError for what is no regular expression."""
    for name in names:
        text = environ.get(name, "")
        if text:
            try:
                re.compile(text)
            except re.error as error:
                raise ValueError(f"{name}={text!r} is no regular expression: {error}.") from None
            return text
    return ""


def _check_store(asked_bytes: int | None, environ: Mapping[str, str]) -> None:
    if asked_bytes is None:
        return
    least = read_environment(environ).object_store_bytes_min
    if asked_bytes < least:
        raise ValueError(
            f"Attempting to cap object store memory usage at {asked_bytes} bytes, but the minimum allowed is {least} bytes."
        )


def _http_port(asked: Mapping[str, Any]) -> int | None:
    """Where the HTTP door listens: nowhere unless asked for, because a notebook needs no open port."""
    if asked["include_dashboard"] is False:
        return None
    if asked["dashboard_port"] is not None:
        return int(asked["dashboard_port"])
    return 0 if asked["include_dashboard"] else None


def _check_values(asked: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    for name in ("num_cpus", "num_gpus", "memory"):
        check_amount(name, asked[name])
    check_resources("resources", asked["resources"])
    check_count(1, none=True)("object_store_memory", asked["object_store_memory"])
    _check_store(asked["object_store_memory"], environ)
    check_runtime_env("runtime_env", asked["runtime_env"])
    comes_later()("_temp_dir", asked["_temp_dir"])
    check_count(0, none=True)("_metrics_export_port", asked["metrics_port"])
    check_count(0, none=True)("dashboard_port", asked["dashboard_port"])
    check_name("dashboard_host", asked["dashboard_host"])
    check_name("name", asked["name"])
    check_name("session", asked["session"])
    check_name("token_file", asked["token_file"])
    if asked["namespace"] is not None:
        check_namespace(asked["namespace"])
    labels = asked["labels"]
    if labels is not None and not (
        isinstance(labels, Mapping) and all(isinstance(part, str) for pair in labels.items() for part in pair)
    ):
        raise wrong_type("labels", "a dict of strings", labels)


UNUSED_KEYWORDS = frozenset(
    """
    _cgroup_path _driver_object_store_memory _enable_object_reconstruction _lru_evict _node_ip_address _node_name
    _object_spilling_directory _object_store_memory _plasma_directory _redis_max_memory _redis_password _redis_username
    _system_config _tracing_startup_hook cgroup_path proxy_server_url storage system_reserved_cpu system_reserved_memory
    """.split()
)
"""Keywords of Ray's ``init`` for parts that raybook does not have."""


def check_unused(given: Mapping[str, Any]) -> None:
    """RuntimeError, as Ray raises it, for a keyword that neither raybook nor Ray has."""
    unknown = [name for name in given if name not in UNUSED_KEYWORDS]
    if unknown:
        raise RuntimeError(
            f"Unknown keyword argument(s): {', '.join(unknown)}. help(raybook.init) lists what init() takes."
        )


def check_logging_config(config: Any) -> None:
    """None or a LoggingConfig."""
    if config is not None and not isinstance(config, LoggingConfig):
        raise wrong_type("logging_config", "a raybook.LoggingConfig", config)


def check_job_config(config: Any) -> None:
    """None or a JobConfig."""
    if config is not None and not isinstance(config, JobConfig):
        raise wrong_type("job_config", "a raybook.job_config.JobConfig", config)


def _refuse_cluster_settings(address: str, asked: Mapping[str, Any]) -> None:
    names = ("num_cpus", "num_gpus", "memory", "resources", "labels", "object_store_memory", "name", "autoscale")
    given = [name for name in names if asked[name] is not None]
    if asked["persist"]:
        given.append("persist")
    if asked["metrics_port"] is not None:
        given.append("_metrics_export_port")
    if asked["local_mode"]:
        given.append("local_mode")
    if given:
        words = ", ".join(given)
        if given[0] in ("num_cpus", "num_gpus"):
            words = ", ".join(["num_cpus and num_gpus", *(name for name in given if name not in names[:2])])
        raise ValueError(
            f"When connecting to an existing cluster, {words} must not be provided: the one at {address!r} has its own. "
            "Leave them out, or leave out the address (and unset "
            f"{' and '.join(ADDRESS_VARIABLES)}) to start a cluster."
        )


def python_version() -> str:
    """As RayContext shows it."""
    return platform.python_version()
