"""What does not train does not import what trains."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "cv2", "pandas", "sklearn", "numpy", "safetensors", "matplotlib")
PROBE = """
import atexit, sys
atexit.register(lambda: print("HEAVY:", *[name for name in {heavy} if name in sys.modules], file=sys.stderr))
from ptb.cli import main
main(prog_name="ptb")
"""


def heavy_imports(*arguments, cwd=None):
    code = PROBE.format(heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=cwd, check=False
    )
    return done.stderr.rpartition("HEAVY:")[2].split()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("run", "--help"),
        ("show", "optimizer", "adam", "--schema"),
        ("config", "init", "--model", "lenet"),
        ("config", "schema"),
        ("run", "--model", "lenet", "model.pool=min", "seed=x"),
        ("run", "--model", "lenet", "-c", "missing.toml"),
        ("run", "--model", "lenet", "--output", "/"),
        ("eval", "nowhere"),
        ("resume", "nowhere"),
        ("import-torch", "nowhere"),
    ],
    ids=" ".join,
)
def test_a_command_that_does_not_train_imports_nothing_heavy(arguments):
    assert heavy_imports(*arguments) == []


def test_what_a_continued_run_cannot_change_is_refused_without_torch(tmp_path):
    (tmp_path / "config.toml").write_text('[model]\nname = "mlp"\n')
    command = ("run", "--continue", str(tmp_path), "--model", "lenet")
    assert heavy_imports(*command) == []


def test_this_test_can_fail_and_what_compiles_nothing_imports_no_compiler(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "HEAVY", ("torch", "torch._dynamo.config"))
    assert heavy_imports("check", "--model", "mlp", cwd=tmp_path) == ["torch"]


@pytest.mark.parametrize("arguments", [("list",), ("--help",), ("show", "model", "nothing")], ids=" ".join)
def test_listing_needs_no_pydantic_either(arguments, monkeypatch):
    monkeypatch.setitem(globals(), "HEAVY", ("pydantic", "rich", "tomlkit", "packaging"))
    # Only a list says which components lack a dependency.
    assert heavy_imports(*arguments) == (["packaging"] if arguments == ("list",) else [])
