"""State client: the state API as an object, for programs that choose what to ask for at run time."""

from __future__ import annotations

from typing import Any

from raybook.util.state import api
from raybook.util.state.common import GetApiOptions, ListApiOptions, StateResource


class StateApiClient:
    """Asks the cluster of this process; address, cookies and headers are Ray's and name no other."""

    def __init__(self, address: str | None = None, cookies: Any = None, headers: Any = None) -> None:
        self._address = address

    def list(
        self, resource: StateResource | str, options: ListApiOptions | None = None, raise_on_missing_output: bool = True
    ) -> list[Any]:
        """As ``list_actors`` and its kin. ValueError for what cannot be listed."""
        chosen = options or ListApiOptions()
        return getattr(api, f"list_{StateResource(resource).value}")(
            self._address,
            chosen.filters,
            chosen.limit,
            chosen.timeout,
            chosen.detail,
            raise_on_missing_output,
        )

    def get(self, resource: StateResource | str, id: str, options: GetApiOptions | None = None) -> Any:
        """As ``get_actor`` and its kin."""
        name = StateResource(resource)
        one = "objects" if name is StateResource.OBJECTS else name.value.removesuffix("s")
        return getattr(api, f"get_{one}")(id, self._address)

    def summary(
        self, resource: StateResource | str, *, options: Any = None, raise_on_missing_output: bool = True
    ) -> Any:
        """As ``summarize_tasks`` and its kin, the part of the whole cluster."""
        return getattr(api, f"summarize_{StateResource(resource).value}")(self._address)["cluster"]
