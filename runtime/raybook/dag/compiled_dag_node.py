"""CompiledDAG: a graph whose actors stand ready, each with a loop of its own, and hand values on through shared memory.

An execution writes the input, and nothing else: no task, no message to a raylet, no socket. What is decided about who
does what is decided in `compile_plan`, once; what has been read is kept in `results`. Not for several processes: a graph
belongs to who compiled it. Threads take turns.

Invariants: executions in flight ≤ `_max_inflight_executions` = slots of each channel, so no write ever waits for long; an
execution that was written at all is written to every channel, so channels never fall out of step.
"""

from __future__ import annotations

import threading
import time
import uuid
import weakref
from collections import deque
from typing import Any

from raybook.api import ActorHandle, get, kill
from raybook.api.context import current_engine
from raybook.base.errors import RayCgraphCapacityExceeded, RayChannelError, RayChannelTimeoutError, RayError
from raybook.dag.async_wait import RingWaiters
from raybook.dag.compile_plan import GraphPlan, make_plan
from raybook.dag.context import DAGContext
from raybook.dag.graph_link import GraphLink
from raybook.dag.messages import Failure, failure_of, load
from raybook.dag.node import DAGNode
from raybook.dag.picture import draw
from raybook.dag.references import CompiledDAGFuture, CompiledDAGRef
from raybook.dag.results import Results
from raybook.dag.ring import ERROR, VALUE, RingReader, RingWriter
from raybook.dag.transport import move
from raybook.protocol.serialization import Serialized, serialize

LAST_WORD_S = 10.0
"""How long a lost actor is asked for the reason of its death."""


def compile_graph(
    last: DAGNode,
    submit_timeout: float | None = None,
    buffer_size_bytes: int | None = None,
    enable_asyncio: bool = False,
    max_inflight_executions: int | None = None,
    max_buffered_results: int | None = None,
    overlap_gpu_communication: bool | None = None,
    default_communicator: Any = "create",
) -> CompiledDAG:
    """See ``DAGNode.experimental_compile``. Blocks until every actor has joined. Cost: a few milliseconds."""
    if last._is_compiled:
        raise ValueError(
            "It is not allowed to call `experimental_compile` on the same DAG object multiple times no matter whether "
            "`teardown` is called or not. Please reuse the existing compiled DAG or create a new one."
        )
    context = DAGContext.get_current()
    in_flight = _positive("_max_inflight_executions", max_inflight_executions, context.max_inflight_executions)
    buffered = _positive("_max_buffered_results", max_buffered_results, context.max_buffered_results)
    _positive("_buffer_size_bytes", buffer_size_bytes, context.buffer_size_bytes)
    if default_communicator not in ("create", None):
        raise ValueError(
            f"_default_communicator={default_communicator!r}: communicators of your own are not supported; tensors go "
            "through shared memory."
        )
    plan = make_plan(last, in_flight)
    last._is_compiled = True
    timeout = context.submit_timeout if submit_timeout is None else submit_timeout
    return CompiledDAG(plan, timeout, bool(enable_asyncio), in_flight, buffered)


def _positive(name: str, value: Any, default: int) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ValueError(f"{name} must be a positive whole number, got {value!r}.")
    return value


class CompiledDAG:
    """Made by ``experimental_compile``. Its actors go on taking plain calls meanwhile."""

    def __init__(
        self, plan: GraphPlan, submit_timeout_s: float, is_async: bool, in_flight_max: int, buffered_max: int
    ) -> None:
        self._id = uuid.uuid4().hex
        self._plan = plan
        self._submit_timeout_s = submit_timeout_s
        self._is_async = is_async
        self._in_flight_max = in_flight_max
        self._context = current_engine().serialization
        self._dropped: deque[tuple[int, int]] = deque()
        """(execution, position) of references that nobody holds any more."""
        self._held: dict[tuple[int, int], weakref.ref[Any]] = {}
        """The references themselves: an interrupt may come where one of them ends, and then it tells nobody. Without
        callbacks, which would cost as much as the rest of the call."""
        self._turn = threading.RLock()
        self._is_torn = False
        """Whether a call ended in the middle; see ``_mend``."""
        self._given = 0
        """Executions whose references somebody got."""
        self._reason: Exception | None = None
        """Why the graph ended by itself."""
        self._link = link = GraphLink.connect(plan)
        self._waiters = RingWaiters(link)
        self._writers = [RingWriter(link.memory, each.channel, link.bell, link.doorbells) for each in plan.inputs]
        channels = list(dict.fromkeys(plan.outputs))
        self._readers = [RingReader(link.memory, channel, 0, link.bell, link.doorbells) for channel in channels]
        self._quick_look = self._readers[0].is_there if len(channels) == 1 else None
        self._devices = [plan.output_devices[channel] for channel in channels]
        self._results = Results([channels.index(channel) for channel in plan.outputs], buffered_max)

    def get_id(self) -> str:
        """The graph's id, 32 hexadecimal digits."""
        return self._id

    @property
    def is_teardown(self) -> bool:
        """Whether the graph has ended."""
        return self._link.has_ended

    # Putting in

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Start one execution: a CompiledDAGRef, or a list of them for a MultiOutputNode. Arguments as the InputNode was
        indexed. Cost: 5 µs for a small input.

        ValueError for other arguments, TypeError for what cannot be pickled; RayCgraphCapacityExceeded when
        ``_max_inflight_executions`` results were not read; RayChannelTimeoutError; RayChannelError after ``teardown``;
        ActorDiedError when an actor of the graph has died.
        """
        if self._is_async:
            raise ValueError("Use execute_async if enable_asyncio=True")
        return self._start(CompiledDAGRef, args, kwargs)

    async def execute_async(self, *args: Any, **kwargs: Any) -> Any:
        """As ``execute``, for graphs compiled with ``enable_asyncio``: a CompiledDAGFuture, or a list of them."""
        if not self._is_async:
            raise ValueError("Use execute if enable_asyncio=False")
        return self._start(CompiledDAGFuture, args, kwargs)

    def _start(self, kind: type, args: tuple, kwargs: dict[str, Any]) -> Any:
        with self._turn:
            if self._is_torn:
                self._mend()
            try:
                execution = self._submit(args, kwargs)
                positions = range(len(self._plan.outputs)) if self._plan.returns_list else (None,)
                refs = [kind(self, execution, position) for position in positions]
                for position, ref in enumerate(refs):
                    self._held[execution, position] = weakref.ref(ref)
                self._given = execution + 1
            except BaseException:
                self._is_torn = True
                raise
            return refs if self._plan.returns_list else refs[0]

    def _submit(self, args: tuple, kwargs: dict[str, Any]) -> int:
        plan = self._plan
        if len(args) != plan.positional or plan.keywords:
            self._check_inputs(args, kwargs)
        self._check_alive()
        self._forget_dropped()
        results = self._results
        if results.in_flight >= self._in_flight_max:
            self._make_room()
        messages: list[Serialized] = []
        for each in plan.inputs:
            key = each.key
            value = args[0] if key is None else args[key] if isinstance(key, int) else kwargs[key]
            messages.append(serialize(value, self._context, "input of a compiled graph"))
        for writer in self._writers:
            if not writer.has_room() and not self._link.bell.wait(writer.has_room, self._submit_timeout_s):
                raise RayChannelTimeoutError(
                    f"The compiled graph did not take a new input in {self._submit_timeout_s} s: its actors are busy with "
                    "earlier ones. If they are expected to take long, raise RAY_CGRAPH_submit_timeout; otherwise, one may "
                    "hang."
                )
        execution = results.submit()
        for writer, message in zip(self._writers, messages, strict=True):
            writer.write(message, VALUE)
        return execution

    def _mend(self) -> None:
        """After an interrupt, or an input that could not be written whole, anything may be half done. The counters of
        channels say what is: executions that were given to nobody are completed by errors, and dropped; what was read and
        not kept is an error of its execution."""
        results = self._results
        lost = failure_of(RayChannelError("The call was interrupted."), "get", self._context, b"", "")
        for writer in self._writers:
            writer.publish()
        for execution in range(self._given, results.submitted):
            for writer in self._writers:
                if writer.written == execution:
                    writer.write(lost.message(), ERROR)
            for position in range(len(self._plan.outputs)):
                results.drop(execution, position)
        self._given = results.submitted
        for channel, reader in enumerate(self._readers):
            reader.publish()
            while results.next[channel] < reader.read:
                results.lose(channel, lost)
        self._keep_held()
        self._is_torn = False

    def _keep_held(self) -> None:
        """Look who is held instead of relying on having been told."""
        self._held = held = {key: ref for key, ref in self._held.items() if ref() is not None}
        self._results.keep_only(lambda execution, position: (execution, position) in held)

    def _check_inputs(self, args: tuple, kwargs: dict[str, Any]) -> None:
        expected = self._plan.positional
        if len(args) != expected:
            raise ValueError(
                f"dag.execute() or dag.execute_async() must be called with {expected} positional args, got {len(args)}"
            )
        for name in self._plan.keywords:
            if name not in kwargs:
                raise ValueError(f"dag.execute() or dag.execute_async() must be called with kwarg `{name}`")

    def _make_room(self) -> None:
        """Read what nobody waits for any more; RayCgraphCapacityExceeded when that is not enough."""
        results = self._results
        self._read_unwanted()
        if results.in_flight >= self._in_flight_max:
            self._keep_held()
            self._read_unwanted()
        if results.in_flight >= self._in_flight_max:
            raise RayCgraphCapacityExceeded(
                f"The compiled graph can't have more than {self._in_flight_max} in-flight executions, and you currently "
                f"have {results.in_flight} in-flight executions. Retrieve an output using ray.get before submitting more "
                "requests or increase `_max_inflight_executions`. "
                "`dag.experimental_compile(_max_inflight_executions=...)`"
            )

    def _read_unwanted(self) -> None:
        results = self._results
        while results.in_flight >= self._in_flight_max and not self._is_async and results.may_finish_head():
            self._fetch(results.finished, None, whole=True)
        self._take_ready(results.submitted - 1, only_unwanted=True)

    def _forget_dropped(self) -> None:
        while self._dropped:
            key = self._dropped.popleft()
            self._results.drop(*key)
            self._held.pop(key, None)

    # Getting out

    def _get(self, execution: int, position: int, timeout: float | None) -> Any:
        with self._turn:
            if self._is_torn:
                self._mend()
            try:
                self._forget_dropped()
                self._fetch(execution, timeout)
                value = self._results.take(execution, position)
                self._held.pop((execution, position), None)
            except BaseException:
                self._is_torn = True
                self._dropped.append((execution, position))
                raise
        if type(value) is Failure:
            raise value.exception()
        return value

    async def _get_async(self, execution: int, position: int) -> Any:
        results = self._results
        self._forget_dropped()
        results.asked = max(results.asked, execution)
        try:
            while True:
                with self._turn:
                    if self._is_torn:
                        self._mend()
                    self._take_ready(execution)
                    if results.is_settled(execution):
                        break
                    self._check_alive()
                await self._waiters.next_ring(self._is_anything_there)
        except BaseException:
            self._is_torn = True
            results.drop(execution, position)
            raise
        value = results.take(execution, position)
        self._held.pop((execution, position), None)
        if type(value) is Failure:
            raise value.exception()
        return value

    def _fetch(self, execution: int, timeout: float | None, whole: bool = False) -> None:
        """Read results up to this execution. whole: also those that come after an error among them."""
        results = self._results
        results.asked = max(results.asked, execution)
        timeout_s = DAGContext.get_current().get_timeout if timeout is None else timeout
        deadline: float | None = None
        while True:
            self._take_ready(execution)
            if results.finished > execution or (not whole and results.failure(execution) is not None):
                return
            if timeout_s > 0:
                now = time.monotonic()
                deadline = deadline or now + timeout_s
                left_s = max(deadline - now, 0)
            else:
                left_s = timeout_s
            self._check_alive()
            if not self._link.bell.wait(self._is_anything_there, left_s, self._quick_look):
                raise RayChannelTimeoutError(
                    f"No result of execution {execution} of the compiled graph within {timeout_s} s; it goes on. If the "
                    "execution is expected to take a long time, pass a longer timeout or raise RAY_CGRAPH_get_timeout. "
                    "Otherwise, this may indicate that the execution is hanging."
                )

    def _take_ready(self, execution: int, only_unwanted: bool = False) -> None:
        """Read everything that has come of executions up to this one."""
        results = self._results
        for channel, reader in enumerate(self._readers if self._link.doorbells else ()):
            while results.next[channel] <= execution and reader.is_there():
                if not results.is_wanted(channel):
                    reader.skip()
                    results.pass_over(channel)
                elif only_unwanted:
                    break
                else:
                    results.put(channel, self._take(channel, reader))

    def _take(self, channel: int, reader: RingReader) -> Any:
        try:
            value = reader.take(load)
            device = self._devices[channel]
            return move(value, device) if device and type(value) is not Failure else value
        except Exception as error:  # noqa: BLE001 - unpickling runs user code; this result is then that error.
            return failure_of(error, "get", self._context, b"", "")

    def _is_anything_there(self) -> bool:
        """Whether a wait is over: a value, or the end."""
        submitted = self._results.submitted
        for channel, reader in enumerate(self._readers):
            if reader.is_there() and self._results.next[channel] < submitted:
                return True
        return self._link.lost is not None or self._link.memory.has_ended

    # The end

    def _check_alive(self) -> None:
        """Raise what ended the graph, if something has."""
        if self._link.lost is not None and self._reason is None:
            self._reason = self._why_lost(self._link.lost)
            self._link.tell_end()
        if self._reason is not None:
            raise self._reason
        if self._link.has_ended:
            raise RayChannelError(
                "Channel closed: the compiled graph was torn down. Results that were not read went with it; compile the "
                "graph again from new nodes."
            )

    def _why_lost(self, actor: ActorHandle) -> Exception:
        try:
            get(actor.__ray_ready__.remote(), timeout=LAST_WORD_S)
        except RayError as error:
            return error
        return RayChannelError(
            f"{actor!r} left the compiled graph: its process died, and the actor was started again elsewhere. The graph has "
            "ended; compile it again from new nodes."
        )

    def teardown(self, kill_actors: bool = False) -> None:
        """End the graph: actors leave it and go on as plain actors, or end with ``kill_actors``; the memory goes back.
        Waits up to ``DAGContext.teardown_timeout`` for methods that run. Idempotent."""
        with self._turn:
            if self._link.doorbells:
                self._waiters.close()
                if not kill_actors:
                    self._link.end(DAGContext.get_current().teardown_timeout)
                self._link.let_go()
            if kill_actors:
                for actor in self._plan.actors:
                    kill(actor)

    def __del__(self) -> None:
        link = getattr(self, "_link", None)
        if link is not None:
            link.let_go()

    def visualize(
        self, filename: str = "compiled_graph", format: str = "png", view: bool = False, channel_details: bool = False
    ) -> str:
        """The graph as text. format "ascii": nodes, edges and a picture of letters, printed with ``view``. Any other format
        is drawn by Graphviz into ``filename``, and its source returned; ImportError when the library is missing."""
        return draw(self._plan, filename, format, view, channel_details)

    def __str__(self) -> str:
        return f"CompiledDAG({self._id})"

    __repr__ = __str__


DAGNode._compile = staticmethod(compile_graph)
