"""Looking: ``%ray_tasks``, ``%ray_actors``, ``%ray_memory``, ``%ray_logs``, ``%ray_timeline``, ``%tune_watch``.

Each is the moment's answer, as a table that can be kept (``rows = %ray_tasks``); ``--watch`` shows the live panel.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from raybook.api.logs import worker_lines
from raybook.api.memory import memory
from raybook.api.state import list_actors
from raybook.api.survey import surveyed_tasks
from raybook.api.timeline import timeline_events
from raybook.observe import bytes_text, duration_text, forecast_text, runs_of, what_if
from raybook_kernel.magics.arguments import ArgumentMistake, Command, Option, Request, nearest
from raybook_kernel.magics.lines import register_line
from raybook_kernel.magics.values import positive_count, worker_count
from raybook_kernel.rows_table import RowsTable
from raybook_kernel.session import KernelSession, session_of

LIMIT = 50
TASK_STATES = ("PENDING_ARGS_AVAIL", "PENDING_NODE_ASSIGNMENT", "RUNNING", "FINISHED", "FAILED")
ACTOR_STATES = ("PENDING_CREATION", "ALIVE", "RESTARTING", "DEAD")

WATCH = Option("--watch", "", "show the live panel instead")
HOW_MANY = Option("--limit", "N", f"so many rows at most; default: {LIMIT}", positive_count)


def _state(text: str) -> str:
    return text.upper()


class Looking:
    """What the magics do; one per shell."""

    def __init__(self, session: KernelSession) -> None:
        self._session = session

    def tasks(self, request: Request) -> RowsTable | None:
        """``%ray_tasks``."""
        if request.values.get("watch"):
            self._session.show(("tasks",))
            return None
        state = _checked(request.values.get("state"), TASK_STATES)
        survey = surveyed_tasks()
        rows = [row for row in survey.rows if not state or row["state"] == state]
        rows = [row for row in rows if not request.words or request.words[0] in row["name"]]
        rows.sort(key=lambda row: (bool(row.get("ended_ms")), -(row.get("ended_ms") or 0)))
        told, note = _limited([_task_row(row) for row in rows], request, survey.left_out)
        if survey.silent:
            note += f" {len(survey.silent)} processes did not answer, because code in them holds the interpreter."
        columns = (
            ("name", "Task"), ("state", "State"), ("took", "Ran"), ("worker_pid", "Worker"), ("attempt", "Attempt"),
            ("cell", "From"), ("error", "Error"), ("task_id", "Id"),
        )  # fmt: skip
        return RowsTable("Tasks", columns, told, note.strip())

    def actors(self, request: Request) -> RowsTable | None:
        """``%ray_actors``."""
        if request.values.get("watch"):
            self._session.show(("actors",))
            return None
        state = _checked(request.values.get("state"), ACTOR_STATES)
        rows = [row for row in list_actors() if not state or row["state"] == state]
        rows = [row for row in rows if not request.words or request.words[0] in (row["name"] or row["class_name"])]
        rows.sort(key=lambda row: row["state"] == "DEAD")
        report = self._session.code_report()
        code = self._session.code.code_of
        told, note = _limited([{**_actor_row(row), "code": code(row["actor_id"])} for row in rows], request, 0)
        columns = (
            ("class_name", "Actor"), ("name", "Name"), ("state", "State"), ("pid", "Worker"),
            ("num_restarts", "Restarts"), ("code", "Code"), ("holds", "Holds"), ("why", "Why"), ("actor_id", "Id"),
        )  # fmt: skip
        note = " ".join([note, *(line for line in report if " actor" in line)]).strip()
        return RowsTable("Actors", columns, told, note)

    def memory(self, request: Request) -> RowsTable | None:
        """``%ray_memory``."""
        if request.values.get("watch"):
            self._session.show(("objects",))
            return None
        rows = list(memory())
        told, note = _limited([_object_row(row) for row in rows], request, 0)
        whole = sum({row["object_id"]: row["size_bytes"] for row in rows}.values())
        columns = (
            ("size", "Size"), ("held_by", "Held by"), ("reference_type", "How"), ("call_site", "Made at"),
            ("pid", "Process"), ("object_id", "Id"),
        )  # fmt: skip
        return RowsTable(f"Objects: {bytes_text(whole)}", columns, told, note)

    def logs(self, request: Request) -> None:
        """``%ray_logs``."""
        source = "err" if request.values.get("err") else "out"
        wanted = request.words[0] if request.words else ""
        lines = worker_lines(source, wanted, request.values.get("tail", LIMIT))
        print("\n".join(lines) if lines else f"Workers have written nothing to std{source} yet.")

    def timeline(self, request: Request) -> str | None:
        """``%ray_timeline``: the path that was written; none with ``--what-if``, which only tells."""
        if "what_if" in request.values:
            runs = runs_of(surveyed_tasks().rows)
            runs = [run for run in runs if not request.words or request.words[0] in run.name]
            print(forecast_text(what_if(runs, request.values["what_if"])))
            return None
        path = Path(request.words[0] if request.words else f"raybook-timeline-{time.strftime('%H%M%S')}.json")
        events = timeline_events(surveyed_tasks().rows, time.time() * 1_000)
        with path.open("w", encoding="utf-8") as file:
            json.dump(events, file)
        print(f"{len(events)} events are in {path.resolve()}; open it in https://ui.perfetto.dev or chrome://tracing.")
        return str(path.resolve())

    def watch_tune(self, request: Request) -> None:
        """``%tune_watch``."""
        if not self._session.is_connected:
            raise ArgumentMistake("This kernel is not connected to a cluster, so there is no sweep to watch.")
        if not self._session.view().experiments:
            raise ArgumentMistake("No sweep has run on this cluster yet. A sweep shows itself while it runs.")
        self._session.show(("tune",))


def _checked(state: str | None, known: tuple[str, ...]) -> str:
    """RUNNING; also what begins with it, so that `--state pending` is enough where it is clear."""
    if state is None:
        return ""
    found = [name for name in known if name == state] or [name for name in known if name.startswith(state)]
    if len(found) != 1:
        raise ArgumentMistake(f"--state: one of {', '.join(known)} is needed, got {state!r}.{nearest(state, known)}")
    return found[0]


def _limited(rows: list[dict[str, Any]], request: Request, left_out: int) -> tuple[list[dict[str, Any]], str]:
    limit = request.values.get("limit", LIMIT)
    hidden = max(0, len(rows) - limit) + left_out
    return rows[:limit], f"and {hidden:,} more: --limit N shows more of them." if hidden else ""


def _task_row(row: dict[str, Any]) -> dict[str, Any]:
    ran_us = row.get("run_us") or 0
    return {
        **row,
        "took": duration_text(ran_us) if row.get("ended_ms") else "",
        "worker_pid": row.get("worker_pid") or "",
        "attempt": row["attempt"] + 1,
        "cell": row.get("call_site", ""),
        "error": row.get("error_type") or "",
    }


def _actor_row(row: dict[str, Any]) -> dict[str, Any]:
    holds = ", ".join(f"{amount:g} {name}" for name, amount in row["required_resources"].items() if amount)
    return {**row, "pid": row["pid"] or "", "holds": holds, "why": row["death_cause"] or row["waiting_for"] or ""}


def _object_row(row: dict[str, Any]) -> dict[str, Any]:
    held_by = ", ".join(row.get("held_by") or ())
    return {**row, "size": bytes_text(row["size_bytes"]), "held_by": held_by}


def register(shell: InteractiveShell) -> None:
    """Make the magics known to a shell."""
    looking = Looking(session_of(shell))
    task_options = (Option("--state", "STATE", f"only these: {', '.join(TASK_STATES)}", _state), HOW_MANY, WATCH)
    actor_options = (Option("--state", "STATE", f"only these: {', '.join(ACTOR_STATES)}", _state), HOW_MANY, WATCH)
    timeline_options = (
        Option(
            "--what-if",
            "workers=N",
            "write nothing; say how long the tasks (called NAME) would take with N at once",
            worker_count,
        ),
    )
    log_options = (
        Option("--err", "", "what was written to standard error"),
        Option("--tail", "N", f"so many last lines; default: {LIMIT}", positive_count),
    )
    for command, run in (
        (Command("ray_tasks", "Tasks and actor calls of the cluster, unfinished ones first.", ("[NAME]",), task_options),
         looking.tasks),
        (Command("ray_actors", "Actors of the cluster.", ("[NAME]",), actor_options), looking.actors),
        (Command("ray_memory", "Objects: how large, and which variable holds them.", (), (HOW_MANY, WATCH)),
         looking.memory),
        (Command("ray_logs", "The last lines that workers wrote.", ("[PID|ID]",), log_options), looking.logs),
        (Command("ray_timeline", "Write what ran when as a Chrome trace; or replay it with other workers.",
                 ("[FILE|NAME]",), timeline_options), looking.timeline),
        (Command("tune_watch", "Show the sweeps of this cluster live.", ()), looking.watch_tune),
    ):  # fmt: skip
        register_line(shell, command, run)
