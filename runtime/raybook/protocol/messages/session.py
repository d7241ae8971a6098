"""Thin client ⇄ session process: the records that user threads of a driver hand to an owner, over a network.

A conversation begins with the token's handshake and ``Knock``; ``Welcome`` or ``TurnedAway`` answers. From then on both
sides send ``Batch`` only: numbered bodies, each one an encoded ``Order`` (client → session) or ``Answer`` (session →
client). A body is delivered once and in order, however often the connection breaks (``core/session/stream``).
"""

from __future__ import annotations

from typing import Any

import msgspec

from raybook.base.config import Config
from raybook.base.facts import Fact
from raybook.base.specs import Endpoint, Location, RefInfo, SchedulingClass, Value
from raybook.protocol.messages.output import WorkerLine
from raybook.protocol.messages.worker import TaskSpec

# --- the conversation -------------------------------------------------------------------------------------------------


class Knock(msgspec.Struct, tag=1, array_like=True):
    """client → head, first message of every connection.

    process_id: random, one for each client process. session_id: the session to go on with, b"" the first time; then
    ``session_name`` says which one, "" for a new one that ends with the process. received: number of the last body
    that this process has received in it. who: for people, such as "ann@laptop, process 7".
    """

    process_id: bytes
    session_id: bytes
    session_name: str
    received: int
    protocol_version: int
    python_version: str
    raybook_version: str
    namespace: str = ""
    kernel_id: str = ""
    entrypoint: str = ""
    import_paths: tuple[str, ...] = ()
    logging: str = ""
    wants_output: bool = False
    who: str = ""


class Welcome(msgspec.Struct, tag=2, array_like=True):
    """session → client: go on. me: the owner on whose behalf the client makes ids; they begin at ``first_number``.
    received: number of the last body that the session has received from this process. is_new: the session began with
    this knock. idle_limit_s: how long it lives on without a client."""

    session_id: bytes
    session_name: str
    received: int
    me: Endpoint
    job_id: bytes
    namespace: str
    session_dir: str
    gcs_address: str
    config: Config
    first_number: int
    is_new: bool
    idle_limit_s: float
    node_ip: str = "127.0.0.1"

    @property
    def node_id(self) -> bytes:
        """Of the head."""
        return self.me.node_id


class TurnedAway(msgspec.Struct, tag=3, array_like=True):
    """head or session → client: no. ``code`` is one of those below; the connection closes after it."""

    code: str
    text: str


UNKNOWN_SESSION = "unknown session"
SESSION_ENDED = "session ended"
TAKEN_OVER = "taken over"
WRONG_VERSION = "wrong version"
NO_SESSION = "no session"
"""It could not be started."""


class Batch(msgspec.Struct, tag=4, array_like=True):
    """Either way: bodies number ``first``, ``first`` + 1, …; the sender has received up to ``ack``. Without bodies it
    says only that, and that the sender lives."""

    first: int
    ack: int
    bodies: list[bytes]


class Goodbye(msgspec.Struct, tag=5, array_like=True):
    """client → session: this process leaves. ends: and the session with it, once what came before is done."""

    ends: bool


Conversation = Knock | Welcome | TurnedAway | Batch | Goodbye

# --- orders: client → session -----------------------------------------------------------------------------------------


class Function(msgspec.Struct, tag=1, array_like=True, gc=False):
    """A remote function, before its first use by this process."""

    key: bytes
    name: str
    short_name: str
    payload: bytes


class Submit(msgspec.Struct, tag=2, array_like=True, gc=False):
    """A task; its returns are counted once each for this process."""

    spec: TaskSpec
    scheduling_class: SchedulingClass
    retries: int
    held: list[RefInfo] | None
    submitted_s: float
    call_site: str = ""


class Call(msgspec.Struct, tag=3, array_like=True, gc=False):
    """A call of an actor's method; counted as a task is."""

    spec: TaskSpec
    actor_id: bytes
    retries: int
    held: list[RefInfo] | None
    submitted_s: float
    call_site: str = ""
    may_overtake: bool = False


class Hold(msgspec.Struct, tag=4, array_like=True, gc=False):
    """A reference came to life in the client."""

    ref: RefInfo


class Release(msgspec.Struct, tag=5, array_like=True, gc=False):
    """One count of each of these ids is given back: objects, streams, actors."""

    ids: list[bytes]


class Store(msgspec.Struct, tag=6, array_like=True, gc=False):
    """A value is put under an id of the session's. One that was uploaded has a location without a node, whose
    ``offset`` is the transfer's number."""

    object_id: bytes
    value: Value


class Resolve(msgspec.Struct, tag=7, array_like=True, gc=False):
    """An id that was handed out before there was a value has one now."""

    object_id: bytes
    value: Value


class Take(msgspec.Struct, tag=8, array_like=True, gc=False):
    """An item of a stream was handed to the user."""

    task_id: bytes
    index: int


class NoteActor(msgspec.Struct, tag=9, array_like=True):
    """An actor of this client was requested from the GCS."""

    actor_id: bytes
    held: list[RefInfo]
    detached: bool


class MeetActor(msgspec.Struct, tag=10, array_like=True):
    """A handle of an actor came to life in the client."""

    actor_id: bytes
    owner_address: str


class WillKill(msgspec.Struct, tag=11, array_like=True):
    actor_id: bytes


class CancelTask(msgspec.Struct, tag=12, array_like=True):
    task_id: bytes
    force: bool
    recursive: bool


class Look(msgspec.Struct, tag=13, array_like=True, gc=False):
    """Tell me of each of these objects when it is ready: ``Arrived``, once for each."""

    ids: list[bytes]


class SeenError(msgspec.Struct, tag=14, array_like=True):
    """The user was told that this object failed."""

    object_id: bytes


class CallGcs(msgspec.Struct, tag=15, array_like=True, gc=False):
    """A call of the GCS. number 0: nobody waits for the answer."""

    number: int
    method: str
    request: bytes


class Publish(msgspec.Struct, tag=16, array_like=True):
    facts: list[Fact]


class Follow(msgspec.Struct, tag=17, array_like=True):
    """Send me changes of the event table, or no more of them."""

    active: bool


class Ask(msgspec.Struct, tag=18, array_like=True):
    """A question to the session itself; ``Told`` answers. ``what`` is one of those below."""

    number: int
    what: str
    body: bytes = b""


SYNC = "sync"
"""Nothing: the answer comes behind those of everything that was ready before the question."""
FLUSH_OUTPUT = "flush output"
MEMORY = "memory"
EXPLAIN = "explain"
LIST_KEPT = "list"
TAKE_KEPT = "take"
NAME_KEPT = "name"
FORGET_KEPT = "forget"
LIST_LOGS = "list logs"
READ_LOG = "read log"
UNFINISHED = "unfinished"


class Upload(msgspec.Struct, tag=19, array_like=True):
    """A large value follows in parts. ``Uploaded`` says that it is stored, or why not."""

    transfer: int
    size: int
    contained: list[RefInfo] | None = None


class Part(msgspec.Struct, tag=20, array_like=True, gc=False):
    """Either way: the next bytes of a transfer."""

    transfer: int
    data: bytes


class DropUpload(msgspec.Struct, tag=21, array_like=True):
    """It will not become an object; its room is free."""

    transfer: int


class Download(msgspec.Struct, tag=22, array_like=True):
    """Send me the bytes of this object: ``Sending``, then its parts."""

    transfer: int
    ref: RefInfo


class Credit(msgspec.Struct, tag=23, array_like=True, gc=False):
    """Either way: so many more bytes of this transfer may come."""

    transfer: int
    count: int


class DropDownload(msgspec.Struct, tag=24, array_like=True):
    """Nobody waits for it any more."""

    transfer: int


class KeepHandle(msgspec.Struct, tag=25, array_like=True):
    """What another process of this client needs to make a handle of the actor."""

    actor_id: bytes
    handle: bytes
    class_name: str


Order = (
    Function
    | Submit
    | Call
    | Hold
    | Release
    | Store
    | Resolve
    | Take
    | NoteActor
    | MeetActor
    | WillKill
    | CancelTask
    | Look
    | SeenError
    | CallGcs
    | Publish
    | Follow
    | Ask
    | Upload
    | Part
    | DropUpload
    | Download
    | Credit
    | DropDownload
    | KeepHandle
)

# --- answers: session → client ----------------------------------------------------------------------------------------


class Arrived(msgspec.Struct, tag=40, array_like=True, gc=False):
    """An object is ready. A large value has a location without a node, and its size; ``Download`` brings its bytes."""

    object_id: bytes
    value: Value


class GcsAnswered(msgspec.Struct, tag=41, array_like=True, gc=False):
    number: int
    reply: bytes
    error_code: str = ""
    error_text: str = ""


class Told(msgspec.Struct, tag=42, array_like=True):
    """The answer to ``Ask``. error_code: an exception's name, when there is none."""

    number: int
    body: bytes
    error_code: str = ""
    error_text: str = ""


class FactsChanged(msgspec.Struct, tag=43, array_like=True):
    """As ``messages.raylet.FactsDelta``."""

    since: int
    version: int
    facts: list[Fact]
    reset: bool = False


class Printed(msgspec.Struct, tag=44, array_like=True):
    lines: list[WorkerLine]


class Logged(msgspec.Struct, tag=45, array_like=True):
    """Something people should read."""

    text: str


class Uploaded(msgspec.Struct, tag=46, array_like=True):
    transfer: int
    error_code: str = ""
    error_text: str = ""


class Sending(msgspec.Struct, tag=47, array_like=True):
    """The parts of a download follow, ``size`` bytes together; or, with an error, none. error: the value's bytes could
    not be read; the object is then looked at again."""

    transfer: int
    size: int
    error_code: str = ""
    error_text: str = ""


class ClusterLost(msgspec.Struct, tag=48, array_like=True):
    """The session cannot go on; why."""

    reason: str


Answer = (
    Arrived | GcsAnswered | Told | FactsChanged | Printed | Logged | Uploaded | Sending | ClusterLost | Part | Credit
)

# --- what a session keeps, as rows ------------------------------------------------------------------------------------


class KeptThing(msgspec.Struct, array_like=True):
    """What a former process of this session referred to. kind: "object", "stream" or "actor". state and size_bytes: of
    an object. name: what it was kept as. what: its task, or the actor's class. handle: of an actor."""

    key: bytes
    kind: str
    name: str = ""
    what: str = ""
    state: str = ""
    size_bytes: int = 0
    call_site: str = ""
    submitted_s: float = 0.0
    handle: bytes = b""
    next_index: int = 1
    """Of a stream: its next item."""
    owner_address: str = ""


def placed(transfer: int, size: int) -> Location:
    """Where an uploaded value lies, or one that can be downloaded: nowhere that the client knows."""
    return Location(b"", transfer, size)


def _as_plain(value: Any) -> bytes:
    """Public ids are bytes with a name."""
    if isinstance(value, bytes):
        return bytes(value)
    raise TypeError(f"A {type(value).__name__} is nothing that a session is told.")


_encode = msgspec.msgpack.Encoder(enc_hook=_as_plain).encode
decode_order: Any = msgspec.msgpack.Decoder(Order).decode
decode_answer: Any = msgspec.msgpack.Decoder(Answer).decode
encode_body: Any = _encode
