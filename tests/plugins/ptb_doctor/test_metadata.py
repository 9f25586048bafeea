import base64
import hashlib
from importlib.metadata import DistributionFinder, MetadataPathFinder

import pytest

from ptb.registry.discovery import find_plugins
from ptb_doctor.metadata import of_copies, of_files


def metadata(*folders):
    """Findings about the plugins in these folders, which are on the path in this order."""
    context = DistributionFinder.Context(path=[str(folder) for folder in folders])
    dists = list(MetadataPathFinder.find_distributions(context))
    found = find_plugins(dists)
    return [*of_copies(found, dists), *(finding for plugin in found for finding in of_files(plugin))]


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
    site.add("ptb-acme", "")
    assert metadata(site.path) == []
    assert metadata(site.path, site.path) == []


@pytest.mark.parametrize(
    ("versions", "severity"),
    [(("1.0", "1.0"), "note"), (("2.0", "1.0"), "note"), (("1.0", "2.0"), "problem"), (("1.0", "?"), "problem")],
    ids=["same", "newer-is-used", "older-is-used", "cannot-be-compared"],
)
def test_a_copy_in_another_folder_is_a_problem_if_it_may_hide_the_newer_one(tmp_path, versions, severity):
    paths = [install(tmp_path / folder, version=v) for folder, v in zip("ab", versions, strict=True)]
    (finding,) = metadata(tmp_path / "a", tmp_path / "b", tmp_path / "b")
    assert (finding.severity, finding.subject) == (severity, f"ptb-acme {versions[0]}")
    assert f"{paths[0]} is used and hides {paths[1]} (version {versions[1]})" in finding.text
    assert "pip uninstall ptb-acme" in finding.remedy


@pytest.mark.parametrize("kind", ["dist-info", "egg-info"])
def test_two_copies_in_one_folder_are_a_problem(tmp_path, kind):
    paths = {str(install(tmp_path, version="1.0")), str(install(tmp_path, version="0.9", kind=kind))}
    (finding,) = metadata(tmp_path)
    assert finding.severity == "problem"
    assert all(path in finding.text for path in paths)


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
def test_a_record_that_says_nothing_of_the_files_is_ignored(tmp_path, content):
    (install(tmp_path) / "RECORD").write_bytes(content)
    (tmp_path / "a").touch()
    assert [f for f in metadata(tmp_path) if "changed" in f.text] == []
