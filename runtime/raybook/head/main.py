"""Entry of the head process: ``python -m raybook.head.main OPTIONS``, started by ``api/local_cluster``.

The zygote is started before anything else is imported: it needs as long as the head itself to become ready, and the
two do so side by side. That is why the rest of the head is imported inside ``main``.
"""

from __future__ import annotations

import signal
import sys

from raybook.io.daemon import restore_environment
from raybook.raylet.zygote_client import start_zygote


def main() -> int:
    """Run a head until its owner is gone or somebody stops it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    restore_environment()
    zygote = start_zygote()
    from raybook.head.embedded import run_head

    return run_head(sys.argv[1], zygote)


if __name__ == "__main__":
    sys.exit(main())
