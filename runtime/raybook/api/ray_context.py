"""RayContext: what ``init`` returns: where the cluster is, as a record that reads well in a cell."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping
from typing import Any


class RayContext(Mapping[str, Any]):
    """``address_info`` (a dict, also reached by ``context["address"]``), ``dashboard_url``, versions. As a context
    manager it shuts raybook down at the end."""

    dashboard_url = ""
    """host:port at which the head answers HTTP; empty unless ``init`` was asked for one: views live in the notebook."""

    session: Any = None
    """What outlives this process, of a thin client (``api.session.Session``); None when this process owns what it makes."""

    def __init__(
        self, address_info: dict[str, Any], raybook_version: str, python_version: str, disconnect: Callable[[], None]
    ) -> None:
        self.address_info = address_info
        self.raybook_version = raybook_version
        self.ray_version = raybook_version
        self.ray_commit = ""
        self.python_version = python_version
        self._disconnect = disconnect

    def disconnect(self) -> None:
        """Leave the cluster, and end it if this process started it."""
        self._disconnect()

    def __enter__(self) -> RayContext:
        return self

    def __exit__(self, *raised: object) -> None:
        self._disconnect()

    def __getitem__(self, key: str) -> Any:
        return self.dashboard_url if key == "webui_url" else self.address_info[key]

    def __len__(self) -> int:
        return len(self.address_info)

    def __iter__(self) -> Iterator[str]:
        return iter(self.address_info)

    def __repr__(self) -> str:
        return (
            f"RayContext(address={self.address_info.get('address', '')!r}, raybook_version={self.raybook_version!r}, "
            f"python_version={self.python_version!r}{f', session={self.session!r}' if self.session else ''})"
        )

    def _repr_html_(self) -> str:
        rows = {
            "raybook": self.raybook_version,
            "Python": self.python_version,
            "Address": self.address_info.get("address", ""),
            "Folder": self.address_info.get("session_dir", ""),
            "Session": self.session.title if self.session else "",
        }
        cells = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(str(value))}</td></tr>"
            for name, value in rows.items()
            if value
        )
        return f"<table>{cells}</table>"
