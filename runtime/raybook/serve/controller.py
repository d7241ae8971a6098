"""Controller: the one actor that knows what should run, and makes it so.

A loop over the deployments' keepers, woken by whatever happens, and a few methods for drivers, handles and proxies. What it
must not forget is in the GCS (`ServeState`), so it may die: the new one finds the replicas by their names and goes on;
meanwhile requests flow, for nothing of a request passes through here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import msgspec

from raybook.api import get_actor, publish_fact
from raybook.api.kv import kv_delete, kv_get, kv_keys, kv_put
from raybook.serve.callers import Callers
from raybook.serve.core.names import NAMESPACE, DeploymentActorID, ReplicaID
from raybook.serve.core.routes import conflict
from raybook.serve.core.statuses import DeploymentStatus, status_of_application
from raybook.serve.core.target import ApplicationTarget, ServeState
from raybook.serve.deployment_keeper import DeploymentKeeper
from raybook.serve.placement import resources_of
from raybook.serve.proxy_keeper import ProxyFleet

logger = logging.getLogger("ray.serve")
STATE_KEY = b"state"
BLOB_PREFIX = b"blob:"
LISTEN_S = 30.0
BUSY_TICK_S = 0.1
IDLE_TICK_S = 1.0
METRICS_S = 0.2
Key = tuple[str, str]


class ServeController:
    """Made by `client.start`; one a cluster."""

    def __init__(self, http: dict[str, Any], grpc: dict[str, Any], proxy_location: str) -> None:
        self._wake = asyncio.Event()
        self._keepers: dict[Key, DeploymentKeeper] = {}
        self._listeners: dict[Key, list[asyncio.Future[None]]] = {}
        self._app_listeners: list[asyncio.Future[None]] = []
        self._told: dict[Key, Any] = {}
        self._callers = Callers()
        self._measured_s = 0.0
        self._measuring: asyncio.Task[None] | None = None
        self._figures: dict[str, dict[str, Any]] = {}
        self._failed_apps: dict[str, str] = {}
        self._published: dict[str, dict[str, Any]] = {}
        self._deleting: dict[str, ApplicationTarget] = {}
        kept = kv_get(NAMESPACE, STATE_KEY)
        if kept is None:
            self._state = ServeState(http=http, grpc=grpc, proxy_location=proxy_location)
            self._save()
        else:
            self._state = msgspec.msgpack.decode(kept, type=ServeState)
        self._proxies = ProxyFleet(self._state.http, self._state.grpc, self._state.proxy_location, self._wake.set)
        if kept is not None:
            self._recover()
        self._proxies.start()
        self._loop_task = asyncio.get_running_loop().create_task(self._run())

    def _recover(self) -> None:
        for app in self._state.applications.values():
            for target in app.deployments.values():
                keeper = self._keepers[app.name, target.name] = DeploymentKeeper(
                    target, self._wake.set, self._callers.know
                )
                chosen = self._state.targets.get(f"{app.name}#{target.name}")
                if keeper.scaler.autoscaler is not None and chosen is not None:
                    keeper.scaler.autoscaler.target = chosen
        for full_id, record in self._state.replicas.items():
            keeper_or_none = self._keepers.get((record.app_name, record.deployment))
            try:
                handle = get_actor(full_id, NAMESPACE)
            except ValueError:
                continue
            if keeper_or_none is not None:
                keeper_or_none.adopt(record, handle)
        for full_id in self._state.actors:
            owner = DeploymentActorID.from_full_id_str(full_id).deployment_id
            keeper_or_none = self._keepers.get((owner.app_name, owner.name))
            if keeper_or_none is not None:
                keeper_or_none.actors.adopt(full_id)

    # Verbs of drivers

    async def ready(self) -> dict[str, Any]:
        """Once proxies listen: the options in force. Raises why one cannot."""
        await self._proxies.ready()
        return {"http": self._state.http, "grpc": self._state.grpc, "proxy_location": self._state.proxy_location}

    async def deploy(self, applications: list[ApplicationTarget], replace_all: bool = False) -> None:
        """Make these applications what they say; others stay, but with replace_all. ValueError for a prefix that another
        one has."""
        names = {app.name for app in applications}
        standing = {} if replace_all else {n: a for n, a in self._state.applications.items() if n not in names}
        for app in applications:
            others = [(other.name, other.route_prefix) for other in [*standing.values(), *applications]]
            taken = conflict(app.name, app.route_prefix, others)
            if taken:
                raise ValueError(
                    f'Prefix {app.route_prefix} is being used by application "{taken}". Failed to deploy application '
                    f'"{app.name}". Nothing was changed. Give it another route_prefix, or delete "{taken}" first.'
                )
        if replace_all:
            for name in self._state.applications.keys() - names:
                self._delete_app(name)
        for app in applications:
            app.deployed_s = time.time()
            self._failed_apps.pop(app.name, None)
            self._deleting.pop(app.name, None)
            before = self._state.applications.get(app.name)
            if before is not None and app.source == "imperative" and is_same(before, app):
                # Who runs the very same thing again wants it anew, as in Ray.
                for target in app.deployments.values():
                    target.code_version = f"{target.code_version.partition('.')[0]}.{time.time_ns():x}"
            self._state.applications[app.name] = app
            for name in (before.deployments.keys() if before else set()) - app.deployments.keys():
                self._keepers[app.name, name].delete()
            for target in app.deployments.values():
                keeper = self._keepers.get((app.name, target.name))
                if keeper is not None and keeper.target.code_version.partition(".")[0] == target.code_version:
                    target.code_version = keeper.target.code_version
                if keeper is None:
                    self._keepers[app.name, target.name] = DeploymentKeeper(target, self._wake.set, self._callers.know)
                else:
                    keeper.deploy(target)
        self._save()
        self._drop_blobs()
        self._wake.set()

    async def standing(self, names: list[str]) -> list[ApplicationTarget]:
        """Those of these applications that are deployed, as they are."""
        return [self._state.applications[name] for name in names if name in self._state.applications]

    async def fail(self, name: str, message: str) -> None:
        """A config's application could not even be built: status says so; what runs under its name goes on."""
        self._failed_apps[name] = message

    async def delete(self, names: list[str]) -> list[str]:
        """Forget applications; the names of those that there were. Their replicas finish what they have."""
        known = [name for name in names if name in self._state.applications]
        for name in known:
            self._delete_app(name)
        for name in names:
            self._failed_apps.pop(name, None)
        self._save()
        self._wake.set()
        return known

    def _delete_app(self, name: str) -> None:
        app = self._state.applications.pop(name)
        self._deleting[name] = app
        for target in app.deployments.values():
            self._keepers[name, target.name].delete()

    async def wait_for(self, names: list[str], statuses: list[str], timeout_s: float = LISTEN_S) -> dict[str, Any]:
        """The rows of these applications, once each has one of the statuses or the time is over."""
        end = time.monotonic() + timeout_s
        while True:
            rows = {name: self._app_row(name) for name in names}
            left = end - time.monotonic()
            if left <= 0 or all(row["status"] in statuses for row in rows.values()):
                return rows
            changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._app_listeners.append(changed)
            await asyncio.wait([changed], timeout=min(left, 1.0))

    async def shutdown(self) -> None:
        """End everything but this actor, and forget it."""
        for name in list(self._state.applications):
            self._delete_app(name)
        self._save()
        while self._keepers:
            for keeper in self._keepers.values():
                keeper.step(time.monotonic())
            self._settle()
            await asyncio.sleep(0.02)
        await self._proxies.shutdown()
        self._loop_task.cancel()
        for key in kv_keys(NAMESPACE):
            kv_delete(NAMESPACE, key)

    # Questions

    async def details(self) -> dict[str, Any]:
        """Everything that status, the CLI and the panel show, as plain data."""
        return {
            "proxies": self._proxies.rows(),
            "applications": {name: self._app_row(name) for name in self._app_names()},
            "http": self._state.http,
            "grpc": self._state.grpc,
            "proxy_location": self._state.proxy_location,
        }

    async def ingress_of(self, app_name: str) -> str | None:
        """The name of an application's ingress deployment; None for an unknown application."""
        app = self._state.applications.get(app_name)
        return app.ingress if app is not None else None

    async def deployments_of(self, app_name: str) -> list[str] | None:
        """Names; None for an unknown application."""
        app = self._state.applications.get(app_name)
        return list(app.deployments) if app is not None else None

    async def proxies(self) -> dict[str, Any]:
        """Handles of the proxies, by node."""
        return self._proxies.handles()

    async def check_alive(self) -> bool:
        """True."""
        return True

    async def kept_configs(self) -> dict[str, Any]:
        """The last config of each application that was deployed by config."""
        return {app.name: app.config for app in self._state.applications.values() if app.config is not None}

    def _app_names(self) -> list[str]:
        return [*self._state.applications, *(name for name in self._deleting if name not in self._state.applications),
                *(name for name in self._failed_apps if name not in self._state.applications)]  # fmt: skip

    def _app_row(self, name: str) -> dict[str, Any]:
        app = self._state.applications.get(name) or self._deleting.get(name)
        if app is None:
            failed = self._failed_apps.get(name)
            word = "DEPLOY_FAILED" if failed else "NOT_STARTED"
            return {"name": name, "status": word, "message": failed or "", "last_deployed_time_s": 0.0, "deployments": {},
                    "route_prefix": None, "ingress": None, "source": "declarative", "docs_path": None}  # fmt: skip
        keepers = [self._keepers[name, each] for each in app.deployments if (name, each) in self._keepers]
        is_deleting = name not in self._state.applications
        status = status_of_application([keeper.status_in_application for keeper in keepers], is_deleting).value
        message = "\n".join(keeper.message for keeper in keepers if keeper.message)
        if status == "RUNNING" and self._proxies.routes_pending():
            status = "DEPLOYING"
        if name in self._failed_apps:
            status, message = "DEPLOY_FAILED", self._failed_apps[name]
        docs = next((r.facts.get("docs_path") for k in keepers if k.target.is_ingress for r in k.running()), None)
        return {
            "name": name, "status": status, "message": message, "last_deployed_time_s": app.deployed_s,
            "deployments": {keeper.id.name: self._deployment_row(keeper) for keeper in keepers},
            "route_prefix": app.route_prefix, "ingress": app.ingress, "source": app.source,
            "docs_path": f"{(app.route_prefix or '').rstrip('/')}{docs}" if docs else None, "config": app.config,
        }  # fmt: skip

    def _deployment_row(self, keeper: DeploymentKeeper) -> dict[str, Any]:
        states: dict[str, int] = {}
        replicas = []
        for replica in keeper.replicas:
            states[replica.state.value] = states.get(replica.state.value, 0) + 1
            figures = self._figures.get(replica.record.unique_id, {})
            replicas.append(
                {"replica_id": replica.record.unique_id, "state": replica.state.value, "pid": replica.facts.get("pid"),
                 "node_id": replica.node_id, "actor_name": replica.id.to_full_id_str(), "rank": replica.record.rank,
                 "start_time_s": replica.record.started_s, "code_version": replica.record.code_version,
                 **{k: v for k, v in figures.items() if k != "custom"}}
            )  # fmt: skip
        scaler = keeper.scaler.autoscaler
        # Monotonic times say nothing outside of this process.
        since_s = time.time() - time.monotonic()
        decisions = [{**msgspec.to_builtins(decision), "at_s": since_s + decision.at_ms / 1000}
                     for decision in scaler.decisions] if scaler else []  # fmt: skip
        return {
            "name": keeper.id.name, "status": keeper.status.value, "status_trigger": keeper.trigger.value,
            "message": keeper.message or keeper.scaler.error, "replica_states": states, "replicas": replicas,
            "target_num_replicas": keeper.count, "is_ingress": keeper.target.is_ingress,
            "queued": keeper.scaler.queued(_now_ms()), "decisions": decisions, "children": keeper.target.children,
            "config": keeper.target.shown_config, "required_resources": resources_of(keeper.target),
            "is_autoscaled": scaler is not None,
        }  # fmt: skip

    # Handles

    async def listen(self, app_name: str, deployment: str, version: Any, caller: str) -> dict[str, Any] | None:
        """What a caller's router should know of a deployment, once it is not ``version`` any more; None after a while, to
        ask again."""
        key = (app_name, deployment)
        self._callers.note(key, caller, version)
        snapshot = self._snapshot(key)
        if snapshot["version"] == version:
            changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._listeners.setdefault(key, []).append(changed)
            await asyncio.wait([changed], timeout=LISTEN_S)
            snapshot = self._snapshot(key)
        return snapshot if snapshot["version"] != version else None

    def _snapshot(self, key: Key) -> dict[str, Any]:
        keeper = self._keepers.get(key)
        if keeper is not None:
            return keeper.snapshot
        return {"version": "none", "replicas": [], "limit": 1, "max_queued": -1, "backpressure": (503, None),
                "is_autoscaled": False, "unavailable": "there is no such deployment"}  # fmt: skip

    async def report_queued(self, caller: str, rows: list[tuple[str, str, int]]) -> None:
        """Requests that wait with a caller."""
        for app_name, deployment, count in rows:
            keeper = self._keepers.get((app_name, deployment))
            if keeper is not None:
                keeper.scaler.note_queued(caller, _now_ms(), count)
                scaler = keeper.scaler.autoscaler
                if count and scaler is not None and scaler.target == 0:
                    self._measured_s = 0.0
                    self._wake.set()

    async def note_models(self, full_id: str, models: list[str]) -> None:
        """A replica has loaded or dropped a model."""
        replica_id = ReplicaID.from_full_id_str(full_id)
        keeper = self._keepers.get((replica_id.deployment_id.app_name, replica_id.deployment_id.name))
        for replica in keeper.replicas if keeper is not None else ():
            if replica.record.unique_id == replica_id.unique_id:
                replica.models = tuple(models)
                assert keeper is not None
                keeper.rebuild_snapshot()
                self._tell_listeners()

    # The loop

    async def _run(self) -> None:
        while True:
            try:
                self._step()
            except Exception:
                # One deployment's trouble must not stop the care of the others; it is tried again at the next tick.
                logger.exception("Serve's controller")
            try:
                await asyncio.wait_for(self._wake.wait(), self._tick_s())
            except asyncio.TimeoutError:
                pass
            self._wake.clear()

    def _tick_s(self) -> float:
        busy = any(keeper.status is not DeploymentStatus.HEALTHY or keeper.scaler.autoscaler is not None
                   for keeper in self._keepers.values())  # fmt: skip
        return BUSY_TICK_S if busy or self._proxies.routes_pending() else IDLE_TICK_S

    def _step(self) -> None:
        now_s = time.monotonic()
        for keeper in list(self._keepers.values()):
            keeper.step(now_s)
        self._settle()
        if now_s - self._measured_s >= METRICS_S and (self._measuring is None or self._measuring.done()):
            self._measured_s = now_s
            self._measuring = asyncio.get_running_loop().create_task(self._measure())

    def _settle(self) -> None:
        """After changes: forget what is gone, tell everybody, write down what must last."""
        for key in [key for key, keeper in self._keepers.items() if keeper.is_gone]:
            del self._keepers[key]
        for name, app in list(self._deleting.items()):
            if not any((name, each) in self._keepers for each in app.deployments):
                del self._deleting[name]
        records = {
            replica.id.to_full_id_str(): replica.record
            for keeper in self._keepers.values()
            for replica in keeper.replicas
        }
        counts = {f"{app}#{name}": keeper.count for (app, name), keeper in self._keepers.items()
                  if keeper.scaler.autoscaler is not None}  # fmt: skip
        actors = [full_id for keeper in self._keepers.values() for full_id in keeper.actors.full_ids()]
        for full_id in self._state.replicas.keys() - records.keys():
            self._callers.forget(full_id)
        if (records.keys(), counts, actors) != (self._state.replicas.keys(), self._state.targets, self._state.actors):
            self._state.replicas, self._state.targets, self._state.actors = records, counts, actors
            self._save()
        self._proxies.set_routes(self._routes(), self._doors(), self._replica_nodes())
        self._tell_listeners()

    def _routes(self) -> dict[str, tuple[str, str, str]]:
        """prefix → (application, ingress deployment, kind); of one without a prefix, which gRPC still finds, "#name"."""
        return {
            app.route_prefix or f"#{app.name}": (app.name, app.ingress, app.deployments[app.ingress].ingress_kind)
            for app in self._state.applications.values()
        }

    def _doors(self) -> dict[str, tuple[str, str]]:
        """prefix → (node, path): where the only replica of an application's ingress takes connections itself."""
        doors = {}
        for app in self._state.applications.values():
            keeper = self._keepers.get((app.name, app.ingress))
            running = keeper.running() if keeper is not None else []
            if app.route_prefix is not None and len(running) == 1 and running[0].facts.get("door"):
                doors[app.route_prefix] = (running[0].node_id, running[0].facts["door"])
        return doors

    def _replica_nodes(self) -> set[str]:
        return {replica.node_id for keeper in self._keepers.values() for replica in keeper.running() if replica.node_id}

    def _tell_listeners(self) -> None:
        for key, futures in list(self._listeners.items()):
            version = self._snapshot(key)["version"]
            if self._told.get(key) != version:
                self._told[key] = version
                del self._listeners[key]
                for future in futures:
                    if not future.done():
                        future.set_result(None)
        listeners, self._app_listeners = self._app_listeners, []
        for future in listeners:
            if not future.done():
                future.set_result(None)

    async def _measure(self) -> None:
        """Ask the replicas of autoscaled deployments what they do (others now and then, for the panel), and decide."""
        for keeper in list(self._keepers.values()):
            scaler = keeper.scaler.autoscaler
            if scaler is None and time.monotonic() % 2.0 > METRICS_S:
                continue
            replicas = keeper.running()
            answers = await asyncio.gather(*(_ask(replica.handle) for replica in replicas))
            ongoing, custom = {}, {}
            for replica, answer in zip(replicas, answers, strict=True):
                if answer is not None:
                    self._figures[replica.record.unique_id] = answer
                    ongoing[replica.record.unique_id] = answer["ongoing"]
                    if answer["custom"]:
                        custom[replica.record.unique_id] = answer["custom"]
            if scaler is not None and keeper.scaler.decide(_now_ms(), ongoing, custom):
                self._wake.set()
        self._publish()
        alive = {r.record.unique_id for keeper in self._keepers.values() for r in keeper.replicas}
        self._figures = {key: value for key, value in self._figures.items() if key in alive}

    def _publish(self) -> None:
        """Tell panels what changed: a fact of kind "serve" for each application."""
        rows = {name: self._app_row(name) for name in self._app_names()}
        for name, row in rows.items():
            if self._published.get(name) != row:
                publish_fact("serve", name, {key: value for key, value in row.items() if key != "config"})
        for name in self._published.keys() - rows.keys():
            publish_fact("serve", name, {"name": name, "status": "DELETED", "deployments": {}})
        self._published = rows

    # What lasts

    def _save(self) -> None:
        kv_put(NAMESPACE, STATE_KEY, msgspec.msgpack.encode(self._state))

    def _drop_blobs(self) -> None:
        """Forget code that nobody will start any more: replicas of old versions have theirs loaded."""
        used = {target.blob_key for app in self._state.applications.values() for target in app.deployments.values()}
        for key in kv_keys(NAMESPACE, BLOB_PREFIX):
            if key not in used:
                kv_delete(NAMESPACE, key)


async def _ask(handle: Any) -> dict[str, Any] | None:
    try:
        return await asyncio.wait_for(_await(handle.metrics.remote()), 2.0)
    except Exception:  # noqa: BLE001 - it is dying or very busy; its watch and health check are what judges it.
        return None


async def _await(ref: Any) -> Any:
    return await ref


def _now_ms() -> int:
    return int(time.monotonic() * 1000)


def is_same(before: ApplicationTarget, after: ApplicationTarget) -> bool:
    """Whether two targets of an application differ in nothing but when they were deployed."""
    if before.deployments.keys() != after.deployments.keys() or before.route_prefix != after.route_prefix:
        return False
    for name, target in after.deployments.items():
        old = before.deployments[name]
        plain = old.code_version.partition(".")[0]
        if msgspec.structs.replace(old, code_version=plain) != target:
            return False
    return True
