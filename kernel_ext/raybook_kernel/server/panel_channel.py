"""Panel channel: the states that one panel of one cluster went through lately, and what a reader at one of them has missed.

Pure. A version is a number that grows with every change of the state; an epoch names the channel, so that a version of a
server that has been restarted since is not taken for one of this one. Invariant: snapshot plus deltas, in whatever steps
they are read, give the newest state.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import msgspec

from raybook.observe import state_delta

STATES_KEPT = 40
"""Ten seconds of changes at 4 Hz: a page that reloads or reconnects within them gets a delta. States share their rows."""

_ENCODER = msgspec.json.Encoder()


class PanelChannel:
    """``version`` 0: nothing is known yet."""

    def __init__(self, epoch: str, states_kept: int = STATES_KEPT) -> None:
        self.epoch = epoch
        self.version = 0
        self._states: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._states_kept = states_kept
        self._encoded: dict[int | None, bytes] = {}
        """What readers at a version are sent now; most are at the same one."""

    def advance(self, state: dict[str, Any]) -> bool:
        """The state is this now; whether that is a change."""
        if self.version and not state_delta(self._states[self.version], state):
            return False
        self.version += 1
        self._states[self.version] = state
        self._encoded.clear()
        while len(self._states) > self._states_kept:
            self._states.popitem(last=False)
        return True

    def message_for(self, since: int | None, epoch: str | None) -> bytes | None:
        """What brings a reader from its version to the newest: the fields of a JSON object but for its opening brace. None
        when there is nothing to say. A snapshot for a reader without a version, or with one that is forgotten."""
        if not self.version or (epoch == self.epoch and since == self.version):
            return None
        known = since if since is not None and epoch == self.epoch and since in self._states else None
        body = self._encoded.get(known)
        if body is None:
            head: dict[str, Any] = {"version": self.version, "epoch": self.epoch}
            newest = self._states[self.version]
            if known is None:
                head["snapshot"] = newest
            else:
                head["delta"] = state_delta(self._states[known], newest)
            body = self._encoded[known] = _ENCODER.encode(head)[1:]
        return body
