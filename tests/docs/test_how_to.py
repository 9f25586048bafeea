import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "write-a-plugin.md"


def files():
    """The files of the plugin: each block of code under a line that is a file name."""
    return dict(re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M))


def test_the_page_shows_every_file_that_it_lists():
    (tree,) = re.findall(r"^ptb-acme/\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    assert sorted(re.findall(r"^    (\S+)", tree, re.M)) == sorted(files())


@pytest.mark.slow
def test_the_plugin_works_and_passes_its_tests(tmp_path):
    for name, text in files().items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    # what pip leaves of an installed package: enough to be found, without a network
    metadata = tmp_path / "ptb_acme-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: ptb-acme\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[ptb]\nacme = ptb_acme\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{files()['tests/test_acme.py'].count('def test_')} passed" in done.stdout
