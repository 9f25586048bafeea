import multiprocessing
import os
import sys
import textwrap
from operator import attrgetter
from types import SimpleNamespace

import pytest

from ptb import Component, ConfigError, PluginError, hookimpl, load_registry
from ptb.registry.local import found_locally

PLUGIN = """
    from ptb import Component, hookimpl

    class Net:
        def __init__(self, spec, *, width: int = 3):
            self.width = width

    @hookimpl
    def ptb_provide_models():
        return [Component("net", f"{__name__}:Net", summary="From a file")]
"""


class Net:
    def __init__(self, spec): ...


class Session:
    @hookimpl
    def ptb_provide_models(self):
        return [Component("net", f"{__name__}:Net")]


class Static:
    @staticmethod
    @hookimpl
    def ptb_provide_models():
        return [Component("net", f"{__name__}:Net")]


@pytest.fixture(autouse=True)
def cleared(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if name.startswith("ptb_file_"):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path):
    def make(name, source=PLUGIN):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(textwrap.dedent(source))
        return file

    return make


def test_a_file_is_a_plugin(write):
    file = write("my-net.py")
    registry = load_registry(plugins=[file, str(file)])  # given twice it is there once
    entry = registry.get("model", "net")
    assert (entry.id, str(entry.found), entry.target) == ("my-net.py:net", "my-net.py", "ptb_file_my_net:Net")
    assert registry.get("model", "my-net.py:net") is entry
    assert registry.build("model", "net", None, width=5).width == 5
    (info,) = (plugin for plugin in registry.plugins() if plugin.name == "my-net.py")
    assert (info.status, info.components, info.location) == ("ok", 1, str(file))


def test_it_runs_once_and_again_when_it_has_changed(write):
    file = write("mynet.py")
    first = load_registry(plugins=[file]).get("model", "net").load()
    assert load_registry(plugins=[file]).get("model", "net").load() is first
    write("mynet.py", PLUGIN.replace("= 3", "= 4"))
    changed = load_registry(plugins=[file])
    assert changed.get("model", "net").load() is not first
    assert changed.build("model", "net", None).width == 4


def test_only_the_file_itself_can_be_imported(write):
    write("beside.py", "x = 1")
    with pytest.raises(PluginError, match=r"No module named 'beside'; a plugin file cannot import the files beside it"):
        load_registry(plugins=[write("mynet.py", "import beside")])
    assert "ptb_file_mynet" not in sys.modules


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_that_begin_anew_can_read_its_objects(write, method):
    net = load_registry(plugins=[write("mynet.py")]).build("model", "net", None, width=7)
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(attrgetter("width"), (net,)) == 7


@pytest.mark.parametrize(
    ("plugin", "owner"),
    [
        (Session(), "Session"),
        (Static, "Static"),
        (SimpleNamespace(ptb_provide_models=Static.ptb_provide_models), "SimpleNamespace"),
    ],
    ids=["object", "class", "namespace"],
)
def test_an_object_with_hooks_is_a_plugin(plugin, owner):
    registry = load_registry(plugins=[plugin])
    assert registry.get("model", f"{owner}:net").load() is Net
    assert registry.get("model", "net").id == f"{owner}:net"


def test_a_module_is_a_plugin(monkeypatch):
    module = sys.modules[__name__]
    monkeypatch.setattr(module, "ptb_provide_models", Static.ptb_provide_models, raising=False)
    assert load_registry(plugins=[module]).get("model", "net").id == f"{__name__}:net"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\nprint(y)\n", r"NameError: name 'y' is not defined \(bad.py, line 2\)"),
        ("def f(:\n", r"SyntaxError: invalid syntax \(bad.py, line 1\)"),
        ("raise SystemExit\n", r"SystemExit \(bad.py, line 1\)"),
        ("x = 1\n", "implements no hook; there are: ptb_provide_datasets"),
        (PLUGIN.replace("@hookimpl", ""), "is not marked: put @hookimpl"),
    ],
    ids=["raises", "syntax", "exits", "no hook", "no mark"],
)
def test_one_that_cannot_be_used_is_an_error(write, source, message):
    with pytest.raises(PluginError, match=f"^plugin 'bad.py' cannot be used: .*{message}"):
        load_registry(plugins=[write("bad.py", source)])


def test_a_file_with_a_model_and_no_hook_gets_the_lines_that_it_lacks(write):
    source = "from torch import nn\n\nclass Block(nn.Module): ...\n\nclass MyNet(nn.Module): ..."
    with pytest.raises(PluginError) as raised:
        load_registry(plugins=[write("mynet.py", source)])
    head, lines = str(raised.value).split("add these lines:\n")
    assert "class MyNet is there, and no hook names it" in head
    registry = load_registry(plugins=[write("mynet.py", f"{source}\n{lines}\n")])
    assert registry.get("model", "my-net").load().__name__ == "MyNet"


def test_what_is_no_plugin_file_is_refused_before_anything_runs(write, tmp_path):
    for path, message in (
        (tmp_path / "gone.py", "there is no such file"),
        (tmp_path, "is a folder; name the .py file in it"),
        (write("acme/__init__.py"), "is one file of a package, and the others could not be imported"),
        (write("my net.py"), "a file whose name ends in .py and has no spaces"),
        (write("mynet.txt"), "a file whose name ends in .py"),
    ):
        with pytest.raises(ConfigError, match=message):
            found_locally(path)
    with pytest.raises(TypeError, match="plugins must be a list"):
        load_registry(plugins="mynet.py")


def test_two_of_one_name_are_refused(write):
    for pair in (
        [write("mynet.py"), write("other/mynet.py")],
        [write("my-net.py"), write("my_net.py")],
        [Session()] * 2,
    ):
        if pair[0] is pair[1]:
            pair[1] = Session()
        with pytest.raises(ConfigError, match="two plugins have the name"):
            load_registry(plugins=pair)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("./mynet.py", "ptb -p ./mynet.py run --model NAME"),
        ("mynet:MyNet", "ptb -p ./mynet.py run --model my-net"),
        ("package.nets:my_net", "ptb -p ./package/nets.py run --model my-net"),
        ("./a b.py:Net", "ptb -p './a b.py' run --model net"),
    ],
)
def test_a_path_or_a_class_in_place_of_a_name_gets_the_command(name, command):
    with pytest.raises(ConfigError, match="is no name of a model") as raised:
        load_registry().get("model", name)
    assert f"\n  {command}\n" in str(raised.value)


def test_an_id_of_a_plugin_that_is_not_there_says_so():
    with pytest.raises(ConfigError, match=r"unknown model 'Session:net'.*there is no plugin 'Session'"):
        load_registry().get("model", "Session:net")


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "L1Loss"])
def test_a_loss_of_torch_is_no_target_and_the_message_has_the_wrapper(write, name):
    source = f"""
        import torch
        from ptb import Component, hookimpl

        @hookimpl
        def ptb_provide_losses():
            return [Component("mine", "torch.nn:{name}"), Component("wrapped", f"{{__name__}}:make")]
    """
    file = write("loss.py", source)
    with pytest.raises(PluginError, match="first argument is the DataSpec") as raised:
        load_registry(plugins=[file]).get("loss", "mine").settings_model()
    wrapper = str(raised.value).partition("target:\n")[2]
    file.write_text(file.read_text() + textwrap.dedent(wrapper))
    assert type(load_registry(plugins=[file]).build("loss", "wrapped", None)).__name__ == name


def test_home_is_expanded(write, monkeypatch):
    file = write("mynet.py")
    monkeypatch.setenv("HOME", str(file.parent))
    assert found_locally(os.path.join("~", file.name)).location == str(file)
