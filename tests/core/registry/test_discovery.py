"""Among them the traps of pluggy's own loader: each has a test that names it."""

import sys
from importlib.metadata import version

import pytest

from ptb.kinds import KINDS
from ptb.registry.discovery import LoadedPlugin, RejectedPlugin, find_plugins, load_plugin, normalize

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
    assert {kind for kind, _ in loaded.components} <= set(KINDS)
    assert loaded.commands


def test_a_plugin_on_disk_is_found_and_loaded(site):
    site.add("ptb-acme", GOOD, version="1.2")
    plugin = only(site)
    assert (plugin.found.name, plugin.found.version, plugin.found.built_in) == ("ptb-acme", "1.2", False)
    assert [(kind, c.name) for kind, c in plugin.components] == [("model", "tiny")]


def test_finding_imports_nothing(site):
    site.add("ptb-acme", "raise RuntimeError('imported')")
    assert [found.name for found in find_plugins(site.distributions())] == ["ptb-acme"]
    assert "ptb_acme" not in sys.modules


def test_the_order_is_built_in_first_then_by_name(site):
    for name in ("zeta", "Alpha_Beta", "mid.dle"):
        site.add(name, GOOD, module=normalize(name).replace("-", "_"))
    names = [found.name for found in find_plugins([*site.distributions(), find_plugins()[0].dist])]
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
    assert isinstance(broken, RejectedPlugin)
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
    assert isinstance(plugin, RejectedPlugin)
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
    good, stale = site.load()
    assert [c.name for _, c in good.components] == ["tiny"]
    assert (stale.found.name, stale.status) == ("ptb-stale", "failed")
    assert stale.reason.startswith("its metadata cannot be read: ")
    assert stale.reason.endswith(" (ptb_stale-1.0.dist-info)")


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("entry_points.txt", b"[ptb]\nno equals sign\n", "its metadata cannot be read: TypeError"),
        ("entry_points.txt", b"[other]\nno equals sign\n[ptb]\nbad = ptb_bad\n", "its metadata cannot be read: "),
        ("entry_points.txt", b"[ptb]\nacme =\n", ""),
        (
            "METADATA",
            b"Name: ptb-bad\nVersion: 1.0\nSummary: \xe9\n",
            "its metadata cannot be read: UnicodeDecodeError",
        ),
        ("METADATA", b"Name: ptb-bad\n", "its metadata cannot be read: ValueError: they have no name and version"),
    ],
    ids=["no-sign", "other-group", "no-module", "latin-1", "no-version"],
)
def test_metadata_that_cannot_be_read_are_the_fault_of_their_plugin_alone(site, file, content, told):
    site.add("ptb-bad", GOOD)
    site.add("ptb-good", GOOD)
    (site.path / "ptb_bad-1.0.dist-info" / file).write_bytes(content)
    bad, good = site.load()
    assert isinstance(good, LoadedPlugin)
    assert (bad.found.name, bad.status) == ("ptb-bad", "failed")
    assert bad.reason.startswith(told)


def test_a_file_of_entry_points_that_is_no_text_stops_nobody(site):
    site.add("acme", GOOD)
    site.add("ptb-good", GOOD)
    (site.path / "acme-1.0.dist-info" / "entry_points.txt").write_bytes(b"[console_scripts]\nacme = \xff")
    assert isinstance(only(site), LoadedPlugin)


def test_what_raises_beyond_exception_is_set_aside_too(site):
    site.add("ptb-odd", "class Odd(BaseException): pass\nraise Odd('odd')")
    assert only(site).reason == "Odd: odd"


def test_ctrl_c_while_a_plugin_loads_is_ctrl_c(site):
    site.add("ptb-slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        site.load()


def test_an_entry_point_that_names_no_module_is_told(site):
    site.add("ptb-object", GOOD)
    (site.path / "ptb_object-1.0.dist-info" / "entry_points.txt").write_text("[ptb]\nacme = ptb_object:Component\n")
    assert only(site).reason == "ContractError: its entry point must name a module, it names a type"


@pytest.mark.parametrize(
    ("requirement", "fits"),
    [
        ("pytorch-basics>=9", False),
        ("PyTorch_Basics <0.1 , >=0.0.1", False),
        ("pytorch-basics", True),
        ("pytorch-basics>=0.1,<9", True),
        ('pytorch-basics>=9; python_version < "3"', True),
        ('pytorch-basics>=9; extra == "test"', True),
        ("pytorch-basics-extras>=9", True),
        ("pytorch-basics >>> 9", False),
        ("torch>=99", True),
    ],
)
def test_a_plugin_for_another_version_of_ptb_is_set_aside_before_it_is_imported(site, requirement, fits):
    site.add("ptb-acme", GOOD if fits else "raise AssertionError('imported')", requires=[requirement])
    plugin = only(site)
    assert isinstance(plugin, LoadedPlugin) == fits
    if not fits:
        assert plugin.status == "incompatible"
        assert "ptb_acme" not in sys.modules


def test_an_incompatible_plugin_is_told_with_both_versions(site):
    site.add("ptb-acme", GOOD, requires=["pytorch-basics >= 9"])
    assert only(site).reason == f"it needs pytorch-basics>=9, installed is {version('pytorch-basics')}"


def test_of_a_distribution_that_is_installed_twice_the_first_on_the_path_counts(site):
    site.add("ptb-acme", GOOD, version="1.0")
    site.add("ptb-acme", GOOD, version="2.0")
    assert len(site.load()) == 1


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


def test_two_entry_points_may_name_one_module(site):
    site.add("ptb-acme", GOOD)
    (site.path / "ptb_acme-1.0.dist-info" / "entry_points.txt").write_text("[ptb]\na = ptb_acme\nb = ptb_acme\n")
    assert isinstance(only(site), LoadedPlugin)


@pytest.mark.parametrize("raised", ["RuntimeError('no text')", "SystemExit(3)", "TypeError"])
def test_an_exception_whose_text_raises_is_set_aside_like_any_other(site, raised):
    site.add("ptb-odd", f"class Odd(Exception):\n    def __str__(self): raise {raised}\nraise Odd()")
    site.add("ptb-good", GOOD)
    good, odd = site.load()
    assert isinstance(good, LoadedPlugin)
    assert odd.reason == "Odd: (its message cannot be shown)"


def test_what_an_exception_says_cannot_steer_the_terminal(site):
    site.add("ptb-odd", "raise RuntimeError('a\\x1b[2Jb\\x07c')")
    assert only(site).reason == "RuntimeError: a [2Jb c"


# Callbacks and commands -----------------------------------------------------------------------------------------------

CALLBACK = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_callbacks():
        return [Component("ema", "nowhere:Ema", role="actor", before=("freeze",))]
"""
COMMAND = """
    from ptb import Command, hookimpl

    @hookimpl
    def ptb_provide_commands():
        return [Command("tiny", "nowhere:tiny", "A tiny one.")]
"""


def test_a_callback_says_what_it_is(site):
    site.add("ptb-ema", CALLBACK)
    ((kind, component),) = only(site).components
    assert (kind, component.role, component.before) == ("callback", "actor", ("freeze",))


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (CALLBACK.replace('role="actor", ', ""), "callback 'ema' has no role: give role=\"observer\""),
        (CALLBACK.replace("actor", "watcher"), "role has 'watcher'; valid are observer, actor"),
        (CALLBACK.replace("callbacks", "models"), "model 'ema' has role='actor', which only a callback can have"),
        (GOOD.replace('Tiny"', 'Tiny", after=("a",)'), "model 'tiny' has after=('a',), which only a callback can"),
        (GOOD.replace('Tiny"', 'Tiny", better="higher"'), "has better='higher', which only a metric can have"),
    ],
    ids=["no-role", "unknown-role", "role-of-a-model", "order-of-a-model", "better-model"],
)
def test_what_only_one_kind_can_say_is_refused_elsewhere(site, source, told):
    site.add("ptb-odd", source)
    assert told in only(site).reason


def test_a_hook_without_an_end_hangs_nobody(site):
    endless = "import itertools\n        return (Component(f'n{i}', 'a:b') for i in itertools.count())"
    site.add("ptb-endless", GOOD.replace(GOOD[GOOD.index("return [") :].splitlines()[0], endless))
    assert "more than 10,000 records" in only(site).reason


def test_a_plugin_may_provide_commands_only(site):
    site.add("ptb-tiny", COMMAND)
    plugin = only(site)
    assert plugin.components == ()
    assert [(command.name, command.summary) for command in plugin.commands] == [("tiny", "A tiny one.")]


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ("[object()]", "ptb_provide_commands must return Command records, got one object"),
        ("[Component('tiny', 'a:b')]", "ptb_provide_commands must return Command records, got one Component"),
        ("'tiny'", "ptb_provide_commands must return an iterable of Command, got str"),
        ("None", "ptb_provide_commands returns nothing: it must return an iterable of Command"),
        ("[Command('tiny', 'a:b'), Command('tiny', 'c:d')]", "provides command 'tiny' twice: a:b and c:d"),
    ],
)
def test_what_is_no_command_is_told(site, returned, told):
    source = COMMAND.replace("import Command", "import Command, Component")
    site.add("ptb-odd", source.replace('[Command("tiny", "nowhere:tiny", "A tiny one.")]', returned))
    assert told in only(site).reason


def test_what_a_build_leaves_beside_an_installed_plugin_does_not_hide_it(site):
    site.add("ptb-acme", GOOD)
    info = site.path / "ptb_acme-1.0.dist-info"
    (info / "RECORD").write_text("ptb_acme.py,,\n")
    source = site.path / "ptb_acme.egg-info"
    source.mkdir()
    (source / "PKG-INFO").write_text((info / "METADATA").read_text())
    (source / "entry_points.txt").write_text((info / "entry_points.txt").read_text())
    (source / "SOURCES.txt").write_text("LICENSE\n")
    for dists in (list(site.distributions()), list(site.distributions())[::-1]):
        (found,) = find_plugins(dists)
        assert found.dist.read_text("RECORD") is not None
