"""What the autoscaler is told, and what it asks for. Facts come in past tense, wishes go out as verbs."""

from __future__ import annotations

import msgspec

from raybook.core.autoscaler.settings import Settings
from raybook.protocol.messages.scaling import ClusterLoad


class ProvidedNode(msgspec.Struct, frozen=True):
    """One machine, pod or process that a provider has, running or on its way. request: the one that asked for it, "" when
    the provider cannot tell (a pod of a replica set)."""

    instance_id: str
    node_type: str
    request: str = ""


class ClusterSeen(msgspec.Struct, frozen=True):
    """The GCS's view."""

    load: ClusterLoad


class InstancesSeen(msgspec.Struct, frozen=True):
    """The provider's view: everything that it has not ended."""

    instances: tuple[ProvidedNode, ...]


class ProviderFailed(msgspec.Struct, frozen=True):
    """It could not say what it has. text: for people."""

    text: str


class CreateAnswered(msgspec.Struct, frozen=True):
    """The provider took a request, or refused it whole (error)."""

    request: str
    error: str = ""


class LaunchFailed(msgspec.Struct, frozen=True):
    """The provider had taken a request, and ``count`` nodes of it will not come. request "": it cannot tell whose."""

    node_type: str
    count: int
    error: str
    request: str = ""


class TerminateAnswered(msgspec.Struct, frozen=True):
    """The provider was asked to take an instance down."""

    instance_id: str
    error: str = ""


class RetireAnswered(msgspec.Struct, frozen=True):
    """A node was asked to end if it is idle."""

    instance_id: str
    attempt: int
    accepted: bool
    reason: str = ""


class SettingsChanged(msgspec.Struct, frozen=True):
    """Other bounds from now on."""

    settings: Settings


class CreateNodes(msgspec.Struct, frozen=True):
    """Ask the provider; answer with CreateAnswered."""

    request: str
    node_type: str
    count: int


class TerminateNode(msgspec.Struct, frozen=True):
    """Ask the provider; answer with TerminateAnswered."""

    instance_id: str
    why: str


class RetireIfIdle(msgspec.Struct, frozen=True):
    """Ask the GCS; answer with RetireAnswered."""

    instance_id: str
    node_id: bytes
    attempt: int
    why: str


class Tell(msgspec.Struct, frozen=True):
    """Somebody should know: a decision, a failure. severity: INFO or WARNING."""

    severity: str
    text: str


INFO = "INFO"
WARNING = "WARNING"
