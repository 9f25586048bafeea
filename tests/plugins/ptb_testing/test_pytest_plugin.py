import subprocess
import sys

import pytest

from ptb import ConfigError, DataSpec, PluginError
from ptb.registry.discovery import find_plugins

SPEC = DataSpec((4,), "vector", "class", 3)


@pytest.fixture
def acme(site, monkeypatch):
    monkeypatch.syspath_prepend(site.path)
    site.write(
        "acme_hooks.py",
        """
        from ptb import Component, hookimpl

        @hookimpl
        def ptb_provide_models():
            return [Component("tiny", "acme_models:tiny")]
        """,
    )
    site.write("acme_models.py", "def tiny(spec, *, width: int = 3):\n    return spec, width\n")
    return "acme_hooks"


def test_the_registry_holds_the_built_ins_and_nothing_else_that_is_installed(ptb_registry, site, monkeypatch):
    site.add("ptb-other", "raise OSError('imported')")
    monkeypatch.syspath_prepend(site.path)
    assert "ptb-other" in [found.name for found in find_plugins()]
    assert {entry.plugin for entry in ptb_registry().components()} == {"pytorch-basics"}
    assert [plugin.name for plugin in ptb_registry().plugins()] == ["pytorch-basics"]


def test_the_registry_holds_the_modules_that_it_is_given(ptb_registry, acme):
    registry = ptb_registry(acme)
    assert [entry.id for entry in registry.components() if not entry.found.built_in] == ["acme-hooks:tiny"]
    assert registry.build("model", "tiny", SPEC, width=5) == (SPEC, 5)
    with pytest.raises(ConfigError, match="width"):
        registry.build("model", "acme-hooks:tiny", SPEC, width="wide")


def test_a_module_may_be_given_itself(ptb_registry, acme):
    module = __import__(acme)
    assert ptb_registry(module).get("model", "acme-hooks:tiny").name == "tiny"


def test_two_registries_know_nothing_of_each_other(ptb_registry, acme):
    ptb_registry(acme)
    assert {entry.plugin for entry in ptb_registry().components()} == {"pytorch-basics"}


@pytest.mark.parametrize(
    ("source", "message"), [("raise OSError('gone')", "OSError: gone"), ("", "implements no hook")]
)
def test_a_module_that_is_no_plugin_is_an_error(ptb_registry, acme, site, source, message):
    site.write("acme_broken.py", source)
    with pytest.raises(PluginError, match=message):
        ptb_registry("acme_broken")


def test_the_command_line_runs_in_a_folder_of_its_own(ptb_cli, tmp_path):
    done = ptb_cli("config", "init", "--model", "lenet", "-o", "run.toml")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("wrote run.toml")
    assert (tmp_path / "run.toml").is_file()


def test_an_error_of_the_command_line_is_told_apart(ptb_cli):
    done = ptb_cli("show", "model", "lennet")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "did you mean 'lenet'?" in done.stderr


def test_loading_the_fixtures_costs_almost_nothing():
    code = "import ptb_testing.pytest_plugin, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "pydantic", "click", "ptb.registry.registry", "ptb_testing.kit"} & set(loaded)
