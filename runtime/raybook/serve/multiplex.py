"""Multiplexing: many models in few replicas: ``@serve.multiplexed`` keeps those that were used last.

The decorated function loads a model by id; its results are kept, at most max_num_models_per_replica of them, and the one
that was not used for the longest time goes when room is needed. The controller is told which models a replica has, so that
routers send requests where their model is.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from typing import Any

from raybook.api import get_actor
from raybook.serve.context import replica_context
from raybook.serve.core.names import CONTROLLER_NAME, NAMESPACE

_CACHES = "__raybook_serve_models__"


class ModelCache:
    """Of one loading function and instance."""

    def __init__(self, load: Callable[..., Any], instance: Any, limit: int) -> None:
        self._load = load
        self._instance = instance
        self._limit = limit
        self._models: OrderedDict[str, Any] = OrderedDict()
        self._loading: dict[str, asyncio.Future[Any]] = {}
        self._room = asyncio.Condition()

    @property
    def model_ids(self) -> list[str]:
        """Loaded, or about to be."""
        return [*self._models, *self._loading]

    async def get(self, model_id: str) -> Any:
        """The model; loaded once however many ask at once. Raises what loading raises."""
        if type(model_id) is not str:
            raise TypeError("The model ID must be a string.")
        if not model_id:
            raise ValueError("The model ID cannot be empty.")
        if model_id in self._models:
            self._models.move_to_end(model_id)
            return self._models[model_id]
        pending = self._loading.get(model_id)
        if pending is None:
            pending = self._loading[model_id] = asyncio.ensure_future(self._fetch(model_id))
            pending.add_done_callback(lambda future: self._loading.pop(model_id, None))
            tell_models(self)
        # One caller that gives up must not stop the loading that others wait for.
        return await asyncio.shield(pending)

    async def _fetch(self, model_id: str) -> Any:
        while 0 < self._limit <= len(self._models):
            await self._unload_oldest()
        first = () if self._instance is None else (self._instance,)
        model = await self._load(*first, model_id)
        self._models[model_id] = model
        while 0 < self._limit < len(self._models):
            await self._unload_oldest()
        tell_models(self)
        return model

    async def _unload_oldest(self) -> None:
        _, model = self._models.popitem(last=False)
        last_words = getattr(type(model), "__del__", None)
        if last_words is not None and inspect.iscoroutinefunction(last_words):
            await last_words(model)
            # Once is enough: the interpreter's own call of it finds an object of another class.
            try:
                model.__class__ = type("Unloaded", (), {})
            except TypeError:
                pass


def tell_models(cache: ModelCache) -> None:
    """Tell the controller, if this is a replica."""
    context = replica_context()
    if context is not None:
        controller = get_actor(CONTROLLER_NAME, NAMESPACE)
        controller.note_models.remote(context.replica_id.to_full_id_str(), cache.model_ids)


def multiplexed(func: Callable[..., Any] | None = None, max_num_models_per_replica: int = 3) -> Any:
    """Decorator of an ``async def`` function or method that loads a model by its id (a string): results are kept, and
    requests with a model id go to replicas that have it. max_num_models_per_replica: -1 for any number.
    TypeError, ValueError."""
    if func is not None:
        _check_function(func)
    if not isinstance(max_num_models_per_replica, int):
        raise TypeError("max_num_models_per_replica must be an integer.")
    if max_num_models_per_replica != -1 and max_num_models_per_replica <= 0:
        raise ValueError("max_num_models_per_replica must be positive.")

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        _check_function(function)
        is_method = len(inspect.signature(function).parameters) == 2
        alone: dict[str, ModelCache] = {}

        @wraps(function)
        async def wrapper(*args: Any) -> Any:
            words = "Functions decorated with `@serve.multiplexed` must take exactly one model ID (str), but got "
            if len(args) < (2 if is_method else 1):
                raise TypeError(f"{words}no arguments are provided.")
            if len(args) > (2 if is_method else 1):
                raise TypeError(f"{words}more than one arguments.")
            instance = args[0] if is_method else None
            kept = instance.__dict__.setdefault(_CACHES, {}) if instance is not None else alone
            cache = kept.get(function.__name__)
            if cache is None:
                cache = kept[function.__name__] = ModelCache(function, instance, max_num_models_per_replica)
            return await cache.get(args[-1])

        return wrapper

    return decorate(func) if func is not None else decorate


def _check_function(function: Any) -> None:
    if not callable(function):
        raise TypeError("The `multiplexed` decorator must be used with a function or method.")
    if not inspect.iscoroutinefunction(function):
        raise TypeError("@serve.multiplexed can only be used to decorate async functions or methods.")
    if not 1 <= len(inspect.signature(function).parameters) <= 2:
        raise TypeError(
            "@serve.multiplexed can only be used to decorate functions or methods with at least one "
            "'model_id: str' argument."
        )
