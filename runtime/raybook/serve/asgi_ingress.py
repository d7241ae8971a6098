"""Ingress: a class whose HTTP is an ASGI application's, FastAPI's above all.

``@serve.ingress(app)`` leaves a mark on the class; the application is put around the instance in the replica. Methods that
carry FastAPI's routes get ``self``: a dependency that finds the instance takes the place of the first parameter.
Source: Ray's `make_fastapi_class_based_view`, in turn fastapi-utils' class-based views.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import cloudpickle

from raybook.serve.code_pickle import pickle_code
from raybook.serve.context import replica_context

INGRESS_MARK = "__raybook_serve_ingress__"
APP_ATTRIBUTE = "_asgi_app"


class IngressMark:
    """plain: the class as written. maker: what makes of it the class that replicas construct."""

    def __init__(self, plain: type, maker: WithApplication) -> None:
        self.plain = plain
        self.maker = maker


class WithApplication:
    """Called in the replica with the plain class; the class whose instances have the application."""

    def __init__(self, app: bytes | None, is_builder: bool) -> None:
        self._app = app
        self._is_builder = is_builder

    def __call__(self, plain: type) -> type:
        app_bytes, is_builder = self._app, self._is_builder

        class Ingress(plain):  # type: ignore[misc, valid-type]
            async def __init__(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[misc]
                make: Any = plain.__init__  # type: ignore[misc]
                made = make(self, *args, **kwargs)
                if made is not None:
                    await made
                if app_bytes is None:
                    app = self.__serve_build_asgi_app__()
                else:
                    app = cloudpickle.loads(app_bytes)
                    if is_builder:
                        app = app()
                if inspect.isawaitable(app):
                    app = await app
                setattr(self, APP_ATTRIBUTE, app)
                await run_lifespan(app)

        Ingress.__name__, Ingress.__qualname__ = plain.__name__, plain.__qualname__
        Ingress.__doc__ = plain.__doc__
        return Ingress


def ingress(app: Any = None) -> Callable[..., Any]:
    """Class decorator: HTTP requests go to this FastAPI (or other ASGI) application.

    app: the application, whose routes may be methods of the class; or a function that makes one in the replica; None: the
    class has a method ``__serve_build_asgi_app__``. ``serve.ingress(app)()`` makes a class around it. ValueError for what is
    no class, and for a class that has ``__call__``.
    """

    def decorate(cls: type | None = None) -> type:
        if cls is None:

            class ASGIIngressDeployment:
                """A deployment that is nothing but its application."""

                def __init__(self, *args: Any, **kwargs: Any) -> None:
                    self.args = args
                    self.kwargs = kwargs

            cls = ASGIIngressDeployment
        if not inspect.isclass(cls):
            raise ValueError("@serve.ingress must be used with a class.")
        if "__call__" in dir(cls) and inspect.isfunction(getattr(cls, "__call__", None)):  # noqa: B004
            raise ValueError("Classes passed to @serve.ingress may not have __call__ method.")
        if app is None and not hasattr(cls, "__serve_build_asgi_app__"):
            raise ValueError(
                "serve.ingress() called without an app argument requires "
                f"{cls.__name__} to define `__serve_build_asgi_app__`."
            )
        is_builder = inspect.isfunction(app)
        if not is_builder:
            give_self(app, cls)
        try:
            # As it is now: later changes of it do not reach this deployment.
            frozen = None if app is None else pickle_code(app)
        except Exception as error:
            raise TypeError(f"Failed to serialize the ASGI app: {type(error).__name__}: {error}") from error
        plain = cls

        class Marked(plain):  # type: ignore[misc, valid-type]
            pass

        Marked.__name__, Marked.__qualname__, Marked.__module__ = plain.__name__, plain.__qualname__, plain.__module__
        Marked.__doc__ = plain.__doc__
        setattr(Marked, INGRESS_MARK, IngressMark(plain, WithApplication(frozen, is_builder)))
        return Marked

    return decorate


async def current_instance() -> Any:
    """The dependency that takes the place of ``self``: the replica's object."""
    context = replica_context()
    if context is None:
        raise RuntimeError("A method of a deployment was called by its application outside of a replica.")
    return context.servable_object


def give_self(app: Any, cls: type) -> None:
    """Let routes that are methods of the class get ``self``. Here, where names in annotations can be found; FastAPI reads
    signatures when a route is made, so each is made anew. Nothing to do for applications that are not FastAPI's."""
    fastapi = sys.modules.get("fastapi")
    if fastapi is None or not isinstance(app, (fastapi.FastAPI, fastapi.APIRouter)):
        return
    for route in app.routes:
        endpoint = getattr(route, "endpoint", None)
        if not inspect.isfunction(endpoint) or not _is_method_of(endpoint, cls):
            continue
        signature = inspect.signature(endpoint)
        first, *others = signature.parameters.values()
        if first.default is inspect.Parameter.empty:
            first = first.replace(default=fastapi.Depends(current_instance))
            # What has no default may stand behind one that has by name only, which is how FastAPI calls.
            named = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in others]
            endpoint.__signature__ = signature.replace(parameters=[first, *named])  # type: ignore[attr-defined]
        _make_anew(route)


def _is_method_of(endpoint: Callable[..., Any], cls: type) -> bool:
    for each in cls.__mro__:
        found = each.__dict__.get(endpoint.__name__)
        if found is endpoint or (inspect.isfunction(found) and inspect.unwrap(found) is endpoint):
            return True
    return endpoint.__qualname__.rpartition(".")[0] == cls.__qualname__


def _make_anew(route: Any) -> None:
    kind = type(route)
    names = [name for name in inspect.signature(kind.__init__).parameters if name not in ("self", "endpoint", "path")]
    options = {name: getattr(route, name) for name in names if hasattr(route, name)}
    fresh = kind(route.path, route.endpoint, **options)
    route.__dict__.update(fresh.__dict__)


async def run_lifespan(app: Any) -> None:
    """Run the application's start-up. One that knows no lifespan is left alone."""
    router = getattr(app, "router", None)
    context = getattr(router, "lifespan_context", None)
    if context is None:
        return
    manager = context(app)
    state = await manager.__aenter__()
    if isinstance(state, dict):
        app.state._state.update(state)
    app._raybook_lifespan = manager
