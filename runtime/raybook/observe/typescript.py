"""The view-model's records as TypeScript: interfaces with every field, and the defaults that the wire leaves out."""

from __future__ import annotations

import json
from typing import Any

from raybook.observe.panels import PANELS
from raybook.observe.schema import VIEW_SCHEMA_VERSION, json_schema

_HEADER = """\
/**
 * The rows of panels, made from the Python schema (runtime/raybook/observe/schema.py). Do not edit; run
 *     PYTHONPATH=runtime python -m raybook.observe labextension/
 * after a change there. A field that equals its default is left out on the wire; `DEFAULTS` puts it back.
 */
/* eslint-disable */
"""
_SIMPLE = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean", "null": "null"}


def typescript() -> str:
    """The whole file. The same schema gives the same text."""
    definitions = json_schema()["$defs"]
    parts = [_HEADER, f"export const VIEW_SCHEMA_VERSION = {VIEW_SCHEMA_VERSION};\n"]
    parts.append(f"export const PANEL_NAMES = {_json(list(PANELS))} as const;")
    parts.append("export type PanelName = (typeof PANEL_NAMES)[number];\n")
    for name, definition in sorted(definitions.items()):
        fields = [f"  {field}: {_type(kind)};" for field, kind in definition["properties"].items()]
        parts += [f"export interface I{name} {{", *fields, "}\n"]
    parts.append("export const DEFAULTS = {")
    for name, definition in sorted(definitions.items()):
        if name != "View":
            defaults = {field: kind["default"] for field, kind in definition["properties"].items() if "default" in kind}
            parts.append(f"  {name}: {_json(defaults)},")
    parts.append("} as const;")
    return "\n".join(parts) + "\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _type(kind: dict[str, Any]) -> str:
    if "$ref" in kind:
        return "I" + kind["$ref"].rpartition("/")[2]
    if "anyOf" in kind:
        return " | ".join(_type(choice) for choice in kind["anyOf"])
    if kind.get("type") == "array":
        inner = _type(kind["items"])
        return f"({inner})[]" if "|" in inner else f"{inner}[]"
    if kind.get("type") == "object":
        return f"Record<string, {_type(kind['additionalProperties'])}>"
    return _SIMPLE[kind["type"]]
