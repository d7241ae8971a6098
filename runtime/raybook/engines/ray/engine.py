"""RayEngine: the Engine protocol over a real Ray cluster. One object a process; Ray's own worker below it has the owner.

Who counts, schedules, retries and moves objects is Ray; here names are changed. Invariants: every reference made here
holds Ray's (``links``), so nothing is counted twice; errors leave as raybook's, with Ray's as their cause.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary

import msgspec
import ray
import ray.exceptions
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from raybook.base.errors import ActorAlreadyExistsError, ObjectLostError, RaySystemError, StaleReferenceError
from raybook.base.facts import Fact
from raybook.base.ids import IdFactory, is_stream, random_id, return_id, task_of
from raybook.base.resources import to_user
from raybook.base.specs import STREAMING, PlacementGroupSpec
from raybook.engines.engine import ActorHandleState, ActorOptions, CallOptions, Function, TaskOptions
from raybook.engines.own_tasks import NothingUnfinished
from raybook.engines.ray import questions
from raybook.engines.ray.board import Board
from raybook.engines.ray.errors import translated
from raybook.engines.ray.hosting import hosted_class, hosted_function
from raybook.engines.ray.links import Link, held_by
from raybook.engines.ray.options import environment, of_actor, of_call, of_task
from raybook.engines.ray.sampler import Sampler
from raybook.engines.ray.streams import Stream
from raybook.protocol.serialization import SerializationContext

CHECKED_VERSION = "2.60"
FUNCTIONS_MAX = 1024


class RayEngine:
    """See ``engines.engine.Engine`` for the contract. Ray has to be connected. owns: ``shutdown`` ends the connection, and
    a Ray that was started by it."""

    session = None
    gcs_address = ""
    session_dir = ""

    def __init__(self, owns: bool = False) -> None:
        context = ray.get_runtime_context()
        self.client_id = random_id()
        self.node_id = bytes.fromhex(context.get_node_id())
        self.job_id = bytes.fromhex(context.get_job_id())
        self.namespace = context.namespace
        self.address = self.gcs_address = context.gcs_address
        self.environment = ""
        self.own_tasks = NothingUnfinished()
        self.make_ref: Callable[[bytes, str, Callable[[bytes], None]], Any] = _no_factory
        self.serialization = SerializationContext({})
        self._released: deque[bytes] = deque()
        self.release = self._released.append
        self._ids = IdFactory(self.client_id)
        self._links: WeakValueDictionary[bytes, Link] = WeakValueDictionary()
        self._streams: dict[bytes, Stream] = {}
        self._board = Board()
        self._sampler = Sampler(self._board)
        self._owns = owns
        self.closed = False
        self._function = functools.lru_cache(FUNCTIONS_MAX)(hosted_function)
        self._class = functools.lru_cache(FUNCTIONS_MAX)(_remote_class)

    @classmethod
    def start(cls, address: str | None, environment_key: str, **amounts: Any) -> RayEngine:
        """Connect to the Ray there ("auto", HOST:PORT, ray://…), or start one on this machine (None). ConnectionError when
        none answers; ValueError for a Ray of another version. Blocks: ten seconds for one that is started."""
        if not ray.__version__.startswith(f"{CHECKED_VERSION}."):
            raise ValueError(
                f"engine='ray' speaks with Ray {CHECKED_VERSION}, and {ray.__version__} is installed. Nothing was started: "
                "pip install 'raybook[ray]'."
            )
        if ray.is_initialized():
            return cls(owns=False)
        given = {name: value for name, value in amounts.items() if value is not None}
        if address is None:
            # Without an address Ray looks for one in its variable; here "none" means a Ray of our own.
            given |= {"address": "local", "include_dashboard": False}
        else:
            given["address"] = address
        try:
            ray.init(**given, **environment(environment_key))
        except (ConnectionError, TimeoutError) as error:
            raise ConnectionError(f"No Ray answers at {address!r}: {error}. Nothing was started.") from error
        return cls(owns=True)

    # References

    def adopt_ref(self, object_id: bytes, owner_address: str) -> Any:
        link = owner_address if isinstance(owner_address, Link) else self._links.get(object_id)
        if link is None:
            raise ObjectLostError.of_text(
                f"Object {object_id.hex()} is not known here: with engine='ray' an id finds an object only in a process "
                "that holds a reference. Pass the reference."
            )
        return self._ref(object_id, link.held)

    def adopt_actor(self, actor: ActorHandleState) -> None:
        """Ray has counted its own handle, which came along."""

    def _ref(self, object_id: bytes, held: Any) -> Any:
        link = self._links.get(object_id)
        if link is None:
            link = self._links[object_id] = Link(held)
        return self.make_ref(object_id, link, self.release)

    def _held(self, ref: Any) -> Any:
        """Ray's reference; Ray's generator for what waits for a generator's next item."""
        if type(ref) is not self.make_ref and task_of(ref.id) in self._streams:
            return self._streams[task_of(ref.id)].source
        held = held_by(ref)
        if held is None:
            raise StaleReferenceError(f"{ref!r} is of another session, or of another engine.")
        return held

    def _check_open(self) -> None:
        if self.closed:
            raise StaleReferenceError("raybook was shut down; call raybook.init() to start again.")
        while self._released:
            key = self._released.popleft()
            if is_stream(key):
                self._streams.pop(task_of(key), None)

    def _ray_values(self, args: tuple, kwargs: dict) -> tuple[list[Any], dict[str, Any]]:
        """Arguments for Ray: references at the top become its own, which it resolves."""
        own = self.make_ref
        return (
            [self._held(arg) if type(arg) is own else arg for arg in args],
            {name: self._held(arg) if type(arg) is own else arg for name, arg in kwargs.items()},
        )

    def _returned(self, found: Any, num_returns: int) -> list[Any]:
        task_id = self._ids.task_id()
        if num_returns == STREAMING:
            self._streams[task_id] = Stream(found)
            return [self._ref(return_id(task_id, 0), found.completed())]
        refs = [] if num_returns == 0 or found is None else [found] if num_returns == 1 else found
        return [self._ref(return_id(task_id, index), held) for index, held in enumerate(refs)]

    # Tasks

    def submit_task(self, function: Function, args: tuple, kwargs: dict, options: TaskOptions) -> list[Any]:
        self._check_open()
        hosted = self._function(
            function.payload, function.key, options.name, options.num_returns == STREAMING, options.max_calls
        )
        positional, named = self._ray_values(args, kwargs)
        with _in_our_words():
            found = hosted.options(**of_task(options, _group)).remote(*positional, **named)
        return self._returned(found, options.num_returns)

    def peek_item(self, task_id: bytes, index: int) -> bool | None:
        stream = self._streams.get(task_id)
        return False if stream is None else stream.peek(index)

    def next_item(self, task_id: bytes, index: int, timeout_s: float | None) -> Any:
        self._check_open()
        stream = self._streams.get(task_id)
        item = None if stream is None else stream.take(index, timeout_s)
        return None if item is None else self._ref(return_id(task_id, index), item)

    # Actors

    def create_actor(self, function: Function, args: tuple, kwargs: dict, options: ActorOptions) -> ActorHandleState:
        self._check_open()
        namespace = self.namespace if options.namespace is None else options.namespace
        groups = tuple(sorted(options.concurrency_groups.items()))
        positional, named = self._ray_values(args, kwargs)
        remote_class = self._class(function.payload, groups)
        with _in_our_words():
            try:
                handle = remote_class.options(**of_actor(options, namespace, _group)).remote(*positional, **named)
            except ValueError as error:
                if options.name and "already" in str(error):
                    raise ActorAlreadyExistsError(str(error)) from error
                raise
        state = ActorHandleState(
            actor_id=handle._actor_id.binary(),
            owner_address=Link(handle),
            class_name=options.class_name,
            methods=options.methods,
            is_async=options.is_async,
            max_task_retries=options.max_task_retries,
            max_pending_calls=options.max_pending_calls,
            name=options.name,
            namespace=namespace,
            detached=options.detached,
            method_defaults=options.method_defaults,
            concurrency_groups=list(options.concurrency_groups),
        )
        if options.name:
            questions.remember_handle(state)
        return state

    def call_actor(
        self, actor: ActorHandleState, method: str, args: tuple, kwargs: dict, options: CallOptions
    ) -> list[Any]:
        self._check_open()
        positional, named = self._ray_values(args, kwargs)
        with _in_our_words():
            bound = getattr(_handle(actor), method).options(**of_call(options))
            found = bound.remote(*positional, **named)
        return self._returned(found, options.num_returns)

    def get_actor(self, name: str, namespace: str | None) -> ActorHandleState:
        self._check_open()
        handle = ray.get_actor(name, namespace=namespace or self.namespace)
        known = questions.remembered_handle(handle._actor_id.binary())
        if known is None:
            methods = {method: 1 for method in handle._ray_method_signatures}
            known = ActorHandleState(handle._actor_id.binary(), "", name, methods, name=name, namespace=namespace or "")
        return msgspec.structs.replace(known, owner_address=Link(handle), is_weak=True)

    def kill_actor(self, actor: ActorHandleState, no_restart: bool) -> None:
        self._check_open()
        ray.kill(_handle(actor), no_restart=no_restart)

    # Objects

    def put(self, value: Any) -> Any:
        self._check_open()
        with _in_our_words():
            return self._ref(self._ids.put_id(), ray.put(value))

    def get(self, refs: Sequence[Any], timeout_s: float | None) -> list[Any]:
        self._check_open()
        with _in_our_words():
            return list(ray.get([self._held(ref) for ref in refs], timeout=timeout_s))

    def wait(
        self, refs: Sequence[Any], num_returns: int, timeout_s: float | None, fetch_local: bool
    ) -> tuple[list[Any], list[Any]]:
        self._check_open()
        held = [self._held(ref) for ref in refs]
        with _in_our_words():
            found, _ = ray.wait(held, num_returns=num_returns, timeout=timeout_s, fetch_local=fetch_local)
        ready = set(found)
        split: tuple[list[Any], list[Any]] = ([], [])
        for ref, mine in zip(refs, held, strict=True):
            split[mine not in ready].append(ref)
        return split

    def when_ready(self, ref: Any, callback: Callable[[], None]) -> None:
        self._check_open()
        held = self._held(ref)
        if hasattr(held, "_on_completed"):
            held._on_completed(lambda _: callback())
            return

        def wait_for_item() -> None:
            ray.wait([held], num_returns=1)
            callback()

        threading.Thread(target=wait_for_item, daemon=True, name="raybook-ray-item").start()

    def cancel(self, ref: Any, force: bool, recursive: bool) -> None:
        self._check_open()
        stream = self._streams.get(task_of(ref.id))
        with _in_our_words():
            ray.cancel(self._held(ref) if stream is None else stream.source, force=force, recursive=recursive)

    # Placement groups

    def create_placement_group(self, spec: PlacementGroupSpec) -> bytes:
        self._check_open()
        selectors = [dict(bundle.selector) for bundle in spec.bundles]
        with _in_our_words():
            group = placement_group(
                [to_user(bundle.shape) for bundle in spec.bundles],
                strategy=spec.strategy,
                name=spec.name,
                lifetime="detached" if spec.detached else None,
                **({"bundle_label_selector": selectors} if any(selectors) else {}),
            )
        spec.group_id, spec.job_id, spec.namespace = group.id.binary(), self.job_id, self.namespace
        return bytes(spec.group_id)

    def wait_placement_group(self, group_id: bytes, timeout_s: float) -> bool:
        self._check_open()
        return bool(_group(group_id).wait(timeout_s))

    def placement_group_ready(self, group_id: bytes, value: Any) -> Any:
        self._check_open()
        passed_on = ray.remote(num_cpus=0)(_second).remote(_group(group_id).ready(), value)
        return self._ref(return_id(self._ids.task_id(), 0), passed_on)

    def remove_placement_group(self, group_id: bytes) -> None:
        self._check_open()
        remove_placement_group(_group(group_id))

    # The rest

    def gcs_call(self, method: str, request: Any) -> Any:
        self._check_open()
        return questions.answer(method, request, self)

    def publish_facts(self, facts: list[Fact]) -> None:
        self._board.publish(facts)

    def facts(self) -> list[Fact]:
        """What Ray says of its cluster, at most a second old, and what was published in this process."""
        self._sampler.look()
        return self._board.facts()

    def subscribe_facts(self, callback: Callable[[Any], None]) -> Callable[[], None]:
        leave = self._board.subscribe(callback)
        self._sampler.start()

        def unsubscribe() -> None:
            if leave():
                self._sampler.pause()

        return unsubscribe

    def flush_output(self, timeout_s: float) -> None:
        """Ray prints what its workers print."""

    def memory(self) -> list[dict]:
        return []

    def shutdown(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._sampler.close()
        self._streams.clear()
        if self._owns:
            ray.shutdown()


def _remote_class(payload: bytes, groups: tuple[tuple[str, int], ...]) -> Any:
    hosted = hosted_class(payload)
    return ray.remote(concurrency_groups=dict(groups))(hosted) if groups else ray.remote(hosted)


def _handle(actor: ActorHandleState) -> Any:
    link = actor.owner_address
    if not isinstance(link, Link):
        raise RaySystemError(f"The handle of {actor.class_name} is of another engine.")
    return link.held


def _group(group_id: bytes) -> PlacementGroup:
    return PlacementGroup(ray.PlacementGroupID(group_id))


def _second(first: Any, second: Any) -> Any:
    return second


@contextmanager
def _in_our_words() -> Iterator[None]:
    """Ray's errors leave as raybook's."""
    try:
        yield
    except ray.exceptions.RayError as error:
        raise translated(error) from error


def _no_factory(object_id: bytes, owner_address: str, release: Callable[[bytes], None]) -> Any:
    raise RuntimeError("The API has not introduced its class of references (raybook.api.connect).")
