import json
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PACKAGE = EXAMPLES / "ptb-plugin-example"


def run(*command, cwd):
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_the_run_file_runs(tmp_path, ptb):
    output = tmp_path / "run"
    done = ptb("run", "-c", EXAMPLES / "lenet-digits.toml", "--epochs", 1, "--output", output, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "finished"
    used = tomllib.loads((output / "config.toml").read_text())
    assert (used["model"]["pool"], used["dataset"]["size"], used["optimizer"]["name"]) == ("avg", 28, "sgd")


def test_the_python_example_runs(tmp_path, run_python):
    done = run_python([sys.executable, EXAMPLES / "train_from_python.py", tmp_path / "run"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    accuracy, reading = done.stdout.splitlines()
    assert float(accuracy.split()[2].rstrip(",")) > 0.9
    assert reading.startswith("written [")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "finished"


@pytest.mark.parametrize(
    ("module", "expected"),
    [("ptb_plugin_example", "False"), ("ptb_plugin_example.settings", "False"), ("ptb_plugin_example.cnn", "True")],
    ids=["hooks", "settings", "model"],
)
def test_only_the_plugin_s_targets_import_torch(module, expected):
    code = f"import sys, {module}; print('torch' in sys.modules)"
    assert run(sys.executable, "-c", code, cwd=PACKAGE).stdout.strip() == expected


def environment_with(package, folder):
    """A fresh virtual environment that sees this one's packages, and has ``package`` installed by pip."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=package)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    own = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=package).stdout.strip()
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    lines = [f"import site; site.addsitedir({path!r})" for path in sorted(ours)]  # runs their .pth files too
    Path(own, "outer.pth").write_text("\n".join(lines) + "\n")
    run(python, "-m", "pip", "install", "--no-build-isolation", "--no-index", package, cwd=package)
    return python, own


@pytest.mark.slow
def test_the_plugin_package_installs_lists_and_trains(tmp_path, ptb):
    package = tmp_path / "package"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    python, site = environment_with(package, tmp_path / "environment")
    listed = json.loads(run(python, "-m", "ptb", "list", "--json", cwd=tmp_path).stdout)["components"]
    assert {(c["kind"], c["name"], c["id"], c["status"]) for c in listed if c["plugin"] == "ptb-plugin-example"} == {
        ("model", "tiny-cnn", "ptb-plugin-example:tiny-cnn", "ok"),
        ("loss", "focal-loss", "ptb-plugin-example:focal-loss", "ok"),
    }
    shown = ptb("show", "model", "tiny-cnn", site=site).stdout
    assert "model.width" in shown
    assert "> 0" in shown
    assert "Channels of the first convolution" in shown

    chosen = ("run", "--model", "tiny-cnn", "--loss", "focal-loss", "--epochs", 2, "--json")
    done = ptb(*chosen, "model.width=4", "--output", "out", site=site)
    assert json.loads(done.stdout)["status"] == "finished"
    version = tomllib.loads((package / "pyproject.toml").read_text())["project"]["version"]
    used = {
        plugin["section"]: plugin for plugin in json.loads((tmp_path / "out" / "manifest.json").read_text())["plugins"]
    }
    assert {section: (used[section]["distribution"], used[section]["version"]) for section in ("model", "loss")} == {
        "model": ("ptb-plugin-example", version),
        "loss": ("ptb-plugin-example", version),
    }
    again = ptb("run", "-c", "out/config.toml", "--output", "again", "--json", site=site)
    assert json.loads(again.stdout)["weights_sha256"] == json.loads(done.stdout)["weights_sha256"]

    refused = ptb(*chosen, "model.width=0", "--output", "none", site=site)
    assert refused.returncode == 2
    assert "model.width" in refused.stdout + refused.stderr
    assert not (tmp_path / "none").exists()

    run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "tests", cwd=package)


def test_the_table_of_docstrings_is_written_and_learned_with_sparse_gradients(tmp_path, ptb):
    run(sys.executable, EXAMPLES / "docstrings_csv.py", "docstrings.csv", cwd=tmp_path)
    text = ("dataset.path=docstrings.csv", "dataset.target=package", "dataset.text=words")
    sparse = ("--optimizer", "sparse-adam", "model.sparse=true", "--lr", "0.01")
    done = ptb("run", "--model", "embedding-bag", "--dataset", "csv", *text, *sparse, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["test/accuracy"] > 0.75
