import json
import textwrap
from dataclasses import replace
from importlib.metadata import version

import pytest

from ptb import ConfigError, PluginError
from ptb.registry.discovery import find_plugins
from ptb.runs.provenance import check_unchanged, content_hashes, record, requirement, source_place

GOOD = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_models():
        return [Component("tiny", "ptb_acme:Tiny")]
"""


@pytest.fixture
def plugin(site):
    """Its one installed file is recorded, as pip does it."""
    site.add("ptb-acme", GOOD)
    info = site.path / "ptb_acme-1.0.dist-info"
    (info / "RECORD").write_text("ptb_acme.py,,\n../bin/gone,,\nptb_acme-1.0.dist-info/RECORD,,\n__pycache__/a.pyc,,\n")
    (found,) = find_plugins(site.distributions())
    return found


def origin(site, **facts):
    (site.path / "ptb_acme-1.0.dist-info" / "direct_url.json").write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("target", "file", "text"),
    [
        ("torch.optim:SGD", "torch/optim/sgd.py", "class SGD"),
        ("ptb_models.lenet:LeNet", "ptb_models/lenet.py", "class LeNet"),
        ("ptb_models.lenet:LeNet.forward", "ptb_models/lenet.py", "def forward"),
        ("math:sin", None, None),
        ("nowhere.at_all:Thing", None, None),
        ("torch.optim:NoSuchThing", None, None),
    ],
)
def test_the_line_of_a_target_is_found(target, file, text):
    place = source_place(target)
    if file is None:
        assert place is None
        return
    assert place.file.as_posix().endswith(file)
    assert text in place.file.read_text().splitlines()[place.line - 1]


def test_the_line_is_found_without_importing_anything_on_the_way(site, monkeypatch):
    monkeypatch.syspath_prepend(str(site.path))
    package = site.path / "odd_package"
    (package / "inner").mkdir(parents=True)
    boom = "raise AssertionError('imported')\n"
    (package / "__init__.py").write_text(boom)
    (package / "inner" / "__init__.py").write_text(boom + "from .parts import Thing as Other\nfrom ..top import Top\n")
    (package / "inner" / "parts.py").write_text(boom + "\n\nclass Thing: pass\n")
    source = "try:\n    import a\nexcept ImportError:\n    a = None\nif a:\n    def Top(): pass\nelse:\n    Top = 3\n"
    (package / "top.py").write_text(boom + source)
    assert source_place("odd_package.inner:Other") == (package / "inner" / "parts.py", 4)
    assert source_place("odd_package.inner:Top") == (package / "top.py", 9)
    assert source_place("odd_package.inner:Missing") is None


@pytest.mark.parametrize("source", [b"def broken(:", b"\0", b"\xff\xfe\xff", b"(" * 5000, b""])
def test_source_that_cannot_be_parsed_has_no_line(site, monkeypatch, source):
    monkeypatch.syspath_prepend(str(site.path))
    (site.path / "odd_module.py").write_bytes(source)
    assert source_place("odd_module:Thing") is None


def test_modules_that_send_each_other_round_have_no_line(site, monkeypatch):
    monkeypatch.syspath_prepend(str(site.path))
    site.write("odd_one.py", "from odd_two import Thing")
    site.write("odd_two.py", "from odd_one import Thing")
    assert source_place("odd_one:Thing") is None


def test_the_files_are_those_that_the_installer_recorded(plugin, site):
    hashes = content_hashes(plugin)
    assert set(hashes) == {"ptb_acme.py", "../bin/gone"}
    assert hashes["../bin/gone"] == "missing"


def manifest_of(tmp_path, *plugins):
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps({"plugin_files": {plugin.name: record(plugin) for plugin in plugins}}))
    return file


def test_a_plugin_whose_files_changed_is_told_with_the_files(plugin, site, tmp_path):
    manifest = manifest_of(tmp_path, plugin)
    check_unchanged(manifest, [plugin])
    site.write("ptb_acme.py", GOOD + "# changed\n")
    with pytest.raises(PluginError, match=r"ptb-acme: its files differ: ptb_acme.py$"):
        check_unchanged(manifest, [plugin])
    with pytest.raises(PluginError, match=r"ptb-acme: version 1.0 then, 1.1 now\n.*its files differ"):
        check_unchanged(manifest, [replace(plugin, version="1.1")])
    with pytest.raises(PluginError, match="ptb-acme: not installed any more"):
        check_unchanged(manifest, [])


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"plugin_files": 3}', b'{"plugin_files": {"a": 3}}', b"[" * 9999]
)
def test_a_manifest_that_says_nothing_of_plugins_is_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(PluginError, match="does not say which files"):
        check_unchanged(tmp_path / "manifest.json", [])
    with pytest.raises(ConfigError, match="cannot read"):
        check_unchanged(tmp_path / "nothing.json", [])


@pytest.mark.parametrize("files", [{}, [], None, "gone"])
def test_a_record_without_files_is_refused(plugin, tmp_path, files):
    recorded = record(plugin) | {"files": files}
    if files == "gone":
        del recorded["files"]
    (tmp_path / "manifest.json").write_text(json.dumps({"plugin_files": {plugin.name: recorded}}))
    with pytest.raises(PluginError, match=r"ptb-acme: the manifest does not list its files$"):
        check_unchanged(tmp_path / "manifest.json", [plugin])


def test_the_recorded_plugins_are_named(plugin, tmp_path):
    assert check_unchanged(manifest_of(tmp_path, plugin), [plugin, find_plugins()[0]]) == {"ptb-acme"}


def test_where_nothing_is_recorded_the_files_are_those_of_its_packages(site, monkeypatch):
    monkeypatch.syspath_prepend(str(site.path))
    site.add("ptb-acme", GOOD)
    (found,) = find_plugins(site.distributions())
    assert set(content_hashes(found)) == {"ptb_acme.py"}


def test_of_an_editable_plugin_the_files_are_those_of_its_source(site, tmp_path, monkeypatch):
    source = tmp_path / "source"
    (source / "ptb_acme").mkdir(parents=True)
    (source / "ptb_acme" / "__init__.py").write_text(textwrap.dedent(GOOD))
    (source / "ptb_acme" / "words.txt").write_text("a b")
    monkeypatch.syspath_prepend(str(source))
    site.add("ptb-acme", "")
    (site.path / "ptb_acme.py").unlink()
    origin(site, url=source.as_uri(), dir_info={"editable": True})
    (found,) = find_plugins(site.distributions())
    assert (found.editable, found.location) == (True, str(source))
    assert set(content_hashes(found)) == {"ptb_acme/__init__.py", "ptb_acme/words.txt"}
    assert requirement(found) == f"-e {source.as_uri()}"


@pytest.fixture
def two_packages(site, tmp_path, monkeypatch):
    """An editable plugin whose components lie in a package and a module beside that of its entry point."""
    source = tmp_path / "source"
    for package in ("ptb_acme", "acme_parts"):
        (source / package).mkdir(parents=True)
        (source / package / "__init__.py").write_text("")
    (source / "acme_more.py").write_text("")
    (source / "notes").mkdir()
    monkeypatch.syspath_prepend(str(source))
    site.add("ptb-acme", "")
    (site.path / "ptb_acme.py").unlink()
    origin(site, url=source.as_uri(), dir_info={"editable": True})
    (site.path / "acme.pth").write_text(f"import os\n{source}\n")
    return site.path / "ptb_acme-1.0.dist-info"


@pytest.mark.parametrize(
    ("name", "content"),
    [("top_level.txt", "ptb_acme\nacme_parts\nacme_more\nnowhere_at_all\n"), ("RECORD", "acme.pth,,\n")],
)
def test_of_an_editable_plugin_every_package_counts(two_packages, site, name, content):
    (two_packages / name).write_text(content)
    (found,) = find_plugins(site.distributions())
    assert set(content_hashes(found)) == {"ptb_acme/__init__.py", "acme_parts/__init__.py", "acme_more.py"}


def test_entry_points_of_other_groups_lead_to_no_files(two_packages, site):
    with (two_packages / "entry_points.txt").open("a") as file:
        file.write("[console_scripts]\nacme = acme_parts:main\nodd\n")
    (found,) = find_plugins(site.distributions())
    assert set(content_hashes(found)) == {"ptb_acme/__init__.py"}


def test_the_built_in_plugin_is_hashed_whole():
    built_in = find_plugins()[0]
    hashes = content_hashes(built_in)
    assert {"ptb/registry/registry.py", "ptb_models/lenet.py"} <= set(hashes)
    assert "missing" not in hashes.values()
    assert built_in.version == version("pytorch-basics")


def test_what_a_plugin_requires_is_recorded_and_compared(plugin, tmp_path, monkeypatch):
    recorded = record(plugin, ["torch>=2", "no-such-package"])
    assert recorded["requires"] == {"torch": version("torch"), "no-such-package": None}
    (tmp_path / "manifest.json").write_text(json.dumps({"plugin_files": {plugin.name: recorded}}))
    check_unchanged(tmp_path / "manifest.json", [plugin])
    monkeypatch.setattr("ptb.runs.provenance.metadata.version", lambda name: "9.9")
    with pytest.raises(PluginError, match=r"its requirement torch was 2\..* then, is 9\.9 now"):
        check_unchanged(tmp_path / "manifest.json", [plugin])


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({}, "ptb-acme==1.0"),
        ({"url": "https://e.org/a.whl", "archive_info": {}}, "ptb-acme @ https://e.org/a.whl"),
        (
            {"url": "https://e.org/a", "vcs_info": {"vcs": "git", "commit_id": "0a1b"}},
            "ptb-acme @ git+https://e.org/a@0a1b",
        ),
        (
            {"url": "https://e.org/a", "vcs_info": {"vcs": "git", "commit_id": "0a1b"}, "subdirectory": "x/y"},
            "ptb-acme @ git+https://e.org/a@0a1b#subdirectory=x/y",
        ),
        ({"url": "https://me:se@cret@e.org/a.whl"}, "ptb-acme @ https://e.org/a.whl"),
        ({"url": "https://token@e.org/a@1.whl"}, "ptb-acme @ https://e.org/a@1.whl"),
        ({"url": "https://token:${SALT}@e.org/a.whl"}, "ptb-acme @ https://e.org/a.whl"),
        ({"url": "https://${ME}:${MY-KEY}@e.org/a.whl"}, "ptb-acme @ https://${ME}:${MY-KEY}@e.org/a.whl"),
        ({"url": "https://${ME}@e.org/a.whl"}, "ptb-acme @ https://${ME}@e.org/a.whl"),
        (
            {"url": "ssh://git@e.org/a", "vcs_info": {"vcs": "git", "commit_id": "0a1b"}},
            "ptb-acme @ git+ssh://git@e.org/a@0a1b",
        ),
        ({"url": "file:///a%20b/c%27d", "dir_info": {"editable": True}}, "-e file:///a%20b/c%27d"),
        ({"url": "file:///a%20b/c.whl"}, "ptb-acme @ file:///a%20b/c.whl"),
        ({"url": "nonsense"}, "ptb-acme==1.0"),
        ({"url": "https://e.org/a b"}, "# ptb-acme 1.0: pip cannot install it by its metadata"),
    ],
)
def test_a_requirement_installs_the_same_again(plugin, site, facts, line):
    origin(site, **facts)
    assert requirement(plugin) == line


@pytest.mark.parametrize(
    ("metadata", "line"),
    [
        ("Name: ptb-acme\nVersion: 1.0+local\n", "ptb-acme==1.0+local"),
        ("Name: ptb-acme\nVersion: 1.0 beta two\n", "# ptb-acme 1.0 beta two: pip cannot install it by its metadata"),
        ("Name: ptb acme\nVersion: 1.0\n", "# ptb acme 1.0: pip cannot install it by its metadata"),
        ("Name: ptb-acme\n", "# ptb-acme unknown: its metadata have no name and version (ptb_acme-1.0.dist-info)"),
    ],
)
def test_a_plugin_that_pip_cannot_install_again_is_a_comment(site, metadata, line):
    site.add("ptb-acme", GOOD)
    (site.path / "ptb_acme-1.0.dist-info" / "METADATA").write_text(metadata)
    (found,) = find_plugins(site.distributions())
    assert requirement(found) == line


@pytest.mark.parametrize(
    "content", ["", "[]", "{", "null", '{"url": 3, "dir_info": []}', '{"dir_info": {"editable": 1}}']
)
def test_damaged_facts_about_the_origin_stop_nobody(plugin, site, content):
    (site.path / "ptb_acme-1.0.dist-info" / "direct_url.json").write_text(content)
    assert plugin.editable is False
    assert plugin.location == str(site.path)
    assert requirement(plugin).startswith("ptb-acme")
