"""Where a target is written, found without importing anything."""

import ast
from importlib.machinery import PathFinder
from importlib.util import find_spec, resolve_name
from pathlib import Path

MAX_REEXPORTS = 8
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def find_source(target: str, reexports: int = MAX_REEXPORTS) -> tuple[Path, int] | None:
    """The file and line of the class or function in ``"package.module:attribute"``, also where it is imported from.

    None where the source does not show it: an extension module, a name that is made while the program runs.
    """
    module, _, attribute = target.partition(":")
    name = attribute.partition(".")[0]
    file = _module_file(module)
    if file is None or reexports == 0:
        return None
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):  # the outer definitions come first
        if isinstance(node, DEFINITIONS) and node.name == name:
            return file, node.lineno
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    origin = resolve_name("." * node.level + (node.module or ""), package)
                    return find_source(f"{origin}:{alias.name}", reexports - 1)
    return None


def _module_file(module: str) -> Path | None:
    """The source of a module. Only finders are asked, so that no package above it is imported."""
    name, *rest = module.split(".")
    try:
        spec = find_spec(name)
        for part in rest:
            if spec is None or spec.submodule_search_locations is None:
                return None
            name = f"{name}.{part}"
            spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    except (ImportError, ValueError, AttributeError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin and spec.origin.endswith(".py") else None
