import base64
import hashlib
import sys
from importlib.metadata import DistributionFinder, MetadataPathFinder

import pytest

from ptb.registry.component import Component
from ptb.registry.discovery import LoadedPlugin, RejectedPlugin, find_plugins
from ptb.registry.registry import Registry
from ptb_doctor.doctor import of_command, of_loading, of_metadata, of_names
from ptb_doctor.probe import Probed

BOUND = ["pytorch-basics>=0.1"]


def metadata(*folders):
    """Findings about the plugins in these folders, which are on the path in this order."""
    context = DistributionFinder.Context(path=[str(folder) for folder in folders])
    dists = list(MetadataPathFinder.find_distributions(context))
    return list(of_metadata(find_plugins(dists), dists))


def install(folder, name="ptb_acme", version="1.0", kind="dist-info", entry_points="[ptb]\nacme = ptb_acme\n"):
    info = folder / (f"{name}-{version}.dist-info" if kind == "dist-info" else f"{name}.egg-info")
    info.mkdir(parents=True)
    file = "METADATA" if kind == "dist-info" else "PKG-INFO"
    needs = "Requires-Dist: pytorch-basics>=0.1\n"
    (info / file).write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n{needs}")
    if entry_points:
        (info / "entry_points.txt").write_text(entry_points)
    return info


def test_a_sound_plugin_gives_no_finding(site):
    site.add("ptb-acme", "", requires=BOUND)
    assert metadata(site.path) == []
    assert metadata(site.path, site.path) == []


@pytest.mark.parametrize("requires", [[], ["numpy"], ["pytorch-basics"]], ids=["none", "other", "any-version"])
def test_a_plugin_without_a_bound_on_ptb_is_noted(site, requires):
    site.add("ptb-acme", "", requires=requires)
    (finding,) = metadata(site.path)
    assert (finding.severity, finding.subject) == ("note", "ptb-acme 1.0")
    assert "which versions of pytorch-basics" in finding.text


def test_unreadable_metadata_are_left_to_the_loading(site):
    site.add("ptb-acme", "", requires=["pytorch-basics >= what"])
    (site.path / "ptb_other-1.0.dist-info").mkdir()
    (site.path / "ptb_other-1.0.dist-info" / "entry_points.txt").write_text("[ptb]\na = b\n")
    assert metadata(site.path) == []


@pytest.mark.parametrize(
    ("versions", "severity"),
    [(("1.0", "1.0"), "note"), (("2.0", "1.0"), "note"), (("1.0", "2.0"), "problem"), (("1.0", "?"), "problem")],
    ids=["same", "newer-counts", "older-counts", "cannot-be-told"],
)
def test_a_copy_in_another_folder_is_a_problem_if_it_may_hide_the_newer_one(tmp_path, versions, severity):
    paths = [install(tmp_path / folder, version=v) for folder, v in zip("ab", versions, strict=True)]
    (finding,) = metadata(tmp_path / "a", tmp_path / "b", tmp_path / "b")
    assert (finding.severity, finding.subject) == (severity, f"ptb-acme {versions[0]}")
    assert f"{paths[0]} counts and hides {paths[1]} (version {versions[1]})" in finding.text
    assert "pip uninstall ptb-acme" in finding.remedy


@pytest.mark.parametrize("kind", ["dist-info", "egg-info"])
def test_two_copies_in_one_folder_are_a_problem(tmp_path, kind):
    paths = {str(install(tmp_path, version="1.0")), str(install(tmp_path, version="0.9", kind=kind))}
    (finding,) = metadata(tmp_path)
    assert finding.severity == "problem"
    assert all(path in finding.text for path in paths)


def test_a_copy_that_is_no_plugin_but_comes_first_is_a_problem(tmp_path):
    install(tmp_path / "a", entry_points="")
    install(tmp_path / "b")
    (finding,) = metadata(tmp_path / "a", tmp_path / "b")
    assert finding.severity == "problem"
    assert "comes first on the path but has no entry point" in finding.text


@pytest.mark.parametrize("order", [("site", "source"), ("source", "site")], ids=["installed-first", "source-first"])
@pytest.mark.parametrize(("version", "findings"), [("1.0", 0), ("1.1", 1)], ids=["up-to-date", "stale"])
def test_the_egg_info_of_an_editable_plugin_is_no_copy_while_it_is_up_to_date(tmp_path, order, version, findings):
    info = install(tmp_path / "site")
    (info / "direct_url.json").write_text(
        f'{{"url": "{(tmp_path / "source").as_uri()}", "dir_info": {{"editable": true}}}}'
    )
    install(tmp_path / "source", version=version, kind="egg-info")
    assert len(metadata(*(tmp_path / folder for folder in order))) == findings


def test_copies_of_ptb_itself_are_found_too(tmp_path):
    install(tmp_path / "a", "pytorch_basics", "0.1", entry_points="[ptb]\nmodels = ptb_models\n")
    install(tmp_path / "b", "pytorch_basics", "0.2", entry_points="[ptb]\nmodels = ptb_models\n")
    (finding,) = metadata(tmp_path / "a", tmp_path / "b")
    assert (finding.severity, finding.subject) == ("problem", "pytorch-basics 0.1")


def test_an_entry_point_name_of_two_distributions_is_noted(tmp_path):
    install(tmp_path, "ptb_one", entry_points="[ptb]\nacme = ptb_one\n")
    install(tmp_path, "ptb_two", entry_points="[ptb]\nAcme = ptb_two\n")
    (finding,) = metadata(tmp_path)
    assert str(finding).startswith("note: ptb-one 1.0, ptb-two 1.0 have the same entry point name 'acme'")


def record(folder, info, files):
    """Writes files, and a RECORD of them as an installer does."""
    rows = [f"{info.name}/RECORD,,", f"{info.name}/METADATA,,", "ptb_acme/__pycache__/a.pyc,sha256=x,1", "", "broken"]
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        rows.append(f'"{name}",sha256={digest},{len(text)}')
    (folder / "broken").touch()
    (info / "RECORD").write_text("\n".join(rows))


FILES = {"ptb_acme/__init__.py": "a", "ptb_acme/b.py": "b", "ptb_acme/c,d.bin": "cd", "../bin/acme": "e"}


def test_files_that_are_as_they_were_installed_give_no_finding(tmp_path):
    info = install(tmp_path / "site")
    record(tmp_path / "site", info, FILES)
    assert metadata(tmp_path / "site") == []


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_gone_since_the_installation_is_a_problem(tmp_path, name):
    info = install(tmp_path / "site")
    record(tmp_path / "site", info, FILES)
    (tmp_path / "site" / name).unlink()
    (finding,) = metadata(tmp_path / "site")
    assert (finding.severity, finding.subject) == ("problem", "ptb-acme 1.0")
    assert finding.text == f"lacks 1 file of those that were installed: {name}"
    assert finding.remedy.endswith("pip install --force-reinstall --no-deps ptb-acme")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_changed_since_the_installation_is_noted(tmp_path, name):
    info = install(tmp_path / "site")
    record(tmp_path / "site", info, FILES)
    (tmp_path / "site" / name).write_text("z")
    (finding,) = metadata(tmp_path / "site")
    assert (finding.severity, finding.subject) == ("note", "ptb-acme 1.0")
    assert finding.text == f"has 1 file that changed after the installation: {name}"


@pytest.mark.parametrize("content", [b"\xff", b'"', b"a,shake_128=x,y\n"], ids=["no-text", "no-csv", "another-digest"])
def test_a_record_that_says_nothing_of_the_files_is_passed_over(tmp_path, content):
    (install(tmp_path) / "RECORD").write_bytes(content)
    (tmp_path / "a").touch()
    assert [f for f in metadata(tmp_path) if "changed" in f.text] == []


def test_another_distribution_called_as_ptb_itself_is_no_copy_of_it(tmp_path):
    install(tmp_path / "a", "pytorch_basics", "0.1", entry_points="[ptb]\nmodels = ptb_models\n")
    install(tmp_path / "b", "pytorch_basics", "9.0", entry_points="[ptb]\nother = other\n")
    assert [f for f in metadata(tmp_path / "a", tmp_path / "b") if "twice" in f.text] == []


@pytest.mark.parametrize(
    "entry_points", ["[ptb]\nacme = ptb_acme\n[other]\nno sign\n", "[ptb]\nx = a-b c\n"], ids=["no-sign", "no-module"]
)
def test_entry_points_that_cannot_be_read_stop_neither_search(tmp_path, entry_points):
    site, source = tmp_path / "site", tmp_path / "source"
    info = install(site)
    (info / "direct_url.json").write_text(f'{{"url": "{source.as_uri()}", "dir_info": {{"editable": true}}}}')
    install(source, kind="egg-info", entry_points=entry_points)
    assert len(metadata(site, source)) == 1  # they are not those of the other copy


def loading(site, **outcome):
    """Findings about a plugin that was loaded with this outcome; a reason makes it one that was set aside."""
    (found,) = find_plugins(site.distributions())
    reason = outcome.pop("reason", None)
    plugin = RejectedPlugin(found, "failed", reason) if reason else LoadedPlugin(found, ())
    return list(of_loading(Probed(plugin, **{"milliseconds": 1.0, **outcome})))


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("ptb_acme", "is not there: its entry point is 'ptb_acme', and there is no module 'ptb_acme'"),
        ("torchvision", "is set aside (failed): No module"),
        ("ptb_acme_more", "is set aside (failed): No module"),
        ("", "is set aside (failed): No module"),
    ],
    ids=["its-own", "a-dependency", "a-longer-name", "unknown"],
)
def test_a_module_of_its_own_that_is_missing_is_told_from_a_dependency(site, missing, expected):
    site.add("ptb-acme", "")
    (finding,) = loading(site, reason="No module", missing=missing)
    assert (finding.severity, finding.subject) == ("problem", "ptb-acme 1.0")
    assert finding.text.startswith(expected)


@pytest.mark.parametrize("there", [True, False], ids=["folder-there", "folder-gone"])
def test_an_editable_plugin_whose_source_has_moved_away_is_told_with_its_folder(site, tmp_path, there):
    site.add("ptb-acme", "")
    if there:
        (tmp_path / "source").mkdir()
    (site.path / "ptb_acme-1.0.dist-info" / "direct_url.json").write_text(
        f'{{"url": "{(tmp_path / "source").as_uri()}", "dir_info": {{"editable": true}}}}'
    )
    (finding,) = loading(site, reason="No module", missing="ptb_acme")
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
    (finding,) = loading(site, **outcome)
    assert finding.severity == "note"
    assert finding.text.startswith(text)
    assert loading(site) == []


@pytest.mark.parametrize(
    ("outcome", "severity", "text"),
    [
        ({"changes": ("sys.path", "the umask")}, "note", "changes the process while it registers: sys.path, the umask"),
        ({"end": "exit status 7"}, "problem", "lets no command end as it should: exit status 7"),
        (
            {"changes": ("a thread, 'pump'",), "end": "does not come to an end"},
            "problem",
            "changes the process while it registers: a thread, 'pump', and lets no command end as it should: does not "
            "come to an end",
        ),
    ],
    ids=["changes", "end", "both"],
)
def test_what_a_plugin_does_to_the_process_is_a_problem_if_that_does_not_end_as_it_should(
    site, outcome, severity, text
):
    site.add("ptb-acme", "")
    (finding,) = loading(site, **outcome)
    assert (finding.severity, finding.text) == (severity, text)
    assert "-p no:ptb-acme" in finding.remedy


def test_a_plugin_that_takes_the_process_with_it_stops_every_command(site):
    site.add("ptb-acme", "")
    (finding,) = loading(site, reason="it ends the process", milliseconds=None)
    assert finding.text == "stops every command: it ends the process"


def test_shared_names_are_noted_for_each_stranger(site):
    site.add("ptb-one", "")
    site.add("ptb-two", "")
    tiny = (("model", Component("tiny", "a:Tiny")),)
    registry = Registry(LoadedPlugin(found, tiny) for found in find_plugins(site.distributions()))
    told = [str(finding) for finding in of_names(registry.plugins())]
    assert len(told) == 2
    assert "note: ptb-one 1.0 shares names: model 'tiny' is also given by ptb-two 1.0; choose with the id" in told[0]


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
    told = list(of_command(path))
    assert [finding.severity for finding in told] == (["note"] if other else [])
    assert not other or f"{path}, is that of another Python, {other}, " in told[0].text


def test_a_command_that_finds_its_python_on_the_path_is_followed(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", {"python3": "/usr/other/python3"}.get)
    assert len(list(of_command(command(tmp_path / "bin", "#!/usr/bin/env python3")))) == 1
    assert list(of_command(command(tmp_path / "bin2", "#!/usr/bin/env python9"))) == []


def test_no_command_is_no_finding(tmp_path):
    assert list(of_command(None)) == []
    assert list(of_command(str(tmp_path / "gone"))) == []
