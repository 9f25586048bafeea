import contextlib
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptb import ConfigError, PluginError, UnknownNameError
from ptb.registry.discovery import find_plugins
from ptb.registry.registry import Registry
from ptb.registry.selection import PluginRequest, Selection

ACME = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_models():
        return [
            Component("tiny", "ptb_acme_models:Tiny", aliases=("small",)),
            Component("lenet", "ptb_acme_models:Tiny"),
            Component("needy", "ptb_acme_models:Tiny", requires=("no-such-package>=2",), extra="all"),
            Component("gone", "ptb_acme_models:Gone"),
            Component("constant", "ptb_acme_models:CONSTANT"),
        ]
"""
TINY = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_models():
        return [Component("tiny", "nowhere:Tiny")]
"""
MODELS = """
    from typing import Annotated
    from pydantic import Field

    CONSTANT = 3

    class Tiny:
        def __init__(self, spec, *, width: Annotated[int, Field(gt=0)] = 16):
            self.spec, self.width = spec, width
"""


@pytest.fixture
def acme(site):
    site.add("ptb-acme", ACME, version="1.2")
    site.write("ptb_acme_models.py", MODELS)
    return site


def test_entries_are_sorted_by_kind_name_and_plugin(acme):
    ids = [entry.id for entry in acme.registry().components("model")]
    assert [name.split(":")[1] for name in ids] == sorted(name.split(":")[1] for name in ids)
    assert [name for name in ids if name.endswith((":gone", ":lenet", ":mlp", ":tiny"))] == [
        "ptb-acme:gone",
        "ptb-acme:lenet",
        "pytorch-basics:lenet",
        "pytorch-basics:mlp",
        "ptb-acme:tiny",
    ]


def test_a_name_an_alias_and_an_id_lead_to_one_entry(acme):
    registry = acme.registry()
    for name in ("tiny", "small", "ptb-acme:tiny", "ptb_acme:tiny", "Ptb.Acme:tiny", "ptb-acme:small"):
        assert registry.get("model", name).id == "ptb-acme:tiny"


def test_looking_up_imports_no_target(acme):
    registry = acme.registry()
    registry.get("model", "tiny")
    with pytest.raises(UnknownNameError):
        registry.get("model", "tini")
    assert "ptb_acme_models" not in sys.modules


def test_build_fills_the_settings_in_and_checks_them(acme):
    registry = acme.registry()
    assert registry.build("model", "tiny", "a spec").width == 16
    assert registry.build("model", "tiny", "a spec", width=4).spec == "a spec"
    with pytest.raises(ConfigError, match=r"model\.width: must be above 0, got -1"):
        registry.build("model", "tiny", "a spec", width=-1)
    with pytest.raises(ConfigError, match="did you mean 'width'"):
        registry.build("model", "tiny", "a spec", widht=1)


def test_a_built_in_keeps_its_name_and_the_other_is_reached_by_its_id(acme):
    registry = acme.registry()
    with pytest.warns(UserWarning, match=r"'lenet' is the built-in one; .* 'ptb-acme:lenet' \(ptb-acme 1\.2\)"):
        built_in = registry.get("model", "lenet")
    assert (built_in.id, built_in.status, built_in.key) == ("pytorch-basics:lenet", "ok", "pytorch-basics:lenet")
    other = registry.get("model", "ptb-acme:lenet")
    assert (other.status, other.key) == ("conflict", "ptb-acme:lenet")
    assert registry.get("model", built_in.key) is built_in
    (plugin,) = [plugin for plugin in registry.plugins() if plugin.name == "ptb-acme"]
    assert plugin.status == "conflict"
    assert f"model 'lenet' is also given by {built_in.found}" in plugin.reason


def test_a_name_that_two_strangers_claim_is_not_decided(acme):
    acme.add("ptb-other", ACME.replace("ptb_acme_models", "ptb_other_models"), version="2.0")
    registry = acme.registry()
    with pytest.raises(ConfigError) as error:
        registry.get("model", "tiny")
    assert "'ptb-acme:tiny' (ptb-acme 1.2), 'ptb-other:tiny' (ptb-other 2.0)" in str(error.value)
    assert {entry.status for entry in registry.components("model") if entry.name == "tiny"} == {"conflict"}
    assert registry.get("model", "ptb-other:tiny").version == "2.0"


def test_a_missing_dependency_is_told_with_the_line_that_installs_it(acme):
    entry = acme.registry().get("model", "needy")
    assert entry.status == "needs no-such-package>=2"
    with pytest.raises(PluginError) as error:
        entry.load()
    assert f"{sys.executable} -m pip install 'ptb-acme[all]'" in str(error.value)


@pytest.mark.parametrize("name", ["gone", "constant"])
def test_a_target_that_is_not_there_names_the_plugin(acme, name):
    with pytest.raises(PluginError, match=rf"model '{name}' \(ptb-acme 1\.2\)"):
        acme.registry().get("model", name).load()


def test_a_target_whose_import_fails_keeps_the_original_exception(acme):
    acme.write("ptb_acme_models.py", "import torch_geometry_that_is_not_here")
    with pytest.raises(PluginError, match="torch_geometry_that_is_not_here") as error:
        acme.registry().get("model", "tiny").load()
    assert isinstance(error.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize(
    ("kind", "name", "told"),
    [
        ("model", "lennet", "did you mean 'lenet'"),
        ("model", "digits", "'digits' is a dataset"),
        ("optimizer", "Adam", "did you mean 'adam'"),
        ("model", "pytorch-basics:lenett", "available: .*lenet, "),
        ("modell", "lenet", "did you mean 'model'"),
        ("model", "", "available: .*lenet, "),
        ("model", ":", "available"),
    ],
)
def test_an_unknown_name_is_told_with_what_there_is(built_in, kind, name, told):
    with pytest.raises(UnknownNameError, match=told):
        built_in.get(kind, name)


def test_a_plugin_that_failed_is_named_where_a_name_is_missing(site):
    site.add("ptb-broken", "raise RuntimeError('boom')", version="3.1")
    registry = site.registry()
    with pytest.raises(UnknownNameError, match=r"that is not used provides it: 'ptb-broken 3\.1' \(failed to load\)"):
        registry.get("model", "vgg")
    (broken,) = [plugin for plugin in registry.plugins() if plugin.status == "failed"]
    assert (broken.name, broken.version, broken.reason) == ("ptb-broken", "3.1", "RuntimeError: boom")


@pytest.mark.parametrize(
    ("source", "selection", "told"),
    [
        (
            TINY,
            Selection(disable=(PluginRequest("ptb-one", "-p no:ptb-one"),)),
            "plugin 'ptb-one 1.0' is disabled by -p no:ptb-one",
        ),
        (
            TINY,
            Selection(only=()),
            "plugin 'ptb-one 1.0' is disabled by --no-plugins or an empty PTB_PLUGINS",
        ),
        ("raise OSError('no')", Selection(), "plugin 'ptb-one 1.0' failed to load: OSError: no"),
    ],
    ids=["disabled", "not-named", "failed"],
)
def test_the_id_of_a_component_whose_plugin_is_not_used_says_why(site, source, selection, told):
    site.add("ptb-one", source)
    site.load()
    registry = Registry(selection.load(find_plugins(site.distributions())))
    with pytest.raises(UnknownNameError) as error:
        registry.get("model", "Ptb_One:tiny")
    assert str(error.value) == f"model 'ptb-one:tiny' cannot be used: {told}"


def test_every_plugin_is_there_as_it_was_found(acme):
    acme.add("ptb-broken", "raise OSError")
    assert [found.name for found in acme.registry().found()] == ["pytorch-basics", "ptb-acme", "ptb-broken"]


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("name: str = 'x'", "cannot be called 'name': that key chooses the component"),
        ("_depth: int = 3", "cannot be called '_depth': pydantic makes no field of it"),
        ("depth: int = Field(3, alias='d')", "a setting has one name only, take the alias away from depth"),
        ("depth: int = Field(3, validation_alias='d')", "a setting has one name only"),
    ],
)
def test_a_setting_that_would_be_passed_over_is_refused(site, model, told):
    site.add("ptb-one", TINY.replace('"nowhere:Tiny"', '"nowhere:Tiny", settings="odd_settings:Options"'))
    site.write("odd_settings.py", f"from pydantic import BaseModel, Field\nclass Options(BaseModel):\n    {model}\n")
    with pytest.raises(PluginError, match=r"^model 'tiny' \(ptb-one 1\.0\): ") as error:
        Registry(site.load()).get("model", "tiny").settings_model()
    assert told in str(error.value)


@settings(max_examples=30, deadline=None)
@given(st.text())
def test_any_text_is_a_name_or_an_unknown_name(built_in, text):
    with contextlib.suppress(UnknownNameError):
        assert text in (built_in.get("model", text).name, built_in.get("model", text).id)


def test_an_alias_that_is_the_name_itself_is_no_conflict(site):
    site.add("ptb-one", TINY.replace('"nowhere:Tiny"', '"nowhere:Tiny", aliases=("tiny", "small", "small")'))
    registry = Registry(site.load())
    assert registry.get("model", "tiny") is registry.get("model", "small")
    assert registry.get("model", "tiny").status == "ok"


def test_annotations_that_cannot_be_read_are_the_plugin_s_fault(site):
    site.add("ptb-one", TINY.replace("nowhere:Tiny", "odd_parts:tiny"))
    site.write("odd_parts.py", "from __future__ import annotations\ndef tiny(spec, *, w: Sequence[int] = (3,)): ...\n")
    with pytest.raises(PluginError, match=r"model 'tiny' \(ptb-one 1\.0\).*Sequence"):
        Registry(site.load()).get("model", "tiny").settings_model()


# Defaults and commands -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "target_kind", "names"),
    [
        *(("dataset", None, ["digits"]), ("scheduler", None, ["cosine"]), ("loss", None, [])),
        *(("loss", "class", ["cross-entropy"]), ("metric", "real", ["mae", "rmse"]), ("optimizer", "class", ["adam"])),
        *(("model", "class", []), ("callback", None, ["report"])),
    ],
)
def test_the_built_in_defaults_of_each_kind(built_in, kind, target_kind, names):
    assert [entry.name for entry in built_in.defaults(kind, target_kind)] == names


def test_a_default_of_another_plugin_changes_nothing(site):
    site.add("ptb-one", TINY.replace('"nowhere:Tiny"', '"nowhere:Tiny", default_for="*"'))
    assert site.registry().defaults("model") == []


COMMANDS = """
    from ptb import Command, hookimpl

    @hookimpl
    def ptb_provide_commands():
        return [Command("tiny", "ptb_acme_commands:tiny"), Command("plugins check", "ptb_acme_commands:gone")]
"""


def test_commands_are_sorted_and_know_who_else_has_their_name(site):
    site.add("ptb-one", COMMANDS)
    site.add("ptb-two", COMMANDS.replace("plugins check", "plugins tidy"))
    commands = {f"{each.found.name} {each.command.name}": each for each in site.registry().commands()}
    assert [name for name in commands if name.startswith("ptb-")] == [
        *("ptb-one plugins check", "ptb-two plugins tidy", "ptb-one tiny", "ptb-two tiny")
    ]
    conflicts = {name: [found.name for found in each.conflicts] for name, each in commands.items() if each.conflict}
    assert conflicts == {
        "ptb-one plugins check": ["pytorch-basics"],
        "ptb-one tiny": ["ptb-two"],
        "ptb-two tiny": ["ptb-one"],
    }
    assert not commands["pytorch-basics plugins check"].conflict
    check = commands["ptb-one plugins check"]
    assert (check.group, check.word, check.id) == ("plugins", "check", "ptb-one:check")
    assert "ptb_acme_commands" not in sys.modules


def test_the_plugins_count_their_commands_and_name_those_that_conflict(site):
    site.add("ptb-one", COMMANDS)
    infos = {info.name: info for info in site.registry().plugins()}
    assert (infos["ptb-one"].components, infos["ptb-one"].commands, infos["ptb-one"].status) == (0, 2, "conflict")
    assert infos["ptb-one"].reason.startswith("command 'plugins check' is also given by pytorch-basics ")
    assert infos["pytorch-basics"].status == "ok"


def test_a_command_that_cannot_be_imported_names_its_plugin(site):
    site.add("ptb-one", COMMANDS)
    site.write("ptb_acme_commands.py", "tiny = 3")
    commands = {each.command.name: each for each in Registry(site.load()).commands()}
    assert commands["tiny"].load() == 3
    with pytest.raises(PluginError, match=r"^command 'plugins check' \(ptb-one 1\.0\): importing .*:gone failed"):
        commands["plugins check"].load()
