"""Routes: which application a path belongs to. The longest prefix wins, at the borders of path segments."""

from __future__ import annotations

from collections.abc import Iterable


class RouteTable:
    """Prefixes and the names they stand for. An immutable value; a change makes a new one."""

    def __init__(self, routes: dict[str, str]) -> None:
        self.routes = dict(routes)
        self._longest_first = sorted(routes, key=len, reverse=True)

    def match(self, path: str) -> tuple[str, str] | None:
        """(prefix, name) for a path; None for a path of nobody."""
        for prefix in self._longest_first:
            if prefix == "/" or path == prefix or path.startswith(f"{prefix}/"):
                return prefix, self.routes[prefix]
        return None


def check_prefix(prefix: object) -> None:
    """ValueError for what is no prefix, as Ray words it; None is one: no HTTP."""
    if prefix is None:
        return
    if not isinstance(prefix, str) or not prefix.startswith("/"):
        raise ValueError(f"Invalid route_prefix '{prefix}', must start with a forward slash ('/').")
    if prefix != "/" and prefix.endswith("/"):
        raise ValueError(f"Invalid route_prefix '{prefix}', may not end with a trailing '/'.")
    if "{" in prefix or "}" in prefix:
        raise ValueError(f"Invalid route_prefix '{prefix}', may not contain wildcards.")


def conflict(name: str, prefix: str | None, others: Iterable[tuple[str, str | None]]) -> str:
    """Which other application has this prefix already; "" when none has. others: (name, prefix)."""
    return next((other for other, taken in others if other != name and prefix is not None and taken == prefix), "")
