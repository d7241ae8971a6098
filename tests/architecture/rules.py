"""The rules: each reads the import graph and returns what breaks it, one sentence a violation, naming the edge."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from tests.architecture.import_graph import Import, SourceModule, find_cycles
from tests.architecture.layers import HEAVY_LIBRARIES, LAYERS, LAZY_EDGES, LINES_MAX, layer_of

Modules = dict[str, SourceModule]
OUR_PACKAGES = frozenset({"raybook", "raybook_kernel", "raybook_widgets"})


def layer_violations(modules: Modules) -> Iterator[str]:
    """Edges between layers that the table does not allow, and modules that belong to no layer."""
    for module in modules.values():
        layer = layer_of(module.name)
        if layer is None:
            yield f"{module.name} belongs to no layer. Add a row to tests/architecture/layers.py, or move the module."
            continue
        for found in _imports_of_ours(module):
            target = layer_of(found.target)
            if target is None or target is layer or target.name in layer.may_import or _is_lazy_edge(found):
                continue
            yield (
                f"{_where(module, found)}: {layer.name} → {target.name} is not an edge of the architecture "
                f"({found.importer} imports {found.target}). {layer.name} may import: "
                f"{', '.join(sorted(layer.may_import)) or 'nothing of raybook'}."
            )


def forbidden_modules(modules: Modules) -> Iterator[str]:
    """Standard-library modules and third-party libraries in layers that may not contain them."""
    for module in modules.values():
        layer = layer_of(module.name)
        for found in module.imports:
            top = found.target.partition(".")[0]
            if layer is None or top in OUR_PACKAGES or found.for_types_only:
                continue
            edge = f"{layer.name} → {top} is forbidden ({found.importer} imports {found.target})"
            if top in layer.forbidden:
                yield f"{_where(module, found)}: {edge}."
            elif layer.third_party is not None and top not in sys.stdlib_module_names and top not in layer.third_party:
                allowed = ", ".join(sorted(layer.third_party))
                yield f"{_where(module, found)}: {edge}; beside the standard library it may use: {allowed}."


def cycle_violations(modules: Modules) -> Iterator[str]:
    """Import cycles."""
    for cycle in find_cycles(modules):
        yield f"Import cycle: {' → '.join(cycle)}. Move what both need to the lower of the two."


def hidden_imports(modules: Modules) -> Iterator[str]:
    """Imports inside functions, except of heavy or optional libraries and along the lazy edges."""
    for module in modules.values():
        for found in module.imports:
            if not found.in_function or _is_lazy_edge(found):
                continue
            if found.target.partition(".")[0] in HEAVY_LIBRARIES:
                continue
            yield (
                f"{_where(module, found)}: {found.importer} → {found.target} is imported inside a function. "
                "Import it at the top; if that makes a cycle, the cycle is the fault."
            )


def private_imports(modules: Modules) -> Iterator[str]:
    """Modules whose name starts with an underscore, imported from another package."""
    for module in modules.values():
        for found in _imports_of_ours(module):
            parts = found.target.split(".")
            private = next((at for at, part in enumerate(parts) if part.startswith("_") and part != "__main__"), None)
            if private is None:
                continue
            owner = ".".join(parts[:private])
            if found.importer != owner and not found.importer.startswith(f"{owner}."):
                yield f"{_where(module, found)}: {found.importer} → {found.target} is private to {owner}."


def long_files(modules: Modules) -> Iterator[str]:
    """Files past the limit. Generated code is not read by people, so it is not counted."""
    for module in modules.values():
        if module.line_count > LINES_MAX and not is_generated(module):
            yield f"{module.path}: {module.line_count} lines, more than {LINES_MAX}. Look for the second noun in it."


def is_generated(module: SourceModule) -> bool:
    return module.path.stem.endswith(("_pb2", "_pb2_grpc"))


def unknown_layer_names() -> Iterator[str]:
    """Names in the table's right column that are no row of it: a misspelt edge would allow nothing, silently."""
    names = {layer.name for layer in LAYERS}
    for layer in LAYERS:
        for name in sorted(layer.may_import - names):
            yield f"The row of {layer.name} allows {name}, which is no layer."


def _imports_of_ours(module: SourceModule) -> Iterator[Import]:
    return (found for found in module.imports if found.target.partition(".")[0] in OUR_PACKAGES)


def _is_lazy_edge(found: Import) -> bool:
    return found.in_function and any(
        found.importer == importer and (found.target == target or found.target.startswith(target.rstrip(".") + "."))
        for importer, target in LAZY_EDGES
    )


def _where(module: SourceModule, found: Import) -> str:
    return f"{module.path}:{found.line}"
