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
from ptb.config import sections
from ptb.config.layers import FLAGS
from ptb.errors import SIGNALS
from ptb.kinds import KINDS, RUN_KINDS
from ptb.registry.contract import HOOKS
from ptb.registry.discovery import find_plugins, load_plugin
from ptb.registry.registry import Registry
from ptb.training.callbacks import ACTOR_EVENTS, EVENTS

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
    assert headings("reference/hooks.md", 2) == [*HOOKS, "Events of callbacks"]
    told = section("reference/hooks.md", "Events of callbacks")
    events = re.findall(r"^\| `(\w+)\(", told, re.M)
    assert events == [*EVENTS, *ACTOR_EVENTS]
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
    assert keys(section("reference/config.md", "Sections of components")) == [
        kind.section for kind in RUN_KINDS.values() if not kind.labelled
    ]
    of_core = {**sections.CORE_SECTIONS, **sections.SHARED_SECTIONS}
    groups = list(sections.ParameterGroup.model_fields)
    for name, model in of_core.items():
        more = groups if name == "optimizer" else []
        assert keys(section("reference/config.md", name)) == [f"{name}.{key}" for key in model.model_fields] + more
    assert set(headings("reference/config.md", 2)) >= {"metrics", "callbacks", *of_core}


def test_every_flag_is_described():
    assert {flag for flag in FLAGS if f"`--{flag}`" not in page("reference/config.md")} == set()


def test_every_command_with_its_options_and_no_other_is_described(generate, built_in):
    contexts = list(generate.commands(built_in))
    assert headings("reference/commands.md", 2) == [context.command_path for context in contexts]
    names = {record.command.name for record in built_in.commands()}
    assert {f"ptb {name}" for name in names} <= {context.command_path for context in contexts}
    for context in contexts:
        text = section("reference/commands.md", context.command_path)
        shown = [param for param in context.command.params if isinstance(param, click.Option) and not param.hidden]
        options = {name for param in shown for name in param.opts}
        found = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*(?=[ ,].*\S)", text.split("Options:")[1]))
        assert found >= options, context.command_path
        assert context.command.help, f"{context.command_path} has no help"


def test_every_public_name_and_no_other_is_described():
    described = {*headings("reference/python.md", 2), *keys(section("reference/python.md", "Errors"))}
    assert described - {"Errors", "What a registry hands out"} == set(ptb.__all__)


def test_the_names_that_need_torch_are_told():
    told = set(re.findall(r"`(\w+)`", page("reference/python.md").partition("need torch")[0]))
    light = [name for name in ptb.__all__ if name not in told]
    code = f"import sys, ptb; [getattr(ptb, name) for name in {light}]; sys.exit('torch' in sys.modules)"
    assert len(light) < len(ptb.__all__)
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


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


@pytest.mark.parametrize("name", ["explanation/what-happens.md", "how-to/where-does-my-change-go.md"])
def test_every_file_that_a_page_names_exists(name):
    for file in re.findall(r"`([\w/]+\.py)`", page(name)):
        places = [CORE / file, *CORE.glob(f"*/{file}"), ROOT / "plugins" / file, ROOT / file]
        assert any(place.is_file() for place in places), file


def test_the_picture_shows_every_wing_and_no_other():
    drawn = set(re.findall(r'^    (\w+)\["', page("explanation/what-happens.md"), re.M)) - {"plugins", "ground"}
    assert drawn == {path.parent.name for path in CORE.glob("*/__init__.py")}


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
