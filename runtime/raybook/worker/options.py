"""What a worker process is told when it is forked. The record itself is part of the protocol, because the raylet fills
it in and may not import this package."""

from raybook.protocol.messages.zygote import WorkerOptions

__all__ = ["WorkerOptions"]
