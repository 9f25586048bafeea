"""What many tests need: plugin packages made on disk, and the command line in a process of its own."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from functools import cache
from importlib.metadata import DistributionFinder, MetadataPathFinder
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import settings

from fork_server import ForkServer

if "PYTEST_XDIST_WORKER" in os.environ:  # tests beside each other: threads of torch would only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Hundreds of runs would write a page at their end; tests/plugins/ptb_report looks at that.
os.environ.setdefault("PTB_REPORT", "0")

from ptb.cli import main
from ptb.registry.discovery import BUILT_IN, find_plugins, load_plugin
from ptb.registry.registry import Registry
from ptb_doctor.processes import Ended

# The same examples in every run: whether a change may land is not a matter of luck. `--hypothesis-profile=explore`
# looks for new ones.
settings.register_profile("explore")
settings.register_profile("repeatable", derandomize=True, max_examples=30)
settings.load_profile("repeatable")

TINY = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from ptb import Component, DataBundle, DataSpec, hookimpl

def line():  # the validation targets are the opposite, so that the first evaluation stays the best
    inputs = torch.linspace(-1, 1, 36).reshape(12, 3)
    targets = inputs.sum(1, keepdim=True)
    spec = DataSpec(input_shape=(3,), inputs="vector", target="real", output_size=1)
    return DataBundle(spec, TensorDataset(inputs, targets), TensorDataset(inputs, -targets))

class Net(nn.Sequential):
    def __init__(self, spec):
        super().__init__(nn.Linear(3, 4), nn.Dropout(0.2), nn.Linear(4, 1))

@hookimpl
def ptb_provide_datasets():
    return [Component("line", "tiny:line")]

@hookimpl
def ptb_provide_models():
    return [Component("net", "tiny:Net")]
"""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With ``-n``, a process that has nothing left to do takes tests from another one."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


def pytest_collection_modifyitems(items):
    # The last tests should be short ones.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


class PluginSite:
    """A folder that plays site-packages: ``add`` installs a plugin package into it."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self._monkeypatch = monkeypatch
        path.mkdir()

    def add(
        self, name: str, source: str, version: str = "1.0", module: str | None = None, requires: Sequence[str] = ()
    ) -> None:
        module = module or name.replace("-", "_")
        (self.path / f"{module}.py").write_text(textwrap.dedent(source))
        info = self.path / f"{module}-{version}.dist-info"
        info.mkdir()
        needs = "".join(f"Requires-Dist: {text}\n" for text in requires)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        (info / "entry_points.txt").write_text(f"[ptb]\n{module} = {module}\n")

    def write(self, file: str, source: str) -> None:
        (self.path / file).write_text(textwrap.dedent(source))

    def distributions(self):
        return MetadataPathFinder.find_distributions(DistributionFinder.Context(path=[str(self.path)]))

    def load(self):
        self._monkeypatch.syspath_prepend(str(self.path))
        return [load_plugin(found) for found in find_plugins(self.distributions())]

    def registry(self) -> Registry:
        """The built-ins, and what was added here."""
        return Registry([*_built_in_plugins(), *self.load()])


@cache
def _built_in_plugins():
    return [load_plugin(found) for found in find_plugins() if found.name == BUILT_IN]


@pytest.fixture
def site(tmp_path, monkeypatch):
    before = set(sys.modules)
    yield PluginSite(tmp_path / "site", monkeypatch)
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def tiny(site):
    """A registry with the smallest run that draws random numbers and has a best checkpoint: ``net`` on ``line``."""
    site.add("tiny", TINY)
    return site.registry()


@pytest.fixture(scope="session")
def built_in():
    """A registry of the built-in components alone, whatever else is installed."""
    return Registry(_built_in_plugins())


@pytest.fixture(scope="session")
def forks():
    """Starts Python programs in processes that need not import torch anew."""
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def run_python(forks):
    """Runs ``[sys.executable, ...]`` as ``subprocess.run`` does, in such a process."""
    return forks.run


@pytest.fixture
def ptb(tmp_path, run_python):
    """Runs ``python -m ptb`` in ``tmp_path``; ``site=`` puts a folder of plugins on its path.

    With ``forked=False``, or other options of ``subprocess.run``, torch is not imported before.
    """

    def run(
        *arguments: object, site: Path | None = None, forked: bool = True, **options: object
    ) -> subprocess.CompletedProcess[str]:
        # Before what is on the path already, as when the tests are run on another checkout than the installed one.
        paths = list(filter(None, (str(site or ""), os.environ.get("PYTHONPATH"))))
        environment = os.environ | ({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})
        command = [sys.executable, "-m", "ptb", *map(str, arguments)]
        if forked and options.keys() <= {"input", "timeout"}:
            return run_python(command, cwd=tmp_path, env=environment, **options)
        options = {"capture_output": True, "text": True, "timeout": 120} | options
        return subprocess.run(command, cwd=tmp_path, env=environment, **options)

    return run


@pytest.fixture
def ptb_here(run_python, monkeypatch):
    """Runs a command of ptb that starts others in processes of their own: itself in this process, those in forks."""

    def run_forked(command, environment=None, seconds=None):
        try:
            done = run_python(command, cwd=Path.cwd(), env=environment, timeout=seconds or 300)
        except subprocess.TimeoutExpired:
            return Ended(None)
        return Ended(done.returncode, done.stdout, done.stderr)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = CliRunner().invoke(main, arguments, prog_name="ptb")
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    monkeypatch.setattr("ptb_doctor.processes.run", run_forked)
    return run
