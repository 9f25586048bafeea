import ast
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

import ptb
from ptb import errors
from ptb.cli import main
from ptb.cli.progress import SIGNALS
from ptb.config import resolve, sections
from ptb.config.layers import FLAGS
from ptb.kinds import KINDS
from ptb.registry.discovery import HOOKS, find_plugins, load_plugin
from ptb.registry.registry import Registry

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CORE = ROOT / "core" / "ptb"
GENERATOR = DOCS / "reference" / "generate.py"
STOPPED = ("129", "130", "143")


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate_reference", GENERATOR)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built_in():
    return Registry([load_plugin(found) for found in find_plugins() if found.built_in])


def page(name):
    return (DOCS / name).read_text(encoding="utf-8")


def headings(name, level):
    return re.findall(rf"^#{{{level}}} (.+)$", page(name), re.M)


def section(name, heading, after="# "):
    """The text under a heading, the first one behind ``after``, up to the next one of any level."""
    rest = page(name).split(after, 1)[1].split(f"# {heading}\n", 1)[1]
    return re.split(r"^#+ .+$", rest, maxsplit=1, flags=re.M)[0]


def keys(text):
    """The first cells of the rows of a table."""
    return re.findall(r"^\| `([^`]+)` \|", text, re.M)


def commands(command=main, path=("ptb",)):
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


def error_classes(base=errors.PtbError):
    yield base
    for child in base.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from error_classes(child)


def test_the_generated_pages_are_up_to_date(generate):
    for name, text in generate.pages().items():
        assert page(f"reference/{name}") == text, f"run: python docs/reference/generate.py ({name} is stale)"


def test_the_check_passes_whatever_the_terminal_and_the_hash_seed():
    environment = {**os.environ, "COLUMNS": "50", "PYTHONHASHSEED": "7", "TERM": "dumb"}
    done = subprocess.run([sys.executable, GENERATOR, "--check"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_check_names_stale_pages_and_writes_nothing(generate, tmp_path):
    for name, text in generate.pages().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "hooks.md").write_text("old", encoding="utf-8")
    lines = []
    assert generate.main(["--check"], tmp_path, lines.append) == 1
    assert lines == [f"stale: {tmp_path / 'hooks.md'}"]
    assert (tmp_path / "hooks.md").read_text(encoding="utf-8") == "old"
    assert generate.main([], tmp_path, lines.append) == 0
    assert generate.main(["--check"], tmp_path, lines.append) == 0


def test_every_hook_and_no_other_is_described():
    assert headings("reference/hooks.md", 2) == list(HOOKS)
    how_to = page("how-to/write-a-plugin.md").split("## What the core calls", 1)[1]
    assert set(re.findall(r"`(ptb_provide_\w+)` \|", how_to)) == set(HOOKS)


def test_every_component_and_no_other_is_described(built_in):
    assert headings("reference/components.md", 3) == [entry.name for entry in built_in.components()]
    assert len(headings("reference/components.md", 2)) == len(KINDS)


def test_every_setting_and_no_other_is_described(built_in, generate):
    for entry in built_in.components():
        text = section("reference/components.md", entry.name, after=f"\n## {generate.TITLES[entry.kind]}\n")
        assert keys(text) == list(entry.settings_model().model_fields), entry


def test_every_configuration_key_and_no_other_is_described():
    assert keys(section("reference/config.md", "Keys outside of sections")) == list(sections.RunSettings.model_fields)
    assert keys(section("reference/config.md", "Sections of components")) == list(resolve.COMPONENT_SECTIONS)
    of_core = {**sections.CORE_SECTIONS, **sections.SHARED_SECTIONS}
    groups = list(sections.ParameterGroup.model_fields)
    for name, model in of_core.items():
        more = groups if name == "optimizer" else []
        assert keys(section("reference/config.md", name)) == [f"{name}.{key}" for key in model.model_fields] + more
    assert set(headings("reference/config.md", 2)) >= {"metrics", *of_core}


def test_every_flag_is_described():
    assert {flag for flag in FLAGS if f"`--{flag}`" not in page("reference/config.md")} == set()


def test_every_command_with_its_options_and_no_other_is_described():
    assert set(headings("reference/commands.md", 2)) == {" ".join(path) for path, _ in commands()}
    for path, command in commands():
        text = section("reference/commands.md", " ".join(path))
        shown = [param for param in command.params if isinstance(param, click.Option) and not param.hidden]
        options = {name for param in shown for name in param.opts}
        assert set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*(?=[ ,].*\S)", text.split("Options:")[1])) >= options, path
        assert command.help, f"{path} has no help"


def test_every_public_name_and_no_other_is_described():
    described = {*headings("reference/python.md", 2), *keys(section("reference/python.md", "Errors"))}
    assert described - {"Errors", "What a registry hands out"} == set(ptb.__all__)


def test_every_exit_code_and_error_is_described():
    text = page("reference/exit-codes.md")
    rows = dict(re.findall(r"^\| (\d+) \| (.*?) \|", text, re.M))
    for error in error_classes():
        codes = STOPPED if error is errors.InterruptedRunError else (str(error.exit_code),)
        assert all(f"`{error.__name__}`" in rows[code] for code in codes), error
    assert {str(128 + number) for number in SIGNALS} <= set(STOPPED)
    assert set(rows) == {"0", *STOPPED} | {
        str(e.exit_code) for e in error_classes() if e is not errors.InterruptedRunError
    }


def module_files():
    files = {str(path.relative_to(CORE).as_posix()) for path in CORE.rglob("*.py")}
    return {name for name in files if not name.startswith("testing/") or name == "testing/__init__.py"}


def module_table():
    rows = re.findall(r"^\| `([\w/]+\.py)` \|", page("explanation/what-happens.md"), re.M)
    assert len(rows) == len(set(rows))
    return rows


def test_every_module_of_the_core_is_explained_and_no_other():
    assert set(module_table()) == module_files()


def test_every_file_that_the_explanation_names_exists():
    for name in re.findall(r"`([\w/]+\.py)`", page("explanation/what-happens.md")):
        assert (CORE / name).is_file() or (ROOT / "plugins" / name).is_file(), name


def test_the_table_of_modules_stands_in_the_order_of_imports():
    order = module_table()
    for position, name in enumerate(order[2:], start=2):
        for imported in set(imports(CORE / name)) - {name}:
            assert imported in order[:position], f"{name} imports {imported}"


def imports(path):
    """The modules of the core that a file imports, inside functions too, but not for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for block in ast.walk(tree):
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            block.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ptb":
            whole = node.module != "ptb"
            for name in [node.module] if whole else [f"ptb.{alias.name}" for alias in node.names]:
                file = f"{name.removeprefix('ptb.').replace('.', '/')}.py"
                file = file if (CORE / file).is_file() else file.replace(".py", "/__init__.py")
                yield "testing/__init__.py" if file.startswith("testing/") else file


def pages_with_links():
    found = [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    return [path for path in found if path.is_file()]


@pytest.mark.parametrize("path", pages_with_links(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.S | re.M)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), f"{path.name} links to {link}"
        if anchor:
            slugs = [
                re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-")
                for h in re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.M)
            ]
            assert anchor in slugs, f"{path.name} links to {link}"


def test_the_index_lists_every_page():
    linked = set(re.findall(r"\]\(([^)]+\.md)\)", page("README.md")))
    assert linked == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - {"README.md"}


def test_every_dependency_is_explained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.match(r"[\w-]+", text)[0] for text in project["dependencies"]}
    assert (
        set(re.findall(r"^\| ([\w-]+) \|", page("explanation/dependencies.md"), re.M)) - {"dependency", "---"} == names
    )
