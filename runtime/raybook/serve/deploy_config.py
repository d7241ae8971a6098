"""Deploy by config: what a YAML file says becomes what the cluster serves.

Each application is imported and built in a task of its own, in its runtime environment, not in the process that asks: code
that cannot be imported fails its own application, whose status then says why, and disturbs no other. Applications that the
config does not name are deleted.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any, get_type_hints

from pydantic import BaseModel, ValidationError

from raybook.api import get as get_value
from raybook.api import remote
from raybook.api.kv import kv_put
from raybook.exceptions import RayTaskError
from raybook.serve import client
from raybook.serve.build_app import BuiltApplication, build_app
from raybook.serve.code_pickle import extend_path
from raybook.serve.config import gRPCOptions
from raybook.serve.config_schema import DeploymentSchema, ServeApplicationSchema, ServeDeploySchema
from raybook.serve.core.names import NAMESPACE
from raybook.serve.core.target import ApplicationTarget
from raybook.serve.deployment import Application, Deployment
from raybook.serve.import_path import import_attr


class ConfigError(ValueError):
    """A config says what it may not; each line names where and what."""


def parse_config(config: dict[str, Any] | ServeDeploySchema) -> ServeDeploySchema:
    """A checked config. ConfigError naming each wrong key with what is known there."""
    if isinstance(config, ServeDeploySchema):
        return config
    if not isinstance(config, dict):
        raise ConfigError(f"A Serve config is a mapping with the key 'applications', got {type(config).__name__}.")
    try:
        return ServeDeploySchema(**config)
    except ValidationError as error:
        lines = []
        for found in error.errors():
            where = ".".join(str(part) for part in found["loc"]) or "config"
            text = found["msg"]
            if found["type"] == "extra_forbidden":
                text = f"unknown key; known here are: {', '.join(_known_keys(found['loc']))}"
            lines.append(f"  {where}: {text}")
        raise ConfigError("The Serve config is not valid, and nothing was deployed:\n" + "\n".join(lines)) from None


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    """The keys of the place that an unknown key was found in."""
    model: Any = ServeDeploySchema
    for part in location[:-1]:
        if isinstance(part, int) or model is None:
            continue
        field = model.model_fields.get(part)
        model = _model_in(field.annotation) if field is not None else None
    return sorted(model.model_fields) if model is not None else []


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found is not None:
            return found
    return None


def deploy_config(
    config: dict[str, Any] | ServeDeploySchema, wait: bool = False, folders: list[str] | None = None
) -> None:
    """Make the cluster serve what the config says, and nothing else. wait: until every application serves; RuntimeError
    for one that cannot. folders: where import paths are looked for beside a runtime_env's working_dir. ConfigError for a
    config that is wrong, before anything is done."""
    schema = parse_config(config)
    http = schema.http_options.model_dump(mode="json")
    grpc = gRPCOptions(**schema.grpc_options.model_dump()).model_dump(mode="json")
    environment = schema.controller_options.runtime_env if schema.controller_options else None
    controller = client.start(http, grpc, schema.proxy_location.value, environment)
    building = {
        app.name: remote(num_cpus=0, max_retries=0, runtime_env=app.runtime_env or None)(build_from_schema).remote(
            app.model_dump(mode="json", exclude_unset=True), folders or []
        )
        for app in schema.applications
    }
    targets: list[ApplicationTarget] = []
    failures: dict[str, str] = {}
    for name, ref in building.items():
        try:
            targets.append(get_value(ref))
        except RayTaskError as error:
            failures[name] = f"Deploying app '{name}' failed with exception:\n{error}"
        except Exception as error:  # noqa: BLE001 - an environment that cannot be made, for example.
            failures[name] = f"Deploying app '{name}' failed: {error}"
    kept = get_value(controller.standing.remote(list(failures)))
    get_value(controller.deploy.remote([*targets, *kept], True))
    for name, message in failures.items():
        get_value(controller.fail.remote(name, message))
    if wait:
        client.wait_until_running(controller, [app.name for app in schema.applications])


def build_from_schema(fields: dict[str, Any], folders: list[str]) -> ApplicationTarget:
    """In a task: import and build one application, and put its code into the GCS. Raises what the import raises;
    ValueError for deployments that the application does not have."""
    extend_path(folders)
    schema = ServeApplicationSchema(**fields)
    app = load_application(schema.import_path, schema.args)
    logging = schema.logging_config.model_dump(mode="json") if schema.logging_config else None
    overrides = {each.name: overrides_of(each) for each in schema.deployments}
    built: BuiltApplication = build_app(
        app, schema.name, schema.route_prefix, logging, schema.runtime_env or None, overrides
    )
    for key, blob in built.blobs.items():
        kv_put(NAMESPACE, key, blob)
    built.target.source = "declarative"
    built.target.config = fields
    return built.target


def load_application(import_path: str, args: dict[str, Any] | None = None) -> Application:
    """What an import path names: an application, or a function that makes one of ``args``. TypeError for what is neither."""
    found = import_attr(import_path)
    if isinstance(found, Application):
        if args:
            raise ValueError(
                f"Arguments can only be passed to an application builder function, not an already built application, "
                f"which {import_path} is."
            )
        return found
    if isinstance(found, Deployment) or not inspect.isfunction(found):
        raise TypeError(
            f"{import_path} is a {type(found).__name__}, and should be an application (`Deployment.bind(...)`) or a "
            "function that makes one."
        )
    return _call_builder(import_path, found, args or {})


def _call_builder(import_path: str, builder: Any, args: dict[str, Any]) -> Application:
    parameters = list(inspect.signature(builder).parameters.values())
    if len(parameters) != 1:
        raise TypeError(
            "Application builder functions should take exactly one parameter, a dictionary containing the passed "
            f"arguments; {import_path} takes {len(parameters)}."
        )
    try:
        wanted = get_type_hints(builder).get(parameters[0].name)
    except NameError:
        wanted = None
    given: Any = args
    if isinstance(wanted, type) and issubclass(wanted, BaseModel):
        given = wanted(**args)
    made = builder(given)
    if not isinstance(made, Application):
        raise TypeError(
            "Application builder functions must return an `Application` returned `from `Deployment.bind()`, but "
            f"{import_path} returned: {type(made)}."
        )
    return made


def overrides_of(schema: DeploymentSchema) -> dict[str, Any]:
    """The options of one deployment that a config gives."""
    given = {name: getattr(schema, name) for name in schema.model_fields_set if name != "name"}
    options = given.get("ray_actor_options")
    if options is not None:
        given["ray_actor_options"] = options.model_dump(exclude_unset=True)
    return given


def config_of(applications: dict[str, str], ports: bool = True) -> dict[str, Any]:
    """A config to begin with: application name → import path; with the options that the code gives."""
    rows: list[dict[str, Any]] = []
    for name, import_path in applications.items():
        app = load_application(import_path)
        built = build_app(app, name, "/" if len(applications) == 1 else f"/{name}")
        deployments = [
            {
                "name": target.name,
                **{key: value for key, value in target.shown_config.items() if key != "logging_config"},
            }
            for target in built.target.deployments.values()
        ]
        rows.append(
            {
                "name": name,
                "route_prefix": built.target.route_prefix,
                "import_path": import_path,
                "runtime_env": {},
                "deployments": deployments,
            }
        )
    config: dict[str, Any] = {}
    if ports:
        config = {
            "proxy_location": "EveryNode",
            "http_options": {"host": "0.0.0.0", "port": 8000},
            "grpc_options": {"port": 9000, "grpc_servicer_functions": []},
        }
    config["applications"] = rows
    parse_config(config)
    return config


def add_to_path(folder: str) -> None:
    """Let imports find what is there, first."""
    if folder not in sys.path:
        sys.path.insert(0, folder)
