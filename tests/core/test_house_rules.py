"""The rules of the house: which wing may import which."""

import ast
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "core" / "ptb"
PLUGINS = sorted(path for path in (ROOT / "plugins").iterdir() if path.is_dir() and path.name.startswith("ptb_"))
TOOLS = {
    "ptb_trackers",
    "ptb_testing",
    "ptb_config",
    "ptb_data",
    "ptb_doctor",
    "ptb_export",
    "ptb_draw",
    "ptb_bench",
    "ptb_import_torch",
    "ptb_list",
    "ptb_predict",
    "ptb_runs",
    "ptb_report",
}
HEAVY = {"torch", "numpy", "cv2", "pandas", "sklearn", "safetensors"}

# What each wing and ground module may import of ptb, beside itself.
GROUND = {"errors", "seeding", "device", "kinds"}
MAY_IMPORT = {
    **dict.fromkeys(GROUND, GROUND),
    "registry": GROUND,
    "storage": GROUND,
    "distributed": GROUND,
    "config": GROUND | {"registry"},
    "data": GROUND,
    "training": GROUND | {"data", "config.sections"},
    "runs": GROUND | {"registry", "storage", "distributed", "config", "data", "training"},
    "cli": GROUND | {"registry", "storage", "distributed", "config", "data", "training", "runs"},
    # For our own tools.
    "internals": GROUND | {"registry", "storage", "distributed", "config", "data", "training", "runs", "cli"},
}
TORCH_FREE = ("registry", "config", "errors", "kinds", "cli")


@cache  # several tests ask for the same file
def imports(path, inside_functions=True):
    """The modules that a file imports, as dotted names, less those under TYPE_CHECKING, which never run."""
    names = []

    def visit(node):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if not inside_functions and isinstance(node, ast.FunctionDef):
            return
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.extend(f"{node.module}.{alias.name}" for alias in node.names)
        elif not isinstance(node, ast.expr):
            for child in ast.iter_child_nodes(node):
                visit(child)

    visit(ast.parse(path.read_text()))
    return names


def wing_of(path):
    """``registry`` of ``core/ptb/registry/component.py``, ``errors`` of ``core/ptb/errors.py``."""
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def breaches(path):
    """What a file of the core imports and may not."""
    wing = wing_of(path)
    allowed = MAY_IMPORT[wing] | {wing}
    for name in imports(path):
        own = name.split(".")[0] == "ptb"
        fits = any(name.startswith(f"ptb.{place}.") or name == f"ptb.{place}" for place in allowed)
        is_plugin = name.split(".")[0] in {plugin.name for plugin in PLUGINS}
        if (own and not fits) or is_plugin:
            yield name


def levels(graph):
    """The length of the longest chain of imports that begins at each node of a graph without cycles."""
    found = {}

    def level(node, above=()):
        assert node not in above, f"a cycle: {' -> '.join([*above, node])}"
        if node not in found:
            found[node] = 1 + max((level(other, (*above, node)) for other in graph[node]), default=0)
        return found[node]

    return {node: level(node) for node in list(graph)}


CORE_FILES = sorted(path for path in CORE.rglob("*.py") if path.parent != CORE or not path.stem.startswith("__"))


def test_every_module_lies_in_a_wing_or_on_the_ground():
    assert {wing_of(path) for path in CORE_FILES} <= set(MAY_IMPORT)


@pytest.mark.parametrize("path", CORE_FILES, ids=lambda path: str(path.relative_to(CORE)))
def test_a_module_imports_only_what_its_wing_may(path):
    assert not list(breaches(path))


def test_the_wings_have_few_levels_and_no_cycles():
    graph = defaultdict(set)
    for path in CORE_FILES:
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "ptb" and len(parts) > 1 and parts[1] in set(MAY_IMPORT) - {wing_of(path)}:
                graph[wing_of(path)].add(parts[1])
    assert max(levels({wing: graph[wing] for wing in MAY_IMPORT}).values()) <= 8


@pytest.mark.parametrize("path", CORE_FILES, ids=lambda path: str(path.relative_to(CORE)))
def test_what_only_looks_imports_no_torch(path):
    if wing_of(path) not in TORCH_FREE:
        return
    inside = wing_of(path) != "cli"  # a command that trains imports torch when it runs
    names = {name.split(".")[0] for name in imports(path, inside_functions=inside)}
    assert not names & HEAVY


def test_pluggy_is_called_in_the_registry_only():
    users = {wing_of(path) for path in CORE_FILES if "pluggy" in {name.split(".")[0] for name in imports(path)}}
    assert users == {"registry"}


def test_click_is_known_to_the_command_line_only():
    users = {wing_of(path) for path in CORE_FILES if "click" in {name.split(".")[0] for name in imports(path)}}
    assert users == {"cli"}


@pytest.mark.parametrize("path", sorted((CORE / "cli").glob("*.py")), ids=lambda path: path.name)
def test_the_command_line_imports_nothing_heavy_before_a_command_runs(path):
    names = {name.split(".")[0] for name in imports(path, inside_functions=False)}
    assert names <= {"ptb", "click", *sys.stdlib_module_names}


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)
def test_a_built_in_plugin_imports_what_any_plugin_may_and_a_tool_the_internals_too(plugin):
    others = {other.name for other in PLUGINS} - {plugin.name}
    for path in plugin.rglob("*.py"):
        for name in imports(path):
            first, *rest = name.split(".")
            assert first not in others, f"{path} imports {name}"
            is_internal = plugin.name in TOOLS and rest[:1] == ["internals"]
            assert first != "ptb" or len(rest) == 1 or is_internal, f"{path} imports {name}: not public"


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)
def test_a_built_in_plugin_registers_without_torch_and_click(plugin):
    for name in ("__init__", "settings"):
        if (plugin / f"{name}.py").exists():
            assert not {name.split(".")[0] for name in imports(plugin / f"{name}.py")} & (HEAVY | {"click"})


def test_these_tests_can_fail(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("import torch\nfrom ptb.runs.compose import compose\ndef f():\n    import ptb_models.lenet\n")
    assert set(imports(bad)) == {"torch", "ptb.runs.compose.compose", "ptb_models.lenet"}
    assert set(imports(bad, inside_functions=False)) == {"torch", "ptb.runs.compose.compose"}
    with pytest.raises(AssertionError, match="a cycle: a -> b -> a"):
        levels({"a": {"b"}, "b": {"a"}})


@pytest.mark.parametrize("folder", [CORE, *PLUGINS], ids=lambda folder: folder.name)
def test_a_file_is_read_in_one_go(folder):
    sizes = {path.name: len(path.read_text().splitlines()) for path in folder.rglob("*.py")}
    assert {name: size for name, size in sizes.items() if size > 400} == {}
