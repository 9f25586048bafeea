"""Among them the traps of pluggy's own loader: each has a test that names it."""

import sys

import pytest

from ptb.discovery import FailedPlugin, LoadedPlugin, find_plugins, load_plugin, normalize
from ptb.hookspecs import HOOKS

GOOD = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_models():
        return [Component("tiny", "nowhere:Tiny")]
"""


def only(site):
    (plugin,) = site.load()
    return plugin


def test_the_built_in_components_come_through_entry_points():
    found = find_plugins()
    assert found[0].name == "pytorch-basics"
    loaded = load_plugin(found[0])
    assert isinstance(loaded, LoadedPlugin)
    assert {kind for kind, _ in loaded.components} == set(HOOKS)


def test_a_plugin_on_disk_is_found_and_loaded(site):
    site.add("ptb-acme", GOOD, version="1.2")
    plugin = only(site)
    assert (plugin.found.name, plugin.found.version, plugin.found.built_in) == ("ptb-acme", "1.2", False)
    assert [(kind, c.name) for kind, c in plugin.components] == [("model", "tiny")]


def test_finding_imports_nothing(site):
    site.add("ptb-acme", "raise RuntimeError('imported')")
    assert [found.name for found in find_plugins(site.points())] == ["ptb-acme"]
    assert "ptb_acme" not in sys.modules


def test_the_order_is_built_in_first_then_by_name(site):
    for name in ("zeta", "Alpha_Beta", "mid.dle"):
        site.add(name, GOOD, module=normalize(name).replace("-", "_"))
    names = [found.name for found in find_plugins([*site.points(), *find_plugins()[0].entry_points])]
    assert names == ["pytorch-basics", "alpha-beta", "mid-dle", "zeta"]


@pytest.mark.parametrize(
    "source",
    [
        "import no_such_module_anywhere",
        "raise RuntimeError('boom')",
        "def broken(:",
        "import sys; sys.exit('bye')",
        "raise SystemExit",
        "import os; raise OSError(5, 'disk')",
    ],
)
def test_trap_1_a_plugin_that_raises_at_import_is_set_aside_and_the_rest_lives(site, source):
    site.add("a-broken", source)
    site.add("b-good", GOOD)
    broken, good = site.load()
    assert isinstance(broken, FailedPlugin)
    assert broken.reason
    assert isinstance(good, LoadedPlugin)


def test_trap_1_two_distributions_with_one_entry_point_name_are_both_loaded(site):
    site.add("ptb-one", GOOD)
    site.add("ptb-two", GOOD.replace("tiny", "other"))
    for info in site.path.glob("*.dist-info"):
        module = info.name.split("-")[0]
        (info / "entry_points.txt").write_text(f"[ptb]\nsame = {module}\n")
    assert [c.name for plugin in site.load() for _, c in plugin.components] == ["tiny", "other"]


def test_trap_2_a_plugin_that_fails_validation_leaves_none_of_its_hooks(site):
    site.add(
        "half-good",
        GOOD
        + """
    @hookimpl
    def ptb_provide_losses(unknown_argument):
        return [Component("never", "nowhere:Never")]
""",
    )
    plugin = only(site)
    assert isinstance(plugin, FailedPlugin)
    assert "unknown_argument" in plugin.reason


def test_trap_3_attributes_that_are_no_hooks_are_never_read(site):
    site.add(
        "lazy",
        GOOD
        + """
    def __dir__():
        return ["ptb_provide_models", "torch", "heavy"]

    def __getattr__(name):
        raise AssertionError(f"{name} was read")
""",
    )
    assert isinstance(only(site), LoadedPlugin)


def test_trap_4_an_argument_with_a_default_is_refused(site):
    site.add("defaulted", GOOD.replace("models()", "models(width=5)"))
    assert "takes no arguments" in only(site).reason


def test_trap_5_a_hook_that_raises_stops_its_own_plugin_only(site):
    site.add("a-raises", GOOD.replace("return [", "raise KeyError('x')\n        return ["))
    site.add("b-good", GOOD)
    raises, good = site.load()
    assert raises.reason == "KeyError: 'x'"
    assert isinstance(good, LoadedPlugin)


def test_trap_6_an_unknown_hook_is_told_with_a_suggestion(site):
    site.add("misspelt", GOOD.replace("ptb_provide_models", "ptb_provide_modles"))
    assert only(site).reason == (
        "ContractError: unknown hook 'ptb_provide_modles' (did you mean 'ptb_provide_models'?)"
    )


def test_a_hook_without_its_mark_is_not_passed_over_in_silence(site):
    site.add("unmarked", GOOD.replace("@hookimpl", ""))
    assert "@hookimpl" in only(site).reason


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ("[object()]", "Component records, got one object"),
        ("'tiny'", "iterable of Component, got str"),
        ("3", "iterable of Component, got int"),
        ("[Component('Tiny', 'a:b')]", "must match"),
        ("[Component('tiny', 'a:b'), Component('tiny', 'c:d')]", "'tiny' twice: a:b and c:d"),
        ("[Component('tiny', 'a:b'), Component('other', 'c:d', aliases=('tiny',))]", "'tiny' twice"),
    ],
)
def test_what_is_no_component_is_told(site, returned, told):
    site.add("ptb-odd", GOOD.replace('[Component("tiny", "nowhere:Tiny")]', returned))
    assert told in only(site).reason


def test_a_generator_of_components_is_welcome(site):
    site.add(
        "ptb-generator", GOOD.replace('return [Component("tiny", "nowhere:Tiny")]', "yield Component('tiny', 'a:b')")
    )
    assert [c.name for _, c in only(site).components] == ["tiny"]


def test_a_plugin_of_several_entry_points_is_one_plugin(site):
    site.add("ptb-acme", GOOD)
    site.write("ptb_more.py", GOOD.replace("tiny", "more").replace("models", "losses"))
    (info,) = site.path.glob("*.dist-info")
    (info / "entry_points.txt").write_text("[ptb]\na = ptb_acme\nb = ptb_more\n")
    assert [(kind, c.name) for kind, c in only(site).components] == [("model", "tiny"), ("loss", "more")]


def test_of_a_plugin_that_breaks_in_one_part_nothing_is_used(site):
    site.add("ptb-acme", GOOD)
    site.write("ptb_more.py", "raise ValueError('second part')")
    (info,) = site.path.glob("*.dist-info")
    (info / "entry_points.txt").write_text("[ptb]\na = ptb_acme\nb = ptb_more\n")
    assert only(site).reason == "ValueError: second part"


def test_metadata_without_a_name_stops_nobody(site):
    site.add("ptb-acme", GOOD)
    site.add("ptb-stale", GOOD.replace("tiny", "stale"))
    (site.path / "ptb_stale-1.0.dist-info" / "METADATA").unlink()
    assert {c.name for plugin in site.load() for _, c in plugin.components} == {"tiny", "stale"}


def test_a_marked_function_that_is_no_hook_is_told(site):
    site.add("ptb-odd", GOOD.replace("ptb_provide_models", "provide_models"))
    assert only(site).reason == "ContractError: unknown hook 'provide_models' (did you mean 'ptb_provide_models'?)"


def test_a_hook_that_forgets_to_return_is_told(site):
    site.add("ptb-forgets", GOOD.replace("return [", "["))
    assert only(site).reason == (
        "ContractError: ptb_provide_models returns nothing: it must return an iterable of Component"
    )


def test_a_plugin_without_a_hook_is_told(site):
    site.add("ptb-empty", "x = 1")
    assert "implements no hook; there are: ptb_provide_datasets" in only(site).reason
