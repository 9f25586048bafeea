import json

import pytest

from ptb.registry.discovery import find_plugins
from ptb_doctor.freeze import requirement


@pytest.fixture
def plugin(site):
    site.add("ptb-acme", "")
    (found,) = find_plugins(site.distributions())
    return found


def origin(site, **facts):
    (site.path / "ptb_acme-1.0.dist-info" / "direct_url.json").write_text(json.dumps(facts))


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
        (
            "Name: ptb-acme\n",
            "# ptb-acme unknown: its metadata cannot be read: ValueError: they have no name and version "
            "(ptb_acme-1.0.dist-info)",
        ),
    ],
)
def test_a_plugin_that_pip_cannot_install_again_is_a_comment(site, metadata, line):
    site.add("ptb-acme", "")
    (site.path / "ptb_acme-1.0.dist-info" / "METADATA").write_text(metadata)
    (found,) = find_plugins(site.distributions())
    assert requirement(found) == line


@pytest.mark.parametrize(
    "content", ["", "[]", "{", "null", '{"url": 3, "dir_info": []}', '{"dir_info": {"editable": 1}}']
)
def test_a_damaged_record_of_the_origin_is_ignored(plugin, site, content):
    (site.path / "ptb_acme-1.0.dist-info" / "direct_url.json").write_text(content)
    assert plugin.editable is False
    assert plugin.location == str(site.path)
    assert requirement(plugin).startswith("ptb-acme")
