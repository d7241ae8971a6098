"""Entry of a raylet in a process of its own: ``python -m raybook.raylet.main OPTIONS``, started by ``raybook start``.

Composition: zygote first (see head/main), then the raylet with gRPC on both sides. It ends when the GCS says StopNode
or on SIGTERM, and takes every descendant with it; a GCS that dies does not end it.
"""

from __future__ import annotations

import signal
import sys
from importlib import import_module

import msgspec

from raybook.io.daemon import restore_environment
from raybook.protocol.messages.daemons import NodeOptions
from raybook.raylet.zygote_client import start_zygote


def main() -> int:
    """Run one node; the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    restore_environment()
    zygote = start_zygote()
    options = msgspec.json.decode(sys.argv[1], type=NodeOptions)
    return int(import_module("raybook.raylet.standalone").run_node(options, zygote))


if __name__ == "__main__":
    sys.exit(main())
