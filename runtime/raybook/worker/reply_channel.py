"""Reply channel: answers of this worker on their way to the callers.

Replies of short tasks are gathered and sent together by the thread that ran them; nothing waits longer than
``FLUSH_US`` for the next short one, and what a long one leaves behind the I/O thread sends. Knows nothing of contents.

Invariant: every reply is sent exactly once, in the order given, to the connection given.
"""

from __future__ import annotations

import _thread
import logging
import time

from raybook.io.transport import ConnectionClosed
from raybook.protocol.messages.worker import TaskReplies, TaskReply
from raybook.worker.core_process import CoreProcess
from raybook.worker.peers import Peer

logger = logging.getLogger(__name__)

FLUSH_US = 500
"""Replies of short tasks are gathered this long at most before they are sent."""
LEFT_BEHIND_NS = 2_000_000
"""Replies this old were left behind by a task that turned out long."""
BATCH_MAX = 128


class ReplyChannel:
    def __init__(self, core: CoreProcess) -> None:
        self._core = core
        self._lock = _thread.allocate_lock()
        self.gathered: list[TaskReply] = []
        """What waits for ``flush``; looked at without the lock."""
        self._peer: Peer | None = None
        self._first_ns = 0

    def add(self, peer: Peer, reply: TaskReply, more_work: bool) -> None:
        """Send now, or together with the next ones while there is more work. Any thread that runs tasks."""
        with self._lock:
            if self._peer is not peer:
                self._send()
                self._peer = peer
            replies = self.gathered
            if not (replies or more_work):
                self._write(peer, [reply])
                return
            replies.append(reply)
            if not more_work or len(replies) >= BATCH_MAX:
                self._send()
                return
            now_ns = time.monotonic_ns()
            if len(replies) == 1:
                self._first_ns = now_ns
            elif now_ns - self._first_ns >= FLUSH_US * 1000:
                self._send()

    def flush(self) -> None:
        """Send what is gathered."""
        if self.gathered:
            with self._lock:
                self._send()

    def flush_left_behind(self) -> None:
        """I/O thread: send what a long task keeps waiting."""
        if self.gathered and time.monotonic_ns() - self._first_ns > LEFT_BEHIND_NS:
            self.flush()

    def _send(self) -> None:
        """With the lock held."""
        if not self.gathered:
            return
        replies, self.gathered = self.gathered, []
        peer = self._peer
        assert peer is not None, "replies without an addressee"
        self._write(peer, replies)

    def _write(self, peer: Peer, replies: list[TaskReply]) -> None:
        framed = peer.framed
        try:
            with peer.lock:
                framed.queue(TaskReplies(replies))
                is_out = framed.flush()
            if not is_out:
                self._core.finish_write(peer)
        except ConnectionClosed:
            logger.info("A caller is gone; %d replies to it were dropped.", len(replies))
