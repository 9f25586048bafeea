import sys
from types import ModuleType

import pytest

from ptb.diagnosis.probe import _answer
from ptb.discovery import find_plugins

SOURCE = """
import polars
from ptb import Component, hookimpl

@hookimpl
def ptb_provide_models():
    return [Component("tiny", "nowhere:Tiny", aliases=["small"])]
"""


@pytest.mark.parametrize("there", [False, True], ids=["by-the-plugin", "before-it"])
def test_a_heavy_package_is_told_of_the_plugin_that_imports_it_first(site, monkeypatch, there):
    site.add("ptb-acme", SOURCE)
    site.write("polars.py", "")
    monkeypatch.syspath_prepend(str(site.path))
    if there:
        monkeypatch.setitem(sys.modules, "polars", ModuleType("polars"))
    (found,) = find_plugins(site.distributions())
    answer = _answer(found)
    assert answer["heavy"] == ([] if there else ["polars"])
    assert (answer["name"], answer["status"], answer["missing"]) == ("ptb-acme", "ok", "")
    assert answer["components"][0][0] == "model"
    assert answer["components"][0][1]["aliases"] == ("small",)


def test_the_module_that_was_not_there_is_told(site, monkeypatch):
    site.add("ptb-acme", "import no_such_module.inner")
    monkeypatch.syspath_prepend(str(site.path))
    (found,) = find_plugins(site.distributions())
    answer = _answer(found)
    assert (answer["status"], answer["missing"]) == ("failed", "no_such_module")
    assert answer["reason"].startswith("ModuleNotFoundError: ")
