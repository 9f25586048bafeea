import os
import re
import sys
from pathlib import Path

import pytest

from ptb_doctor import command as commands

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "find-a-broken-plugin.md"
SOUND = """
from ptb import Component, hookimpl

@hookimpl
def ptb_provide_models():
    return [Component("{name}", "nowhere:Model")]
"""
BROKEN = """
import ptb.registry.registry

ptb.registry.registry.Registry.components = property(lambda registry: registry.entries)
"""


def page():
    return PAGE.read_text(encoding="utf-8").replace("/home/me/venv/bin/python", sys.executable)


def test_the_search_on_the_page_runs_as_shown(ptb_here, site, monkeypatch):
    for name in ("a", "b", "c", "d", "e", "ptb-acme", "x", "y"):
        site.add(name, (BROKEN if name == "ptb-acme" else "") + SOUND.format(name=name), version="1.2")
    (command, shown) = re.findall(r"^\$ ptb (plugins bisect .*)\n((?:.+\n)+?)```", page(), re.M)[0]
    monkeypatch.syspath_prepend(site.path)
    monkeypatch.setenv("PYTHONPATH", str(site.path), prepend=os.pathsep)
    done = ptb_here(*command.split())
    assert done.stderr + done.stdout == shown


@pytest.mark.parametrize("command", ["doctor", "bisect"])
def test_every_option_of_its_own_is_on_the_page(command):
    options = {option for param in getattr(commands, command).params for option in param.opts}
    assert {option for option in options if option.startswith("--")} - {"--verbose"} <= set(
        re.findall(r"`(--[a-z]+)", page())
    )
