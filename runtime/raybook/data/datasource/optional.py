"""Optional packages: asked for where they are needed, with an error that says which to install."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(module: str, package: str, purpose: str) -> ModuleType:
    """The module, imported. ImportError naming the package: ``Reading images needs the package pillow, ...``."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs the package {package}, which is not installed here. Nothing was done. Install it (in the "
            f"workers' environment, too): pip install {package}"
        ) from error
