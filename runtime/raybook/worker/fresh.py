"""Fresh: a worker that is not a fork: the zygote's child has started an interpreter anew, which begins here.

For environments with packages of their own or with variables that are read only at a process's start. The options come
in a memory file, because they hold the cluster's token and everybody may read a command line. ``BOOT`` is all that runs
before our package can be found: the interpreter's own packages come first, ours behind them; but for the two that read
what the driver has written, and that must be of one version with the driver's.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shlex
import sys
from typing import NoReturn

import msgspec

from raybook.protocol.messages.zygote import WorkerOptions
from raybook.worker.preparation import prepare_worker

BOOT = """
import sys
own = [path for path in sys.path if path]
ours = [path for path in sys.argv[3].split(":") if path not in own]
sys.path[:] = ours + own
import cloudpickle, msgspec
sys.path[:] = own + ours
from raybook.worker.fresh import main
main(sys.argv[1], sys.argv[2])
"""


def become_fresh(options: WorkerOptions, worker_main: str) -> NoReturn:
    """In the zygote's child: start the interpreter that the options name. OSError when it cannot be started."""
    descriptor = os.memfd_create("raybook-worker-options", 0)
    os.write(descriptor, msgspec.msgpack.encode(options))
    os.lseek(descriptor, 0, os.SEEK_SET)
    path = ":".join(path for path in sys.path if path)
    command = shlex.split(options.interpreter)
    arguments = [*command, "-c", BOOT, str(descriptor), worker_main, path]
    os.execve(command[0], arguments, {**os.environ, **options.environment})


def main(descriptor: str, worker_main: str) -> NoReturn:
    """The worker's life in the new interpreter."""
    with os.fdopen(int(descriptor), "rb") as file:
        options = msgspec.msgpack.decode(file.read(), type=WorkerOptions)
    status = 1
    try:
        prepare_worker(options)
        importlib.import_module(worker_main).run(options)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - this is the end of the process, as in the zygote's children.
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
