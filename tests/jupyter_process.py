"""A Jupyter server of one test: its own folders, its own port on loopback, nothing left when the test ends.

Runs the server extension and the Lab extension of this checkout, installed or not, and reads no setting of the person
who runs the tests.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE_ROOTS = [str(REPOSITORY / name) for name in ("runtime", "kernel_ext", "widgets")]
# Run as modules: the scripts' first lines name the interpreter that they were installed with.
MODULES = {"server": "jupyter_server", "lab": "jupyterlab", "notebook": "notebook"}
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 20.0
POLL_S = 0.05


class JupyterProcess:
    """`with JupyterProcess(tmp_path) as jupyter:` — `app` is "server" or "lab"; `base_url` begins and ends with "/"."""

    def __init__(self, home: Path, *, app: str = "server", base_url: str = "/", notebooks: Path | None = None) -> None:
        self.home = home
        self.app = app
        self.base_url = base_url
        self.notebooks = notebooks or home / "notebooks"
        self.registry = home / "registry"
        self.token = secrets.token_hex(16)
        self.url = ""
        self._log = home / "jupyter.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> JupyterProcess:
        self.notebooks.mkdir(parents=True, exist_ok=True)
        self._offer_built_lab_extension()
        self._ask_for_no_news()
        command = [
            *(sys.executable, "-m", MODULES[self.app], "--no-browser", "--allow-root"),
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={_free_port()}",
            f"--ServerApp.base_url={self.base_url}",
            f"--ServerApp.root_dir={self.notebooks}",
            f"--IdentityProvider.token={self.token}",
            "--ServerApp.terminals_enabled=False",
        ]
        if self.app == "lab":
            # For the tests' own steps: opening a document, changing a setting.
            command.append("--LabApp.expose_app_in_browser=True")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=self.environment(), stdout=log, stderr=log, cwd=self.home, start_new_session=True
            )
        self._wait_until_ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the server as a person would (SIGTERM ends its kernels too), and whatever does not obey by force."""
        process = self._process
        if process is None:
            return
        family = [process.pid, *(child.pid for child in _children(process.pid))]
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in family:
            if psutil.pid_exists(pid) and pid != process.pid:
                os.kill(pid, signal.SIGKILL)

    def environment(self) -> dict[str, str]:
        """What the server and its kernels run with: this checkout's sources and settings, and no one else's."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "RAYBOOK_"))}
        return {
            **inherited,
            "HOME": str(self.home),
            "IPYTHONDIR": str(self.home / "ipython"),
            "JUPYTER_CONFIG_DIR": str(self.home / "config"),
            # The very file that the wheel installs to switch the server extension on.
            "JUPYTER_CONFIG_PATH": str(REPOSITORY / "kernel_ext" / "jupyter-config"),
            "JUPYTER_DATA_DIR": str(self.home / "data"),
            "JUPYTER_RUNTIME_DIR": str(self.home / "run"),
            "JUPYTER_PLATFORM_DIRS": "0",
            # The Lab extension of this checkout, whatever the environment has installed.
            "JUPYTER_PREFER_ENV_PATH": "0",
            "JUPYTERLAB_SETTINGS_DIR": str(self.home / "lab-settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(self.home / "lab-workspaces"),
            "RAYBOOK_REGISTRY_DIR": str(self.registry),
            "PYTHONPATH": os.pathsep.join(SOURCE_ROOTS),
        }

    def get(self, path: str, *, token: str | None = None) -> tuple[int, Any]:
        """GET below the base URL: (status, JSON or None). Raises nothing for an HTTP verdict."""
        return self._ask(urllib.request.Request(self.url + path), token, 10.0)

    def post(
        self, path: str, body: Any = None, *, token: str | None = None, timeout_s: float = 30.0
    ) -> tuple[int, Any]:
        """POST JSON below the base URL; as ``get``, and the JSON of an error with a token comes, too."""
        request = urllib.request.Request(self.url + path, json.dumps(body or {}).encode(), method="POST")
        request.add_header("Content-Type", "application/json")
        return self._ask(request, token, timeout_s)

    def delete(self, path: str, *, token: str) -> int:
        """DELETE below the base URL: the status."""
        return self._ask(urllib.request.Request(self.url + path, method="DELETE"), token, 30.0)[0]

    def children(self) -> list[psutil.Process]:
        """Every process below the server's."""
        return _children(self._process.pid) if self._process is not None else []

    def _ask(self, request: urllib.request.Request, token: str | None, timeout_s: float) -> tuple[int, Any]:
        if token is not None:
            request.add_header("Authorization", f"token {token}")
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as response:
                return response.status, json.loads(response.read() or b"null")
        except urllib.error.HTTPError as verdict:
            said = verdict.read()
            is_ours = request.get_method() == "POST" and token is not None and said.startswith(b"{")
            return verdict.code, json.loads(said) if is_ours else None

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def _offer_built_lab_extension(self) -> None:
        """Put the built extension on Jupyter's data path, where an uninstalled checkout's Lab finds it."""
        built = REPOSITORY / "labextension" / "raybook"
        if built.is_dir():
            folder = self.home / "data" / "labextensions"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "raybook").symlink_to(built, target_is_directory=True)

    def _ask_for_no_news(self) -> None:
        """JupyterLab's own news and update checks go to the network and pop up over the page; a test wants neither."""
        folder = self.home / "lab-settings" / "@jupyterlab" / "apputils-extension"
        folder.mkdir(parents=True)
        settings = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
        (folder / "notification.jupyterlab-settings").write_text(json.dumps(settings))

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        info_file = self.home / "run" / f"jpserver-{self._process.pid}.json"
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"jupyter {self.app} ended while starting:\n{self.log()[-4000:]}")
            if info_file.is_file():
                self.url = json.loads(info_file.read_text())["url"]
                if self._answers():
                    return
            time.sleep(POLL_S)
        self.__exit__(None, None, None)
        raise TimeoutError(f"jupyter {self.app} did not answer in {START_TIMEOUT_S} s:\n{self.log()[-4000:]}")

    def _answers(self) -> bool:
        try:
            return self.get("api/status", token=self.token)[0] == 200
        except (urllib.error.URLError, ConnectionError):
            return False


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _free_port() -> int:
    """A port that was free a moment ago; Jupyter takes the next one when somebody was quicker."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
