"""Scaling file: the configuration that ``raybook start --head --autoscaling-config FILE`` reads, in Ray's words, as YAML or
JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from raybook.core.autoscaler.configuration import read_configuration


class ScalingFile(click.ParamType):
    """A file's content, checked; what is wrong with it is said at the command line."""

    name = "FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        path = Path(value).expanduser()
        try:
            text = path.read_text()
            found = json.loads(text) if path.suffix == ".json" else self._from_yaml(text)
            if not isinstance(found, dict):
                raise ValueError("it must be a mapping, with available_node_types")
            read_configuration(found)
        except (OSError, ValueError, TypeError) as error:
            self.fail(f"{path}: {error}", param, ctx)
        return found

    @staticmethod
    def _from_yaml(text: str) -> Any:
        try:
            import yaml
        except ImportError:
            raise ValueError(
                "PyYAML is not installed: `pip install 'raybook[hosts]'`, or write the file as JSON and call it .json"
            ) from None
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"it is no YAML: {error}") from None
