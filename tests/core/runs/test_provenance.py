import json
import os
import shutil
import textwrap
from dataclasses import replace
from importlib.metadata import version

import pytest

from ptb import PluginError
from ptb.registry.discovery import find_plugins
from ptb.runs.provenance import check_unchanged, content_hashes, plugin_changes, record

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


def test_the_files_are_those_that_the_installer_recorded(plugin, site):
    site.write("not_of_it.py", "")
    assert set(content_hashes(plugin)) == {"ptb_acme.py"}


def manifest_of(tmp_path, *plugins):
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps({"plugin_files": {plugin.name: record(plugin) for plugin in plugins}}))
    return file


def test_a_file_that_is_written_again_in_the_same_process_is_read_again(plugin, site):
    file = site.path / "ptb_acme.py"
    before, written = content_hashes(plugin), file.stat()
    file.write_text(file.read_text().replace("tiny", "tidy"))  # as long as it was
    os.utime(file, ns=(written.st_atime_ns, written.st_mtime_ns + 1))
    assert content_hashes(plugin) != before


def test_a_plugin_whose_files_changed_is_named_with_the_files(plugin, site, tmp_path):
    manifest = manifest_of(tmp_path, plugin)
    check_unchanged(manifest, [plugin])
    site.write("ptb_acme.py", GOOD + "# changed\n")
    with pytest.raises(PluginError, match=r"ptb-acme: its files differ: ptb_acme.py$"):
        check_unchanged(manifest, [plugin])
    with pytest.raises(PluginError, match=r"ptb-acme: version 1.0 then, 1.1 now\n.*its files differ"):
        check_unchanged(manifest, [replace(plugin, version="1.1")])
    (site.path / "ptb_acme.py").unlink()
    with pytest.raises(PluginError, match=r"ptb-acme: its files differ: ptb_acme.py$"):
        check_unchanged(manifest, [plugin])
    with pytest.raises(PluginError, match="ptb-acme: not used or not installed any more"):
        check_unchanged(manifest, [])


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"plugin_files": 3}', b'{"plugin_files": {"a": 3}}', b"[" * 9999]
)
def test_a_manifest_that_says_nothing_of_plugins_is_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(PluginError, match="does not say which files"):
        check_unchanged(tmp_path / "manifest.json", [])


@pytest.mark.parametrize("files", [{}, [], None])
def test_a_record_without_files_is_refused(plugin, tmp_path, files):
    recorded = record(plugin) | {"files": files}
    (tmp_path / "manifest.json").write_text(json.dumps({"plugin_files": {plugin.name: recorded}}))
    with pytest.raises(PluginError, match=r"ptb-acme: (the manifest does not list its files|its files differ)"):
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
        file.write("[console_scripts]\nacme = acme_parts:main\n")
    (found,) = find_plugins(site.distributions())
    assert set(content_hashes(found)) == {"ptb_acme/__init__.py"}


def test_the_built_in_plugin_is_hashed_whole():
    built_in = find_plugins()[0]
    hashes = content_hashes(built_in)
    assert {"ptb/registry/registry.py", "ptb_models/lenet.py"} <= set(hashes)
    assert built_in.version == version("pytorch-basics")


@pytest.fixture
def wheel_and_source(site, tmp_path):
    """The same plugin installed from a wheel, and in place from its source folder."""
    source = tmp_path / "source" / "ptb_acme"
    source.mkdir(parents=True)
    (source / "__init__.py").write_text(textwrap.dedent(GOOD))
    site.add("ptb-acme", "")
    (site.path / "ptb_acme.py").unlink()
    shutil.copytree(source, site.path / "ptb_acme")
    info = site.path / "ptb_acme-1.0.dist-info"
    (info / "RECORD").write_text(
        "ptb_acme/__init__.py,,\nptb_acme-1.0.dist-info/METADATA,,\nptb_acme-1.0.dist-info/RECORD,,\n"
        "ptb_acme-1.0.dist-info/entry_points.txt,,\n../../../bin/acme,,\n"
    )
    (tmp_path / "bin").mkdir()
    (wheel,) = find_plugins(site.distributions())

    def in_place():
        origin(site, url=source.parent.as_uri(), dir_info={"editable": True})
        (found,) = find_plugins(site.distributions())
        return found

    return wheel, in_place, source


@pytest.mark.parametrize("first", ["wheel", "source"])
@pytest.mark.parametrize("changed", [False, True], ids=["same", "changed"])
def test_a_wheel_and_a_source_folder_with_the_same_files_are_the_same(
    wheel_and_source, tmp_path, monkeypatch, first, changed
):
    wheel, in_place, source = wheel_and_source
    monkeypatch.syspath_prepend(str(source.parent))
    assert any(".dist-info/" in name for name in content_hashes(wheel))
    wheel_record, editable = record(wheel), in_place()
    assert editable.editable
    if changed:
        (source / "__init__.py").write_text("")
    records = [wheel_record, record(editable)]
    then, now = records if first == "wheel" else records[::-1]
    wanted = ["ptb-acme: its files differ: ptb_acme/__init__.py"] if changed else []
    assert plugin_changes({"ptb-acme": then}, {"ptb-acme": now}) == wanted


def test_of_two_wheels_the_metadata_counts_too(wheel_and_source):
    wheel = record(wheel_and_source[0])
    other = wheel | {"files": wheel["files"] | {"ptb_acme-1.0.dist-info/METADATA": "0"}}
    assert plugin_changes({"ptb-acme": wheel}, {"ptb-acme": other}) == [
        "ptb-acme: its files differ: ptb_acme-1.0.dist-info/METADATA"
    ]
