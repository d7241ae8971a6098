"""``raybook serve run | deploy | start | status | config | build | shutdown``: applications from a terminal.

Exit codes: 0 done, 1 it could not be done (an application that failed, a config that is wrong), 2 wrong usage.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import click

from raybook import serve as serve_library
from raybook.api import init
from raybook.base.errors import RayError


def _address(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "-a", "--address", metavar="ADDRESS", help="Of a cluster; the newest of this machine, unless given."
    )(command)


def _app_dir(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "-d", "--app-dir", default=".", show_default=True, type=click.Path(exists=True, file_okay=False),
        help="Where import paths are looked for.",
    )(command)  # fmt: skip


def _connect(address: str | None, may_start: bool = False, **options: Any) -> None:
    """Connect this command. Exit 1 with the reason when there is no cluster."""
    if may_start and address is None:
        try:
            init(address="auto", namespace="serve", log_to_driver=False)
        except ConnectionError:
            init(namespace="serve", **options)
        return
    try:
        init(address=address or "auto", namespace="serve", log_to_driver=False, **options)
    except (ConnectionError, RayError) as error:
        _fail(str(error))


def _fail(words: str) -> None:
    click.echo(f"Error: {words}", err=True)
    sys.exit(1)


def _read_config(path: str) -> dict[str, Any]:
    # Not at the top: yaml is of the extra `serve`.
    import yaml

    try:
        with open(path) as file:
            return yaml.safe_load(file)
    except (OSError, yaml.YAMLError) as error:
        _fail(f"{path} could not be read: {error}")
        raise AssertionError from None


def _arguments(pairs: tuple[str, ...]) -> dict[str, str]:
    """``key=value`` for builder functions. Exit 2 for others."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise click.UsageError(f"Invalid key-value string '{pair}'. Must be of the form 'key=value'.")
        found[key] = value
    return found


@click.group("serve")
def serve() -> None:
    """Deploy models online, and look after them."""


@serve.command()
@_address
@_app_dir
@click.option("--runtime-env-json", metavar="JSON", help="A runtime_env for replicas.")
@click.option("--working-dir", help="A folder that replicas run in, which is sent along.")
@click.option("--blocking/--non-blocking", default=True, show_default=True, help="Stay until interrupted.")
@click.option("--route-prefix", default="/", show_default=True, help="Of an import path's application.")
@click.option("--name", default="default", show_default=True, help="Of an import path's application.")
@click.argument("config_or_import_path")
@click.argument("arguments", nargs=-1)
def run(
    address: str | None,
    app_dir: str,
    runtime_env_json: str | None,
    working_dir: str | None,
    blocking: bool,
    route_prefix: str,
    name: str,
    config_or_import_path: str,
    arguments: tuple[str, ...],
) -> None:
    """Run an application (module:app, or module:builder with key=value ARGUMENTS), or those of a config file.

    A cluster is started if there is none. Stays until interrupted, and ends Serve then.
    """
    environment = json.loads(runtime_env_json) if runtime_env_json else {}
    if working_dir:
        environment["working_dir"] = working_dir
    folder = os.path.abspath(app_dir)
    serve_library.add_to_path(folder)
    _connect(address, may_start=True, runtime_env=environment or None)
    is_file = os.path.isfile(config_or_import_path)
    try:
        if is_file:
            serve_library.deploy_config(_read_config(config_or_import_path), True, [folder])
        else:
            app = serve_library.load_application(config_or_import_path, _arguments(arguments))
            serve_library.run(app, name=name, route_prefix=route_prefix)
    except (ImportError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        serve_library.shutdown()
        _fail(f"{type(error).__name__}: {error}")
    http = serve_library.details()["http"]
    click.echo(f"Serving at http://{http['host']}:{http['port']}. Press Ctrl-C to end it.")
    if blocking:
        _stay()


def _stay() -> None:
    """Until interrupted, which ends Serve."""
    try:
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        serve_library.shutdown()


@serve.command()
@_address
@_app_dir
@click.option("--wait", is_flag=True, help="Until every application serves, or one cannot.")
@click.argument("config_file")
def deploy(address: str | None, app_dir: str, wait: bool, config_file: str) -> None:
    """Make the cluster serve what a config file says, and nothing else."""
    config = _read_config(config_file)
    try:
        serve_library.parse_config(config)
    except ValueError as error:
        _fail(str(error))
    _connect(address)
    try:
        serve_library.deploy_config(config, wait, [os.path.abspath(app_dir)])
    except (ValueError, RuntimeError) as error:
        _fail(str(error))
    click.echo("Sent. `raybook serve status` shows how far it is.")


@serve.command()
@_address
@click.option("--http-host", default="127.0.0.1", show_default=True)
@click.option("--http-port", default=8000, show_default=True, type=int)
@click.option(
    "--http-location", "--proxy-location", "location", default="EveryNode", show_default=True,
    type=click.Choice(["Disabled", "HeadOnly", "EveryNode"], case_sensitive=False), help="Where proxies run.",
)  # fmt: skip
@click.option("--grpc-port", default=9000, show_default=True, type=int)
@click.option("--grpc-servicer-functions", multiple=True, help="Import paths of add_...Servicer_to_server functions.")
def start(
    address: str | None, http_host: str, http_port: int, location: str, grpc_port: int, grpc_servicer_functions: tuple
) -> None:
    """Start Serve with other options than the defaults, before anything is deployed."""
    _connect(address)
    try:
        serve_library.start(
            proxy_location=location,
            http_options={"host": http_host, "port": http_port},
            grpc_options={"port": grpc_port, "grpc_servicer_functions": list(grpc_servicer_functions)},
        )
    except Exception as error:  # noqa: BLE001 - RayServeException is not imported here, for start-up time.
        _fail(str(error))


@serve.command()
@_address
@click.option("-n", "--name", help="One application alone.")
@click.option("--json", "as_json", is_flag=True, help="JSON, with replicas and their figures.")
def status(address: str | None, name: str | None, as_json: bool) -> None:
    """Applications, deployments and proxies, as YAML."""
    _connect(address)
    details = serve_library.details()
    applications = details.get("applications", {})
    if name is not None:
        if name not in applications:
            _fail(f"There is no application {name!r}. There are: {sorted(applications)}.")
        applications = {name: applications[name]}
    if as_json:
        click.echo(json.dumps({**details, "applications": applications}, indent=1, default=str))
        return
    shown: dict[str, Any] = {
        "proxies": {node: row["status"] for node, row in details.get("proxies", {}).items()},
        "applications": {key: _application(row) for key, row in applications.items()},
        "target_capacity": None,
    }
    click.echo(_yaml(shown["applications"][name] if name is not None else shown), nl=False)


def _application(row: dict[str, Any]) -> dict[str, Any]:
    deployments = {
        name: {
            "status": found["status"],
            "status_trigger": found["status_trigger"],
            "replica_states": found["replica_states"],
            "message": found["message"],
        }
        for name, found in row["deployments"].items()
    }
    return {
        "status": row["status"],
        "message": row["message"],
        "last_deployed_time_s": row["last_deployed_time_s"],
        "deployments": deployments,
    }


@serve.command()
@_address
@click.option("-n", "--name", help="One application alone.")
def config(address: str | None, name: str | None) -> None:
    """The configs that applications were last deployed with, as YAML documents."""
    _connect(address)
    rows = [
        row["config"]
        for key, row in serve_library.details().get("applications", {}).items()
        if row.get("config") and name in (None, key)
    ]
    if not rows:
        click.echo("No config has been deployed" + (f" for application {name!r}." if name else "."))
        return
    click.echo("\n---\n\n".join(_yaml(row) for row in rows), nl=False)


@serve.command()
@_app_dir
@click.option("-o", "--output-path", type=click.Path(), help="A file to write; printed, unless given.")
@click.argument("import_paths", nargs=-1, required=True)
def build(app_dir: str, output_path: str | None, import_paths: tuple[str, ...]) -> None:
    """A config to begin with, of applications by their import paths."""
    serve_library.add_to_path(os.path.abspath(app_dir))
    names = {f"app{number}": path for number, path in enumerate(import_paths, 1)}
    try:
        text = _yaml(serve_library.config_of(names))
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        _fail(f"{type(error).__name__}: {error}")
    text = f"# This file was generated using the `serve build` command.\n\n{text}"
    if output_path:
        if not output_path.endswith((".yaml", ".yml")):
            raise click.UsageError("FILE_PATH must end with '.yaml'.")
        with open(output_path, "w") as file:
            file.write(text)
    else:
        click.echo(text, nl=False)


@serve.command()
@_address
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def shutdown(address: str | None, yes: bool) -> None:
    """Delete all applications, and end Serve."""
    if not yes:
        click.confirm("This will shut down Serve on the cluster and delete all applications. Continue?", abort=True)
    _connect(address)
    serve_library.shutdown()
    click.echo("Serve has ended; its applications are deleted.")


def _yaml(value: Any) -> str:
    import yaml

    return yaml.safe_dump(value, sort_keys=False, default_flow_style=False)
