"""Code watch: what this notebook has sent to its workers, which of it is older than the notebook now, and what is large.

Told of every export by the runtime and of every cell by the session. Panels learn of old code by facts of kind "code";
cells by a line under them, once for each thing. A line is a hint: nothing here may cost anybody their task.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from raybook.api.captures import Capture, captures_of, plain, submitted_count
from raybook.api.facts import publish_fact
from raybook.api.own_tasks import UnfinishedTask, unfinished_tasks
from raybook.observe import bytes_text
from raybook_kernel.code_versions import CodeVersions, Parts

EXPORTS_KEPT = 512
ACTORS_KEPT = 10_000
LARGE_BYTES = 1 << 20
"""Smaller functions travel unnoticed."""
CAPTURES_TOLD = 3

Actors = Mapping[str, Mapping[str, Any]]
"""Actor id → its row, with its state."""


@dataclass
class Export:
    """A function or class as it was sent. ``captures``: what makes it large."""

    name: str
    parts: Parts
    target: weakref.ref[Any]
    captures: list[Capture] = field(default_factory=list)


class CodeWatch:
    """One notebook's. engine: what the process is connected to, None when it is not. cell: the running one's name."""

    def __init__(self, versions: CodeVersions, engine: Callable[[], Any], cell: Callable[[], str]) -> None:
        self._versions = versions
        self._engine_now = engine
        self._cell = cell
        self._lock = threading.RLock()
        self._engine: weakref.ref[Any] | None = None
        self._exports: dict[bytes, Export] = {}
        self._actors: dict[str, bytes] = {}
        self._large: dict[bytes, None] = {}
        """Exports whose captures are to be told."""
        self._told: set[tuple[str, ...]] = set()
        self._published: dict[str, dict[str, Any]] = {}
        self.trouble: Exception | None = None
        """The last thing that went wrong while looking at code; for whoever asks why a hint is missing."""

    # Told by the runtime, on any thread.

    def exported(self, target: Callable[..., Any], key: bytes, size: int) -> None:
        """As ``api.captures.CodeWatcher``."""
        try:
            with self._lock:
                self._follow()
                parts = self._versions.parts_of(target, self._cell())
                captures = captures_of(target, LARGE_BYTES) if size >= LARGE_BYTES else []
                name = getattr(target, "__qualname__", "").rpartition("<locals>.")[2]
                _bounded(self._exports, EXPORTS_KEPT)
                self._exports[key] = Export(name, parts, weakref.ref(target), captures)
                if captures:
                    self._large[key] = None
        except Exception as error:  # noqa: BLE001 - users' objects may raise anything when they are looked at.
            self.trouble = error

    def created(self, key: bytes, actor_id: bytes) -> None:
        """As ``api.captures.CodeWatcher``."""
        with self._lock:
            self._follow()
            _bounded(self._actors, ACTORS_KEPT)
            self._actors[actor_id.hex()] = key

    # Told by the session, on the main thread.

    def after_cell(
        self, namespace: Mapping[str, Any], cell: str, ask: Callable[[], Actors], actors: Actors
    ) -> list[str]:
        """A cell has ended: lines to show under it. actors: what facts say of each, by id, which may be late; ask: asks
        the cluster, where that would make a line."""
        with self._lock:
            self._follow()
            lines = self._large_lines(namespace)
            self._versions.look(namespace, cell)
            if any(("actor", *row) not in self._told for row in self._stale_actors(actors)):
                actors = ask()
            lines += self._stale_lines(namespace, actors)
            self._publish(actors)
        return lines

    def report(self, namespace: Mapping[str, Any], actors: Actors) -> list[str]:
        """All that is older now than the notebook, a line each, however often it was told."""
        with self._lock:
            self._follow()
            self._versions.look(namespace, self._cell())
            self._publish(actors)
            stale = self._stale_actors(actors)
            return [
                *_counted(((name, text) for _, name, text in stale), "actor"),
                *_counted(self._stale_tasks(), "task"),
                *[line for _, line in self._kept_by_exports(namespace)],
            ]

    def code_of(self, actor_id: str) -> str:
        """ "v2 (In[7])", or what is older in this actor than in the notebook; "" for an actor of another process."""
        with self._lock:
            export = self._exports.get(self._actors.get(actor_id, b""))
            if export is None or not export.parts:
                return ""
            older = self._versions.older(export.parts)
            if older:
                return self._versions.told(older[0], export.parts)
            return f"v{self._versions.number(next(iter(export.parts)), export.parts)}"

    @property
    def has_exports(self) -> bool:
        """Whether anything was sent to this cluster yet."""
        with self._lock:
            self._follow()
            return bool(self._exports)

    # What is old.

    def _stale_actors(self, actors: Actors) -> list[tuple[str, str, str]]:
        """(actor id, name of what is older, text) of those that live, as far as facts say."""
        found = []
        for actor_id, key in self._actors.items():
            export = self._exports.get(key)
            if export is None or actors.get(actor_id, {}).get("state") == "DEAD":
                continue
            for name in self._versions.older(export.parts)[:1]:
                found.append((actor_id, name, self._versions.told(name, export.parts)))
        return found

    def _stale_tasks(self) -> list[tuple[str, str]]:
        """(name of what is older, text) of each task that waits or runs."""
        old = {key: older[0] for key, e in self._exports.items() if (older := self._versions.older(e.parts))}
        if not old:
            return []
        return [
            (
                old[task.function_key],
                self._versions.told(old[task.function_key], self._exports[task.function_key].parts),
            )
            for task in self._unfinished()
            if task.function_key in old
        ]

    def _kept_by_exports(self, namespace: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str]]:
        """(what, line) of functions of the notebook that will be sent again as they were, with an older part."""
        lines: list[tuple[tuple[str, ...], str]] = []
        for export in self._exports.values():
            target = export.target()
            if target is None or plain(namespace.get(export.name)) is not target:
                continue
            for name in self._versions.older(export.parts):
                lines.append(
                    (
                        ("kept", export.name, name),
                        f"`{export.name}` was sent with v{self._versions.number(name, export.parts)} of `{name}` and keeps "
                        f"it ({self._versions.newest_of(name)}): run the cell of `{export.name}` again to send the new one.",
                    )
                )
        return lines

    def _stale_lines(self, namespace: Mapping[str, Any], actors: Actors) -> list[str]:
        """What is old and was not told yet."""
        stale = [row for row in self._stale_actors(actors) if self._is_news(("actor", *row))]
        lines = _counted(((name, text) for _, name, text in stale), "actor")
        tasks = self._stale_tasks()
        lines += [line for line in _counted(tasks, "task") if self._is_news(("task", line.partition(" ")[2]))]
        lines += [line for what, line in self._kept_by_exports(namespace) if self._is_news(what)]
        return lines

    def _publish(self, actors: Actors) -> None:
        """Tell panels: what is old, and what is no longer."""
        wanted = {actor_id: {"actor_id": actor_id, "stale": text} for actor_id, _, text in self._stale_actors(actors)}
        for key in [key for key in self._published if key not in wanted]:
            publish_fact("code", key, None)
        for key, row in wanted.items():
            if self._published.get(key) != row:
                publish_fact("code", key, row)
        self._published = wanted

    # What is large.

    def _large_lines(self, namespace: Mapping[str, Any]) -> list[str]:
        large, self._large = self._large, {}
        lines = []
        for key in large:
            export = self._exports.get(key)
            if export is None or not self._is_news(("large", export.name, *(name for name, _ in export.captures))):
                continue
            lines.append(_capture_text(export, self._count(key), _own_name(namespace)))
        return lines

    def _count(self, key: bytes) -> int:
        return submitted_count(key) if self._engine_now() is not None else 0

    # The rest.

    def _unfinished(self) -> list[UnfinishedTask]:
        return unfinished_tasks() if self._engine_now() is not None else []

    def _is_news(self, what: tuple[str, ...]) -> bool:
        if what in self._told:
            return False
        self._told.add(what)
        return True

    def _follow(self) -> None:
        """What was sent to a cluster before this one is no longer anybody's."""
        engine = self._engine_now()
        known = self._engine() if self._engine is not None else None
        if engine is known:
            return
        self._engine = weakref.ref(engine) if engine is not None else None
        self._exports.clear()
        self._actors.clear()
        self._large.clear()
        self._published.clear()


def _counted(found: Iterable[tuple[str, str]], noun: str) -> list[str]:
    """ "2 actors still run v1 of `step` (In[7] has v2)." """
    counts: dict[str, int] = {}
    for _, text in found:
        counts[text] = counts.get(text, 0) + 1
    lines = []
    for text, count in counts.items():
        what, _, newest = text.removeprefix("runs ").partition(", ")
        lines.append(f"{count:,} {noun}{'' if count == 1 else 's'} still run{'s' * (count == 1)} {what} ({newest}).")
    return lines


def _capture_text(export: Export, count: int, ray: str) -> str:
    """What a function drags along, and how to put it once."""
    told = export.captures[:CAPTURES_TOLD]
    named = ", ".join(f"`{name}` ({bytes_text(size)})" for name, size in told)
    first = told[0].name
    used = f"; used by {count:,} task{'' if count == 1 else 's'} so far" if count else ""
    return (
        f"`{export.name}` captures {named}, which each worker that runs it gets with its code{used}. Put it once and pass "
        f"it as an argument:\n    {first}_ref = {ray}.put({first})    # then .remote({first}_ref, ...), with a parameter "
        f"`{first}` in `{export.name}`"
    )


def _own_name(namespace: Mapping[str, Any]) -> str:
    """What the notebook calls raybook."""
    for name in ("ray", "rb", "raybook"):
        if getattr(namespace.get(name), "__name__", "") == "raybook":
            return name
    return "raybook"


def _bounded(table: dict[Any, Any], count_max: int) -> None:
    """Room for one more: the oldest goes."""
    while len(table) >= count_max:
        del table[next(iter(table))]
