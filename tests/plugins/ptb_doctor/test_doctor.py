import sys

import pytest

from ptb.registry.component import Component
from ptb.registry.discovery import LoadedPlugin, RejectedPlugin, find_plugins
from ptb.registry.registry import Registry
from ptb_doctor.doctor import of_bounds, of_command, of_import, of_names
from ptb_doctor.probe import Probed


def bounds(site):
    return [finding for plugin in find_plugins(site.distributions()) for finding in of_bounds(plugin)]


@pytest.mark.parametrize("requires", [[], ["numpy"], ["pytorch-basics"]], ids=["none", "other", "any-version"])
def test_a_plugin_without_a_bound_on_ptb_is_noted(site, requires):
    site.add("ptb-acme", "", requires=requires)
    (finding,) = bounds(site)
    assert (finding.severity, finding.subject) == ("note", "ptb-acme 1.0")
    assert "which versions of pytorch-basics" in finding.text


@pytest.mark.parametrize("requires", ["pytorch-basics>=0.1", "pytorch-basics >= what"], ids=["bound", "unreadable"])
def test_a_bound_is_enough_and_one_that_cannot_be_read_is_left_to_the_import(site, requires):
    site.add("ptb-acme", "", requires=[requires])
    assert bounds(site) == []


def test_a_plugin_without_readable_metadata_is_left_to_the_import(site):
    (site.path / "ptb_other-1.0.dist-info").mkdir()
    (site.path / "ptb_other-1.0.dist-info" / "entry_points.txt").write_text("[ptb]\na = b\n")
    assert bounds(site) == []


def findings(site, **outcome):
    """Findings about a plugin that was imported with this outcome; a reason makes it a rejected one."""
    (found,) = find_plugins(site.distributions())
    reason = outcome.pop("reason", None)
    plugin = RejectedPlugin(found, "failed", reason) if reason else LoadedPlugin(found, ())
    return list(of_import(Probed(plugin, **{"milliseconds": 1.0, **outcome})))


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("ptb_acme", "cannot be found: its entry point is 'ptb_acme', and there is no module 'ptb_acme'"),
        ("torchvision", "cannot be used (failed): No module"),
        ("ptb_acme_more", "cannot be used (failed): No module"),
        ("", "cannot be used (failed): No module"),
    ],
    ids=["its-own", "a-dependency", "a-longer-name", "unknown"],
)
def test_a_missing_module_of_its_own_is_no_missing_dependency(site, missing, expected):
    site.add("ptb-acme", "")
    (finding,) = findings(site, reason="No module", missing=missing)
    assert (finding.severity, finding.subject) == ("problem", "ptb-acme 1.0")
    assert finding.text.startswith(expected)


@pytest.mark.parametrize("there", [True, False], ids=["folder-there", "folder-gone"])
def test_an_editable_plugin_whose_source_has_moved_away_is_shown_with_its_folder(site, tmp_path, there):
    site.add("ptb-acme", "")
    if there:
        (tmp_path / "source").mkdir()
    (site.path / "ptb_acme-1.0.dist-info" / "direct_url.json").write_text(
        f'{{"url": "{(tmp_path / "source").as_uri()}", "dir_info": {{"editable": true}}}}'
    )
    (finding,) = findings(site, reason="No module", missing="ptb_acme")
    assert (f"its source folder {tmp_path / 'source'} is gone" in finding.text) is not there
    assert (f"pip install --force-reinstall --no-deps -e {tmp_path / 'source'}" in finding.remedy) is there


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        ({"heavy": ("torch", "numpy"), "milliseconds": 1234.5}, "imports torch, numpy while it registers"),
        ({"milliseconds": 900.0}, "takes long while it registers: every command waits 900 ms"),
    ],
    ids=["heavy", "slow"],
)
def test_a_plugin_that_makes_every_command_wait_is_noted(site, outcome, text):
    site.add("ptb-acme", "")
    (finding,) = findings(site, **outcome)
    assert finding.severity == "note"
    assert finding.text.startswith(text)
    assert findings(site) == []


@pytest.mark.parametrize(
    ("outcome", "severity", "text"),
    [
        ({"changes": ("sys.path", "the umask")}, "note", "changes the process while it registers: sys.path, the umask"),
        ({"end": "exit status 7"}, "problem", "keeps every command from ending normally: exit status 7"),
        (
            {"changes": ("a thread, 'pump'",), "end": "does not end"},
            "problem",
            "changes the process while it registers: a thread, 'pump', and keeps every command from ending normally: "
            "does not end",
        ),
    ],
    ids=["changes", "end", "both"],
)
def test_what_a_plugin_does_to_the_process_is_a_problem_if_that_does_not_end_as_it_should(
    site, outcome, severity, text
):
    site.add("ptb-acme", "")
    (finding,) = findings(site, **outcome)
    assert (finding.severity, finding.text) == (severity, text)
    assert "-p no:ptb-acme" in finding.remedy


def test_a_plugin_that_takes_the_process_with_it_stops_every_command(site):
    site.add("ptb-acme", "")
    (finding,) = findings(site, reason="it ends the process", milliseconds=None)
    assert finding.text == "stops every command: it ends the process"


def test_shared_names_are_noted_for_each_third_party_plugin(site):
    site.add("ptb-one", "")
    site.add("ptb-two", "")
    tiny = (("model", Component("tiny", "a:Tiny")),)
    registry = Registry(LoadedPlugin(found, tiny) for found in find_plugins(site.distributions()))
    seen = [str(finding) for finding in of_names(registry.plugins())]
    assert len(seen) == 2
    assert "note: ptb-one 1.0 shares names: model 'tiny' is also given by ptb-two 1.0; choose with the id" in seen[0]


def command(folder, first_lines):
    folder.mkdir()
    (folder / "ptb").write_text(f"{first_lines}\nimport ptb\n")
    return str(folder / "ptb")


@pytest.mark.parametrize(
    ("first_lines", "other"),
    [
        ("#!/other/venv/bin/python3.12", "/other/venv/bin/python3.12"),
        ("#!/bin/sh\n'''exec' \"/o t/python/bin/python\" \"$0\" \"$@\"\n' '''", "/o t/python/bin/python"),
        ("#!/bin/bash\nexec pyenv exec ptb", None),
        (f"#!{sys.executable}", None),
        ("\0\1", None),
    ],
    ids=["another", "another-with-a-long-path", "a-shim", "ours", "no-text"],
)
def test_a_command_of_another_python_is_noted(tmp_path, first_lines, other):
    path = command(tmp_path / "bin", first_lines)
    seen = list(of_command(path))
    assert [finding.severity for finding in seen] == (["note"] if other else [])
    assert not other or f"{path}, belongs to another Python, {other}, " in seen[0].text


def test_no_command_is_no_finding(tmp_path):
    assert list(of_command(None)) == []
    assert list(of_command(str(tmp_path / "gone"))) == []
