import os

import pytest

from ptb_doctor.torch_import import of_torch

AUTOLOADS = """
    import os

    if os.environ.get("TORCH_DEVICE_BACKEND_AUTOLOAD") != "0":
        import torch_acme
        torch_acme.load()
"""
READS_ALL = """
    import os
    from importlib.metadata import entry_points

    if os.environ.get("TORCH_DEVICE_BACKEND_AUTOLOAD") != "0":
        entry_points(group="torch.backends")
"""


@pytest.fixture
def findings(site, monkeypatch):
    """What is found where ``site`` comes first on the path."""
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(site.path), before))))
    return lambda: [str(finding) for finding in of_torch(list(site.distributions()))]


def extension(site, source, name="acme"):
    site.add(f"torch-{name}", source)
    (site.path / f"torch_{name}-1.0.dist-info" / "entry_points.txt").write_text(
        f"[torch.backends]\n{name} = torch_{name}:load\n"
    )


def test_a_backend_extension_that_torch_cannot_load_is_found(site, findings):
    extension(site, "def load():\n    raise ImportError('libacme.so is\\nnot there')")
    extension(site, "def load(): ...", name="sound")
    (finding,) = findings()
    assert finding.startswith(
        "problem: torch backend extension acme (torch-acme) cannot be loaded, which stops every command that uses "
        "torch: ImportError: libacme.so is not there; switch it off with TORCH_DEVICE_BACKEND_AUTOLOAD=0"
    )
    assert finding.endswith("pip uninstall torch-acme")


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"[other]\na = b\njust words\n", "line 3 of {file} is not NAME = MODULE: 'just words'"),
        (b"[other]\na = \xff\n", "line 2 of {file} is not UTF-8: 'a = "),
    ],
    ids=["no-sign", "no-text"],
)
@pytest.mark.parametrize("extensions", [[], ["sound"]], ids=["alone", "beside-an-extension"])
def test_entry_points_that_torch_cannot_read_are_found(site, findings, content, place, extensions):
    site.write("torch.py", READS_ALL)
    for name in extensions:
        extension(site, "def load(): ...", name=name)
    site.add("odd", "")
    file = site.path / "odd-1.0.dist-info" / "entry_points.txt"
    file.write_bytes(content)
    (finding,) = findings()
    assert finding.startswith("problem: torch cannot be imported: it reads the entry points of all that is installed, ")
    assert place.format(file=file) in finding
    assert finding.endswith("pip uninstall odd, or switch it off with TORCH_DEVICE_BACKEND_AUTOLOAD=0")


@pytest.mark.parametrize(
    ("torch", "beginning"),
    [
        (AUTOLOADS, "torch backend extension acme (torch-acme) cannot be loaded, which stops every command"),
        ("raise OSError('libc10.so')", "torch cannot be imported: OSError: libc10.so; "),
        ("import os; os._exit(4)", "torch cannot be imported: exit status 4; "),
    ],
    ids=["extension", "torch-raises", "torch-exits"],
)
def test_an_extension_that_ends_the_process_is_no_broken_torch(site, findings, torch, beginning):
    extension(site, "import os\ndef load():\n    os._exit(5)")
    site.write("torch.py", torch)
    (finding,) = findings()
    assert finding.startswith(f"problem: {beginning}")


def test_nothing_is_found_where_torch_can_be_imported(site, findings):
    extension(site, "import os\ndef load():\n    os._exit(5)")
    site.write("torch.py", "")
    assert findings() == []
