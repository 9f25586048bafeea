"""Where a target is written, found without importing anything."""

import ast
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

MAX_REEXPORTS = 8


def find_source(target: str) -> tuple[Path, int] | None:
    """The file and the line of ``"package.module:attribute"``.

    A name that a module imports from another one is followed there. None where the source does not show it: an
    extension module, a name that is made while the program runs.
    """
    module, _, attribute = target.partition(":")
    for _ in range(MAX_REEXPORTS):
        file = _module_file(module)
        try:
            tree = ast.parse(file.read_bytes()) if file else ast.Module([], [])
        except (OSError, SyntaxError, ValueError, RecursionError):
            return None
        name, _, rest = attribute.partition(".")
        node = dict(_definitions(tree.body)).get(name)
        if file is None or node is None:
            return None
        if not isinstance(node, ast.ImportFrom):
            for part in rest.split("."):  # the line of ``Class.method`` in its class
                node = dict(_definitions(getattr(node, "body", ()))).get(part, node)
            return file, node.lineno
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        base = package.rsplit(".", node.level - 1)[0] if node.level else ""
        module = ".".join(filter(None, (base, node.module)))
        original = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
        attribute = f"{original}.{rest}" if rest else original
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


def _definitions(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, ast.stmt]]:
    """The names that statements bind, those inside of ``if``, ``try`` and ``with`` too, in their order."""
    for node in nodes:
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name, node
            case ast.Assign():
                yield from ((target.id, node) for target in node.targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(name)):
                yield name, node
            case ast.ImportFrom():
                yield from ((alias.asname or alias.name, node) for alias in node.names)
            case ast.If() | ast.Try() | ast.With() | ast.ExceptHandler():
                yield from _definitions(ast.iter_child_nodes(node))
