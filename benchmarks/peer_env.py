"""Peer environment: a virtual environment with Ray alone in it, made on first use.

Ray's dependencies must neither help nor hinder raybook's, so the two never share an interpreter. Usage: ``python
peer_env.py`` makes ``.venv-ray`` in the project root, or finds it there, and prints the path of its Python.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from machine import PROJECT_ROOT

RAY_VERSION = "2.60.0"
ENVIRONMENT = PROJECT_ROOT / ".venv-ray"
NUMPY = "numpy>=1.26"
"""The rows' arrays; Ray itself does not need it."""


class PeerEnvironmentError(Exception):
    """The peer's environment cannot be made, or it is not what the comparison needs."""


def installed_ray_version(python: Path) -> str | None:
    """The version of Ray that `python` has, without importing it; None if it has none or cannot be run."""
    program = "import importlib.metadata as m, numpy; print(m.version('ray'))"
    try:
        asked = subprocess.run([python, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return None
    return asked.stdout.strip() if asked.returncode == 0 else None


def check(python: Path) -> Path:
    """Return `python` if it has the compared Ray and numpy; else raise PeerEnvironmentError saying what to do."""
    version = installed_ray_version(python)
    if version != RAY_VERSION:
        found = f"Ray {version}" if version else "no Ray together with numpy"
        raise PeerEnvironmentError(
            f"{python} has {found}; the comparison is with Ray {RAY_VERSION}. "
            f"Run it with --ray-python of an environment that has ray=={RAY_VERSION} and numpy, or without that option "
            f"to have {ENVIRONMENT} made."
        )
    return python


def ensure() -> Path:
    """The Python of `.venv-ray`, made and filled on first use (75 MB of download). Raises PeerEnvironmentError."""
    python = ENVIRONMENT / "bin" / "python"
    if installed_ray_version(python) == RAY_VERSION:
        return python
    print(f"Making {ENVIRONMENT} with ray=={RAY_VERSION} (once).", file=sys.stderr)
    venv.EnvBuilder(with_pip=True, clear=True).create(ENVIRONMENT)
    packages = [f"ray=={RAY_VERSION}", NUMPY]
    installed = subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=False)
    if installed.returncode != 0:
        raise PeerEnvironmentError(
            f"pip could not install {' '.join(packages)} into {ENVIRONMENT} (exit status {installed.returncode}; "
            "its words are above). Check the network or the package index, name an environment that has them with "
            "--ray-python, or use --no-ray."
        )
    return check(python)


if __name__ == "__main__":
    try:
        print(ensure())
    except PeerEnvironmentError as error:
        sys.exit(str(error))
