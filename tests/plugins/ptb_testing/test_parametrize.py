import subprocess
import sys

import pytest

from ptb.errors import PluginError, UnknownNameError
from ptb_testing import CheckFailed, parametrize_with_checks
from ptb_testing.kit import checks_of

TARGETS = """
from torch.nn.functional import mse_loss

def good(spec):
    return mse_loss

def required(spec, *, weight: float):
    return mse_loss

def detached(spec):
    return lambda scores, targets: mse_loss(scores.detach(), targets)
"""
HOOKS = """
from ptb import Component, hookimpl

@hookimpl
def ptb_provide_losses():
    return [Component(name, f"acme_losses:{name}", "Acme", accepts=("real",)) for name in ("good", "detached")]
"""
PROJECT = """
[project]
name = "ptb-acme"
[project.entry-points.ptb]
acme = "acme_hooks"
[tool.pytest.ini_options]
pythonpath = ["."]
"""
TEST = """
from pathlib import Path
from ptb_testing import parametrize_with_checks

@parametrize_with_checks(Path(__file__).parent)
def test_the_contract(check):
    check()
"""


class Ends:
    """How each test of an inner pytest ended, and what it said."""

    def __init__(self):
        self.words, self.output = {}, ""

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            word = "XFAIL" if hasattr(report, "wasxfail") else report.outcome.upper()
            self.words[report.nodeid.partition("[")[2].removesuffix("]")] = word
            self.output += f"{getattr(report, 'wasxfail', '')}\n{report.longreprtext}\n"

    def pytest_collectreport(self, report):
        self.output += report.longreprtext


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs pytest on a plugin in a source folder, and gives its exit code, how each check ended, and what was said."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)

    def make(*arguments, hooks=HOOKS, project=""):
        for name, text in {
            "acme_hooks.py": hooks,
            "acme_losses.py": TARGETS,
            "pyproject.toml": PROJECT + project,
            "test_acme.py": TEST,
        }.items():
            (tmp_path / name).write_text(text)
        ends = Ends()
        options = ["-p", "no:cacheprovider", "-p", "no:terminal", "-W", "error", "--rootdir", tmp_path, tmp_path]
        code = pytest.main([*map(str, options), *arguments], plugins=[ends])
        for name in ("acme_hooks", "acme_losses", "test_acme"):
            sys.modules.pop(name, None)
        return code, ends.words, ends.output

    return make


def named(ends, *wanted):
    return sorted(check for check, end in ends.items() if end in wanted)


def test_each_check_of_each_component_is_a_test_and_what_pyproject_gives_counts(run):
    project = """
[tool.ptb.check.expected_failures]
"loss/detached/fits-a-run" = "it only watches"
"loss/good/gradcheck" = "it was slow once"
"""
    hooks = HOOKS.replace('"detached")', '"detached", "required")')
    code, ends, output = run(hooks=hooks, project=project)
    names = [check.__name__.replace("_", "-") for check in checks_of("loss")]
    expected = [
        f"loss/{name}/{check}" for name in ("detached", "good", "required") for check in [*names, "enough-checks-ran"]
    ]
    assert list(ends) == expected
    assert named(ends, "XFAIL") == ["loss/detached/fits-a-run"]
    assert named(ends, "FAILED") == [
        "loss/detached/enough-checks-ran",
        *("loss/good/gradcheck", "loss/required/enough-checks-ran"),
    ]
    assert not [check for check in named(ends, "SKIPPED") if check.startswith("loss/good/")]
    assert len(named(ends, "SKIPPED")) > 10
    assert len([check for check in named(ends, "PASSED") if check.startswith("loss/good/")]) == len(names)
    assert "it only watches: a run refuses everything that it was tried on; on target real, scores float32 [B" in output
    assert "not run: fits-a-run did not pass" in output
    assert "expected to fail (it was slow once), and it passed" in output
    assert code == 1


def test_whether_enough_ran_is_known_of_that_test_alone(run):
    hooks = HOOKS.replace('("good", "detached")', '("good", "required")')
    code, ends, output = run("-k", "enough-checks-ran", hooks=hooks)
    assert ends == {"loss/good/enough-checks-ran": "PASSED", "loss/required/enough-checks-ran": "FAILED"}
    assert "checks ran, the minimum of the kind loss is" in output
    assert code == 1


def test_a_plugin_that_cannot_be_loaded_stops_the_collection(run):
    code, ends, output = run(hooks="raise OSError('gone')")
    assert (code, ends) == (2, {})
    assert "plugin 'ptb-acme 0' cannot be loaded: OSError: gone" in output


def test_a_name_that_is_not_installed_is_told():
    with pytest.raises(UnknownNameError, match="no plugin 'ptb-nowhere' is installed"):
        parametrize_with_checks("ptb-nowhere")


def test_no_components_are_an_error_and_no_green_test():
    with pytest.raises(PluginError, match="nothing to check"):
        parametrize_with_checks([])


def test_the_check_raises_what_a_test_may_catch(built_in):
    mark = parametrize_with_checks(
        [built_in.get("loss", "mse")], expected_failures={"loss/mse/gradcheck": "to see it fail"}
    )
    checks = {parameter.id: parameter.values[0] for parameter in mark.args[1]}
    checks["loss/mse/has-a-summary"]()
    with pytest.raises(CheckFailed, match="and it passed"):
        checks["loss/mse/gradcheck"]()


def test_importing_it_imports_no_torch():
    code = "import sys, ptb_testing; from ptb_testing import parametrize_with_checks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
