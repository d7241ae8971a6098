"""Makes ``*_pb2.py`` and ``*_pb2_grpc.py`` from the .proto files here: ``python -m raybook.protocol.proto.generate``.

Needs grpcio-tools, which only those need who change a .proto file; what it makes is kept in the repository.
"""

from __future__ import annotations

import sys
from pathlib import Path

NAMES = ("gcs", "raylet")


def main() -> int:
    """protoc's exit code."""
    from grpc_tools import protoc  # A build tool, not a dependency.

    folder = Path(__file__).resolve().parent
    root = folder.parents[2]
    files = [str(folder / f"{name}.proto") for name in NAMES]
    return int(protoc.main(["protoc", f"-I{root}", f"--python_out={root}", f"--grpc_python_out={root}", *files]))


if __name__ == "__main__":
    sys.exit(main())
