"""Entry of the autoscaler as a process of its own: ``python -m raybook.autoscaler.main OPTIONS``, beside a GCS.

For clusters in the split form, whose GCS may be started anew while this goes on. The nodes of a provider of local processes
end with it. It claims the cluster's session folder, so that ``raybook stop`` finds it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import msgspec

from raybook.autoscaler.assembly import make_loop
from raybook.base.config import read_environment
from raybook.io import daemon, session_dir
from raybook.io.clock import anchored_clock
from raybook.io.descendants import end_descendants
from raybook.io.process import become_subreaper
from raybook.io.rpc import GrpcChannel
from raybook.io.tls import load_tls
from raybook.io.watchdog import Watchdog
from raybook.protocol.messages.daemons import AutoscalerOptions, NodeOptions, Ready

logger = logging.getLogger(__name__)

STOP_S = 9.0
"""Nodes have five seconds to go, then they are killed."""


def main() -> int:
    """Run until it is stopped; the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    daemon.restore_environment()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    options = msgspec.json.decode(sys.argv[1], type=AutoscalerOptions)
    become_subreaper()
    starter = daemon.Starter(options.ready_fd)
    session = Path(options.session_dir)
    session_dir.claim(session, os.getpid())

    def leave_nothing() -> None:
        end_descendants(timeout_s=1.0)
        session_dir.release(session, os.getpid())

    def end_by_force() -> None:
        logger.error("The autoscaler did not end in time; ending by force.")
        leave_nothing()
        os._exit(1)

    watchdog = Watchdog(None, lambda: None, end_by_force, grace_s=STOP_S)
    try:
        asyncio.run(_run(options, starter, watchdog))
    except (OSError, ValueError, TypeError) as error:
        logger.exception("The autoscaler could not run.")
        starter.tell({"error": f"The autoscaler could not start: {error}"})
        return 1
    finally:
        leave_nothing()
    logging.shutdown()
    os._exit(0)


async def _run(options: AutoscalerOptions, starter: daemon.Starter, watchdog: Watchdog) -> None:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[str] = loop.create_future()

    def stop() -> None:
        watchdog.announce_end()
        if not ended.done():
            ended.set_result("it was terminated")

    loop.add_signal_handler(signal.SIGTERM, stop)
    token = Path(options.token_file).read_bytes()
    session = Path(options.session_dir)
    gcs = GrpcChannel("Gcs", options.gcs_address, token, tls=load_tls(session))
    node = NodeOptions(-1, options.session_dir, options.token_file, options.gcs_address, host=options.host)
    node.tls = session_dir.read_tls(session)
    autoscaler = make_loop(options.configuration, node, gcs, anchored_clock(), read_environment(os.environ))
    autoscaler.start()
    starter.tell(msgspec.to_builtins(Ready(session_dir=options.session_dir, pid=os.getpid())))
    logger.info("The autoscaler ends: %s.", await ended)
    await autoscaler.close()
    await gcs.close()


if __name__ == "__main__":
    sys.exit(main())
