import pytest

from ptb import ConfigError, PluginError
from ptb.registry.discovery import LoadedPlugin, find_plugins
from ptb.registry.registry import load_registry
from ptb.registry.selection import PluginRequest, Selection

GOOD = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_models():
        return [Component("tiny", "nowhere:Tiny")]
"""
IMPORTED = "raise AssertionError('imported')"


def requests(*texts, source="run.toml:3"):
    return tuple(PluginRequest(text, source) for text in texts)


@pytest.fixture
def three(site):
    """Good, broken, and one that must not be imported; beside the built-in one."""
    site.add("ptb-good", GOOD, version="1.2")
    site.add("ptb-broken", "raise RuntimeError('boom')")
    site.add("ptb-never", IMPORTED)
    site.load()
    return [*(found for found in find_plugins() if found.built_in), *find_plugins(site.distributions())]


def statuses(selection, found):
    return {
        plugin.found.name: "ok" if isinstance(plugin, LoadedPlugin) else plugin.status
        for plugin in selection.load(found)
        if not plugin.found.built_in
    }


def test_without_a_wish_everything_is_loaded(three):
    assert statuses(Selection(), three) == {"ptb-broken": "failed", "ptb-good": "ok", "ptb-never": "failed"}


@pytest.mark.parametrize("name", ["ptb-never", "ptb_never", "Ptb.Never"])
def test_a_disabled_plugin_is_not_imported(three, name):
    by = {p.found.name: p for p in Selection(disable=requests(name, source="-p no:ptb-never")).load(three)}
    assert (by["ptb-never"].status, by["ptb-never"].reason) == ("disabled", "by -p no:ptb-never")
    assert by["ptb-never"].cause is None


@pytest.mark.parametrize(("only", "ok"), [((), set()), (("ptb-good",), {"ptb-good"})])
def test_only_what_is_asked_for_takes_part_and_the_built_in_always(three, only, ok):
    loaded = {p.found.name for p in Selection(only=requests(*only)).load(three) if isinstance(p, LoadedPlugin)}
    assert loaded == ok | {"pytorch-basics"}


def test_two_selections_leave_what_both_leave(three):
    both = Selection(only=requests("ptb-good", "ptb-broken")) + Selection(disable=requests("ptb-broken"))
    assert statuses(both, three) == {"ptb-broken": "disabled", "ptb-good": "ok", "ptb-never": "disabled"}
    narrower = Selection(only=requests("ptb-good", "ptb-broken")) + Selection(only=requests("Ptb_Good"))
    assert statuses(narrower, three)["ptb-good"] == "ok"
    assert statuses(narrower, three)["ptb-broken"] == "disabled"


@pytest.mark.parametrize("field", ["only", "disable"])
def test_an_unknown_name_is_an_error_with_a_suggestion_and_its_source(three, field):
    with pytest.raises(ConfigError) as error:
        Selection(**{field: requests("ptb-god", "zzz")}).load(three)
    told = str(error.value)
    assert "unknown plugin 'ptb-god' (did you mean 'ptb-good'?); installed are ptb-broken, ptb-good, ptb-never" in told
    assert "[run.toml:3]" in told
    assert "'zzz'" in told


@pytest.mark.parametrize("name", ["pytorch-basics", "PyTorch_Basics", "ptb"])
def test_the_built_in_plugin_cannot_be_disabled(three, name):
    with pytest.raises(ConfigError, match=r"the built-in plugin .* cannot be disabled"):
        Selection(disable=requests(name)).load(three)


def test_a_required_plugin_that_is_there_is_no_fault(three):
    Selection(require=requests("ptb-good>=1.2", "pytorch-basics>=0.1", "Ptb_Good")).load(three)


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ("ptb-good>=2", r"ptb-good>=2: installed is 1\.2\n.* -m pip install 'ptb-good>=2'"),
        (
            "ptb-goof",
            r"ptb-goof: not installed as a plugin \(did you mean 'ptb-good'\?\)\n.* -m pip install ptb-goof",
        ),
        ("ptb-broken", r"ptb-broken: failed, RuntimeError: boom$"),
    ],
)
def test_a_required_plugin_that_is_not_there_ends_with_what_to_type(three, wish, told):
    with pytest.raises(PluginError, match=f"(?s){told}"):
        Selection(require=requests(wish)).load(three)


def test_a_requirement_that_is_none_is_a_config_error(three):
    with pytest.raises(ConfigError, match="'>>>' is not a requirement"):
        Selection(require=requests(">>>")).load(three)


def test_strict_names_every_plugin_that_cannot_be_loaded_but_not_the_disabled(three):
    with pytest.raises(PluginError) as error:
        Selection(strict=True).load(three)
    assert "'ptb-broken 1.0': RuntimeError: boom" in str(error.value)
    assert "'ptb-never 1.0'" in str(error.value)
    Selection(strict=True, disable=requests("ptb-broken", "ptb-never")).load(three)


@pytest.mark.parametrize(
    ("environment", "selection"),
    [
        ({}, Selection()),
        ({"PTB_PLUGINS": ""}, Selection(only=())),
        ({"PTB_PLUGINS": " a, b,"}, Selection(only=requests("a", "b", source="PTB_PLUGINS"))),
        ({"PTB_STRICT_PLUGINS": "1"}, Selection(strict=True)),
        ({"PTB_STRICT_PLUGINS": "0"}, Selection()),
        ({"PTB_STRICT_PLUGINS": "no"}, Selection()),
        ({"PTB_STRICT_PLUGINS": ""}, Selection()),
    ],
    ids=str,
)
def test_the_environment_is_read(monkeypatch, environment, selection):
    for name in ("PTB_PLUGINS", "PTB_STRICT_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Selection.of_environment() == selection


def test_the_environment_counts_for_the_python_interface_too(monkeypatch):
    monkeypatch.setenv("PTB_PLUGINS", "")
    assert {plugin.status for plugin in load_registry().plugins() if plugin.name != "pytorch-basics"} <= {"disabled"}
    with pytest.raises(ConfigError, match="unknown plugin 'ptb-nothing'"):
        load_registry(disable=["ptb-nothing"])


@pytest.mark.parametrize(
    ("only", "reason"),
    [
        (requests("ptb-good", source="PTB_PLUGINS"), "by PTB_PLUGINS, which names only ptb-good"),
        (requests("ptb-good", source=""), "by the caller, which names only ptb-good"),
        ((), "by --no-plugins or an empty PTB_PLUGINS"),
    ],
)
def test_what_is_not_named_is_disabled_by_who_names_the_others(three, only, reason):
    by = {p.found.name: p for p in Selection(only=only).load(three)}
    assert (by["ptb-never"].status, by["ptb-never"].reason) == ("disabled", reason)


@pytest.mark.parametrize("argument", ["only", "disable", "require"])
@pytest.mark.parametrize("value", ["ptb-good", ["ptb-good", 3]], ids=str)
def test_names_are_given_as_a_list_of_strings(argument, value):
    with pytest.raises(TypeError, match=f"{argument} must be a list of strings, got .*ptb-good"):
        load_registry(**{argument: value})
