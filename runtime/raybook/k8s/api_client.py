"""API client: the API server of Kubernetes through its official client, and what it refuses in words.

Objects travel as plain dicts. Knows nothing of what they mean. ``kubernetes`` (extra ``raybook[k8s]``) is imported at the
first connection: it takes a second.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

GROUP, VERSION = "ray.io", "v1"
PLURALS = {
    "RayCluster": "rayclusters",
    "RayJob": "rayjobs",
    "RayService": "rayservices",
    "RayCronJob": "raycronjobs",
    "ConfigMap": "configmaps",
    "Secret": "secrets",
    "Pod": "pods",
}
INSTALL_KUBERAY = (
    "helm repo add kuberay https://ray-project.github.io/kuberay-helm/ && helm install kuberay-operator "
    "kuberay/kuberay-operator"
)
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}


class KubernetesError(RuntimeError):
    """The API server said no, or is not to be had. status: of HTTP; 0 when nothing answered."""

    def __init__(self, words: str, status: int = 0) -> None:
        super().__init__(words)
        self.status = status


class Conflict(KubernetesError):
    """Somebody else was faster: it exists already, or it has changed since it was read."""


class NotThere(KubernetesError):
    """There is no such object."""


def connect(context: str | None = None, kubeconfig: str | None = None) -> Api:
    """The API server of the kubeconfig (``KUBECONFIG``, ``~/.kube/config``), or, in a pod, the one it is of.

    context: another than the current. KubernetesError when there is neither. Asks nothing yet.
    """
    try:
        from kubernetes import client, config
    except ImportError:
        raise KubernetesError("Kubernetes is spoken with by its client: pip install 'raybook[k8s]'.") from None
    settings = client.Configuration()
    try:
        config.load_kube_config(config_file=kubeconfig, context=context, client_configuration=settings)
    except (config.ConfigException, OSError) as error:
        if kubeconfig or context:
            raise KubernetesError(f"The kubeconfig cannot be used: {error}.") from None
        try:
            config.load_incluster_config(client_configuration=settings)
        except config.ConfigException:
            raise KubernetesError(
                f"There is no kubeconfig ({error}), and this is no pod with a service account. Set KUBECONFIG, or log in "
                "with your provider's tool."
            ) from None
    settings.retries = 1
    return Api(client.ApiClient(settings))


class Api:
    """One API server. A context manager that closes its connections. Methods raise KubernetesError, block for a round trip
    and may be called from any thread."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        """NotThere."""
        return self._json("GET", _path(kind, namespace, name), ("get", kind, name, namespace))

    def find(self, kind: str, namespace: str, labels: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """All of a kind with these labels."""
        selector = ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        query = [("labelSelector", selector)] if selector else []
        items = self._json("GET", _path(kind, namespace), ("list", kind, "", namespace), query)["items"]
        found = [{"kind": kind, **item} for item in items]
        wanted = (labels or {}).items()
        return [one for one in found if wanted <= (one["metadata"].get("labels") or {}).items()]

    def create(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Conflict when one of that name is there."""
        kind, name, namespace = _identity(manifest)
        return self._json("POST", _path(kind, namespace), ("create", kind, name, namespace), body=manifest)

    def patch(self, kind: str, name: str, namespace: str, change: Mapping[str, Any]) -> dict[str, Any]:
        """A merge patch. Conflict when the object is no longer of the version that the patch names."""
        what = ("patch", kind, name, namespace)
        return self._json("PATCH", _path(kind, namespace, name), what, body=change, headers=dict(MERGE_PATCH))

    def delete(self, kind: str, name: str, namespace: str) -> None:
        """It, and what it owns, in the foreground. NotThere."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"}
        self._json("DELETE", _path(kind, namespace, name), ("delete", kind, name, namespace), body=body)

    def watch(self, kind: str, name: str, namespace: str, quiet_s: float) -> Iterator[dict[str, Any]]:
        """The object each time it changes, until the server has been quiet for so long or cuts the stream off. An object
        that was deleted ends it, too."""
        query = [
            ("watch", "true"),
            ("fieldSelector", f"metadata.name={name}"),
            ("timeoutSeconds", str(int(quiet_s) or 1)),
        ]
        response = self._ask(
            "GET", _path(kind, namespace), ("watch", kind, name, namespace), query, read_timeout_s=quiet_s
        )
        try:
            for event in _events(response):
                thing = event.get("object") or {}
                if event.get("type") == "ERROR" or (thing.get("metadata") or {}).get("name") not in (name, None):
                    if event.get("type") == "ERROR":
                        return
                    continue
                if event.get("type") == "DELETED":
                    return
                if event.get("type") in ("ADDED", "MODIFIED"):
                    yield {"kind": kind, **thing}
        finally:
            response.release_conn()
            response.close()

    def pod_log(self, name: str, namespace: str, container: str, follow: bool, tail: int | None) -> Iterator[str]:
        """Lines that a container has written."""
        query = [("container", container), ("follow", "true" if follow else "false")]
        if tail is not None:
            query.append(("tailLines", str(tail)))
        path = f"{_path('Pod', namespace, name)}/log"
        wait_s = None if follow else READ_TIMEOUT_S
        response = self._ask("GET", path, ("get", "Pod/log", name, namespace), query, read_timeout_s=wait_s)
        try:
            rest = b""
            for part in response.stream(2**16, decode_content=True):
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    yield line.decode(errors="replace")
            if rest:
                yield rest.decode(errors="replace")
        finally:
            response.release_conn()
            response.close()

    def through_service(self, name: str, namespace: str, port: int, page: str, headers: Mapping[str, str]) -> Any:
        """What a service of the cluster answers to GET, by way of the API server: JSON."""
        path = f"/api/v1/namespaces/{namespace}/services/{name}:{port}/proxy/{page}"
        return self._json("GET", path, ("get", "services/proxy", name, namespace), headers=headers)

    def has_kuberay(self, kind: str) -> bool:
        """Whether the cluster knows the kind."""
        try:
            found = self._call("GET", f"/apis/{GROUP}/{VERSION}", [], None, {}, READ_TIMEOUT_S)
        except self._refusals() as error:
            if getattr(error, "status", 0) == 404:
                return False
            raise self._in_words(error, ("list", "APIResource", GROUP, "")) from None
        resources = json.loads(found.data).get("resources", [])
        return any(resource.get("name") == PLURALS[kind] for resource in resources)

    def _json(
        self,
        verb: str,
        path: str,
        what: tuple[str, str, str, str],
        query: list[tuple[str, str]] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        response = self._ask(verb, path, what, query, body, headers)
        found = json.loads(response.data)
        if isinstance(found, dict) and what[1] in PLURALS and what[0] in ("get", "create", "patch"):
            found.setdefault("kind", what[1])
        return found

    def _ask(
        self,
        verb: str,
        path: str,
        what: tuple[str, str, str, str],
        query: list[tuple[str, str]] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        read_timeout_s: float | None = READ_TIMEOUT_S,
    ) -> Any:
        try:
            return self._call(verb, path, query or [], body, headers or {}, read_timeout_s)
        except self._refusals() as error:
            raise self._in_words(error, what) from None

    def _call(
        self,
        verb: str,
        path: str,
        query: list[tuple[str, str]],
        body: Any,
        headers: Mapping[str, str],
        read_timeout_s: float | None,
    ) -> Any:
        told = {
            "Accept": "application/json",
            **({"Content-Type": "application/json"} if body is not None else {}),
            **headers,
        }
        call: Callable[..., Any] = self._client.call_api
        return call(
            path, verb, query_params=query, header_params=told, body=body,
            auth_settings=["BearerToken"], _preload_content=False, _return_http_data_only=True,
            _request_timeout=(CONNECT_TIMEOUT_S, read_timeout_s),
        )  # fmt: skip

    def _refusals(self) -> tuple[type[Exception], ...]:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        return ApiException, HTTPError

    def _in_words(self, error: Exception, what: tuple[str, str, str, str]) -> KubernetesError:
        verb, kind, name, namespace = what
        status = int(getattr(error, "status", 0) or 0)
        title = f"{kind} {name}".strip() + (f" in namespace {namespace}" if namespace else "")
        plural = PLURALS.get(kind, kind)
        if not status:
            host = self._client.configuration.host
            return KubernetesError(f"The API server at {host} does not answer: {error}. Nothing is known of {title}.")
        said = _message(error)
        if status == 401:
            return KubernetesError(
                f"The API server refuses the credentials of this kubeconfig (401: {said}); they may have expired. Log in "
                f"again. {title} was left as it is.", status
            )  # fmt: skip
        if status == 403:
            group = f"{plural}.{GROUP}" if kind in PLURALS and kind.startswith("Ray") else plural
            return KubernetesError(
                f"You may not {verb} {group} in namespace {namespace} (403: {said}). Ask for a role with verb "
                f"{verb!r} on resource {group!r}; `kubectl auth can-i {verb} {group} -n {namespace}` shows it.", status
            )  # fmt: skip
        if status == 404:
            if kind.startswith("Ray") and not self.has_kuberay(kind):
                return KubernetesError(
                    f"This cluster does not know {kind}: KubeRay's operator is not installed (or is too old). "
                    f"Install it: {INSTALL_KUBERAY}", status
                )  # fmt: skip
            return NotThere(f"There is no {title}.", status)
        if status == 409:
            return Conflict(f"{title} was not written: {said or 'somebody else was faster'} (409).", status)
        return KubernetesError(f"The API server would not {verb} {title}: {said} ({status}).", status)


def _identity(manifest: Mapping[str, Any]) -> tuple[str, str, str]:
    metadata = manifest["metadata"]
    return manifest["kind"], metadata["name"], metadata.get("namespace", "default")


def _path(kind: str, namespace: str, name: str = "") -> str:
    root = f"/apis/{GROUP}/{VERSION}" if kind.startswith("Ray") else "/api/v1"
    return f"{root}/namespaces/{namespace}/{PLURALS[kind]}" + (f"/{name}" if name else "")


def _message(error: Exception) -> str:
    body = getattr(error, "body", None) or ""
    try:
        return str(json.loads(body).get("message", "")) or str(getattr(error, "reason", ""))
    except (ValueError, AttributeError, TypeError):
        return str(getattr(error, "reason", "") or body)[:200]


def _events(response: Any) -> Iterator[dict[str, Any]]:
    """JSON documents, a line each. A stream that is cut off, or is quiet for too long, ends."""
    from urllib3.exceptions import HTTPError

    rest = b""
    try:
        for part in response.stream(amt=None, decode_content=True):
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                if line.strip():
                    yield json.loads(line)
    except (HTTPError, OSError):
        return
