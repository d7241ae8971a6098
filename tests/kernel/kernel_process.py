"""A real ipykernel, driven as a front end drives one: execute, listen, complete, interrupt, kill."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from jupyter_client.manager import KernelManager

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = [str(REPOSITORY / name) for name in ("runtime", "kernel_ext", "widgets")]
TIMEOUT_S = 30.0
VALUE_MARK = "value: "


@dataclass
class Outcome:
    """What one cell brought: every message until idle, and the reply's status."""

    status: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        """The messages of these types, in order."""
        return [message for message in self.messages if message["msg_type"] in kinds]

    @property
    def text(self) -> str:
        """Everything written to standard output and error."""
        return "".join(message["content"]["text"] for message in self.of("stream"))

    @property
    def error(self) -> str:
        """ "UsageError: ..." as shown, "" without one."""
        return "".join(
            f"{message['content']['ename']}: {message['content']['evalue']}" for message in self.of("error")
        ) or "".join(line for line in self.text.splitlines(True) if line.startswith("UsageError"))

    @property
    def traceback(self) -> str:
        """What stands under the cell after an error, without colours."""
        lines = [line for message in self.of("error") for line in message["content"]["traceback"]]
        return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines))

    @property
    def bundles(self) -> list[dict[str, Any]]:
        """The data of what was displayed."""
        return [message["content"]["data"] for message in self.of("display_data", "execute_result")]


class KernelProcess:
    """``with KernelProcess(tmp_path) as kernel:``. Its home, registry and runtime folders are the test's own."""

    def __init__(self, home: Path, **environment: str) -> None:
        self._home = home
        self._environment = environment
        self._manager = KernelManager(kernel_name="python3")
        self._client: Any = None

    def __enter__(self) -> KernelProcess:
        self._manager.start_kernel(env=self._full_environment(), cwd=str(self._home))
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=TIMEOUT_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.stop_channels()
        if self._manager.is_alive():
            self._manager.shutdown_kernel(now=True)

    @property
    def pid(self) -> int:
        """Of the kernel's process."""
        return self._manager.provisioner.pid

    def run(self, code: str, on_message: Callable[[dict[str, Any]], None] | None = None) -> Outcome:
        """Run a cell to its end. on_message: called with each of its messages as it comes."""
        return self.wait(self.begin(code), on_message)

    def begin(self, code: str) -> str:
        """Start a cell; its message id."""
        return self._client.execute(code)

    def wait(self, message_id: str, on_message: Callable[[dict[str, Any]], None] | None = None) -> Outcome:
        """Collect a cell's messages until it is idle."""
        outcome = Outcome()
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            message = self._client.get_iopub_msg(timeout=TIMEOUT_S)
            message["received_s"] = time.monotonic()
            outcome.messages.append(message)
            if on_message is not None:
                on_message(message)
            is_ours = message["parent_header"].get("msg_id") == message_id
            if is_ours and message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                outcome.status = self._reply(message_id)["content"]["status"]
                return outcome
        raise TimeoutError(f"The cell has not ended in {TIMEOUT_S} s.")

    def value(self, expression: str) -> Any:
        """The value of a Python literal in the kernel."""
        import ast

        # With a mark, because workers may print at the same time.
        outcome = self.run(f"print({VALUE_MARK!r}, repr({expression}), sep='')")
        lines = [line for line in outcome.text.splitlines() if line.startswith(VALUE_MARK)]
        assert lines, f"{expression}: {outcome.error or outcome.text}"
        return ast.literal_eval(lines[-1].removeprefix(VALUE_MARK))

    def listen_until(self, is_enough: Callable[[dict[str, Any]], bool], timeout_s: float = 10.0) -> dict[str, Any]:
        """The next message of any cell for which the question is true."""
        deadline = time.monotonic() + timeout_s
        while True:
            message = self._client.get_iopub_msg(timeout=max(0.01, deadline - time.monotonic()))
            if is_enough(message):
                return message

    def complete(self, code: str) -> list[str]:
        """What Tab offers at the end of the code."""
        reply = self._client.complete(code, reply=True, timeout=TIMEOUT_S)
        return reply["content"]["matches"]

    def send_to_comm(self, comm_id: str, data: dict[str, Any]) -> None:
        """What a front end sends when a widget is used."""
        message = self._client.session.msg("comm_msg", {"comm_id": comm_id, "data": data})
        self._client.shell_channel.send(message)

    def interrupt(self) -> None:
        """As the stop button of the front end does."""
        self._manager.interrupt_kernel()

    def kill(self) -> None:
        """SIGKILL to the kernel's process alone."""
        os.kill(self.pid, 9)

    def _reply(self, message_id: str) -> dict[str, Any]:
        while True:
            reply = self._client.get_shell_msg(timeout=TIMEOUT_S)
            if reply["parent_header"].get("msg_id") == message_id:
                return reply

    def _full_environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAYBOOK_", "JUPYTER"))}
        return {
            **inherited,
            "IPYTHONDIR": str(self._home / "ipython"),
            "RAYBOOK_REGISTRY_DIR": str(self._home / "registry"),
            "PYTHONPATH": os.pathsep.join(SOURCE_ROOTS),
            **self._environment,
        }
