"""Subject: what a view is about, and what may be done from it. Travels with the output as JSON and as a widget's traits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from raybook.observe import VIEW_SCHEMA_VERSION

VIEW_MIME = "application/vnd.raybook.view+json"
"""Drawn by raybook's JupyterLab extension past the kernel (labextension/src/cellview.ts)."""

Command = Callable[[dict[str, Any]], str]
"""Does what a button says, given its JSON; returns what to tell the person. May raise; the text is told."""


@dataclass(frozen=True)
class Subject:
    """cell: "In[3]". commands: by the names that the Jupyter server uses for the same."""

    panels: tuple[str, ...]
    cluster_id: str = ""
    run_id: str = ""
    cell: str = ""
    kernel_id: str = ""
    commands: dict[str, Command] = field(default_factory=dict)

    def as_traits(self) -> dict[str, Any]:
        """JSON for the page."""
        return {
            "cluster_id": self.cluster_id,
            "run_id": self.run_id,
            "panels": list(self.panels),
            "cell": self.cell,
            "kernel_id": self.kernel_id,
        }

    def mime_bundle(self) -> dict[str, Any]:
        """For a page that can reach the cluster past the kernel; nothing where there is no cluster to reach."""
        if not self.cluster_id:
            return {}
        return {VIEW_MIME: {"schema_version": VIEW_SCHEMA_VERSION, **self.as_traits()}}
