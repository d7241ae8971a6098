"""Entry of the raylet process of the split form: ``python -m raybook.raylet.main OPTIONS``, from ``raybook start``.

The zygote is started before anything else is imported, as in the head: the two load side by side. That is why the rest
is imported inside ``main``.
"""

from __future__ import annotations

import signal
import sys

from raybook.io.daemon import restore_environment
from raybook.raylet.zygote_client import start_zygote


def main() -> int:
    """Run a node until it is stopped; the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    restore_environment()
    zygote = start_zygote()
    from raybook.raylet.node_process import run_node

    return run_node(sys.argv[1], zygote)


if __name__ == "__main__":
    sys.exit(main())
