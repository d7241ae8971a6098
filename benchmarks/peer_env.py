"""Peer environments: a virtual environment for each library that raybook is compared with, made on first use.

A peer's dependencies must neither help nor hinder raybook's or another peer's, so no two share an interpreter. Usage:
``python peer_env.py [ray | ray-tune | ray-train | dask | ipyparallel]`` makes ``.venv-NAME`` in the project root, or
finds it there, and prints the path of its Python.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from machine import PROJECT_ROOT

NUMPY = "numpy>=1.26"
"""The rows' arrays; a peer itself need not need it."""


@dataclass(frozen=True)
class Peer:
    """A library to compare with. title: in the table. package: the distribution whose version counts."""

    name: str
    title: str
    package: str
    version: str
    also: tuple[str, ...] = ()

    @property
    def environment(self) -> Path:
        return PROJECT_ROOT / f".venv-{self.name}"


RAY = Peer("ray", "Ray 2.60", "ray", "2.60.0")
# Ray's Tune refuses to be imported without these.
RAY_TUNE = Peer(
    "ray-tune", "Ray 2.60 Tune", "ray", "2.60.0", ("pandas", "pyarrow", "tensorboardX", "requests", "fsspec")
)
# `ray start` serves its client only where these are; its own start of a head says so.
RAY_CLIENT = Peer("ray-client", "Ray 2.60 client", "ray", "2.60.0", ("ray[client]==2.60.0",))
# Which build of torch it gets follows from the package index, as it does here (README, "Choosing torch").
RAY_TRAIN = Peer("ray-train", "Ray 2.60 Train", "ray", "2.60.0", (*RAY_TUNE.also, "torch==2.13.0"))
DASK = Peer("dask", "Dask 2026.8", "distributed", "2026.8.0")
IPYPARALLEL = Peer("ipyparallel", "ipyparallel 9.2", "ipyparallel", "9.2.0", ("cloudpickle",))
PEERS = (RAY, RAY_TUNE, RAY_TRAIN, RAY_CLIENT, DASK, IPYPARALLEL)


class PeerEnvironmentError(Exception):
    """A peer's environment cannot be made, or it is not what the comparison needs."""


def installed_version(python: Path, peer: Peer) -> str | None:
    """The version of the peer that `python` has, without importing it; None if it has none or cannot be run."""
    program = f"import importlib.metadata as m, numpy; print(m.version('{peer.package}'))"
    try:
        asked = subprocess.run([python, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return None
    return asked.stdout.strip() if asked.returncode == 0 else None


def check(python: Path, peer: Peer = RAY) -> Path:
    """Return `python` if it has the compared peer and numpy; else raise PeerEnvironmentError saying what to do."""
    version = installed_version(python, peer)
    if version != peer.version:
        found = f"{peer.package} {version}" if version else f"no {peer.package} together with numpy"
        raise PeerEnvironmentError(
            f"{python} has {found}; the comparison is with {peer.package} {peer.version}. "
            f"Run it with --{peer.name}-python of an environment that has {peer.package}=={peer.version} and numpy, or "
            f"without that option to have {peer.environment} made, or with --no-{peer.name}."
        )
    return python


def ensure(peer: Peer = RAY) -> Path:
    """The Python of the peer's environment, made and filled on first use. Raises PeerEnvironmentError."""
    python = peer.environment / "bin" / "python"
    if installed_version(python, peer) == peer.version:
        return python
    print(f"Making {peer.environment} with {peer.package}=={peer.version} (once).", file=sys.stderr)
    venv.EnvBuilder(with_pip=True, clear=True).create(peer.environment)
    packages = [f"{peer.package}=={peer.version}", *peer.also, NUMPY]
    installed = subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=False)
    if installed.returncode != 0:
        raise PeerEnvironmentError(
            f"pip could not install {' '.join(packages)} into {peer.environment} (exit status {installed.returncode}; "
            "its words are above). Check the network or the package index, name an environment that has them with "
            f"--{peer.name}-python, or use --no-{peer.name}."
        )
    return check(python, peer)


if __name__ == "__main__":
    wanted = sys.argv[1] if len(sys.argv) > 1 else RAY.name
    try:
        print(ensure(next(peer for peer in PEERS if peer.name == wanted)))
    except StopIteration:
        sys.exit(f"There is no peer called {wanted}. Known are: {', '.join(peer.name for peer in PEERS)}.")
    except PeerEnvironmentError as error:
        sys.exit(str(error))
