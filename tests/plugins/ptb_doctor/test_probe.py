import json
import subprocess
import sys
from types import ModuleType

import pytest

from ptb.registry.discovery import find_plugins
from ptb_doctor.probe import describe

SOURCE = """
import polars
from ptb import Component, hookimpl

@hookimpl
def ptb_provide_models():
    return [Component("tiny", "nowhere:Tiny", aliases=["small"])]
"""


@pytest.mark.parametrize("there", [False, True], ids=["by-the-plugin", "before-it"])
def test_a_heavy_package_counts_for_the_plugin_that_imports_it_first(site, monkeypatch, there):
    site.add("ptb-acme", SOURCE)
    site.write("polars.py", "")
    monkeypatch.syspath_prepend(str(site.path))
    if there:
        monkeypatch.setitem(sys.modules, "polars", ModuleType("polars"))
    (found,) = find_plugins(site.distributions())
    facts = describe(found)
    assert facts["heavy"] == ([] if there else ["polars"])
    assert (facts["reason"], facts["missing"]) == ("", "")
    assert facts["components"][0][0] == "model"
    assert facts["components"][0][1]["aliases"] == ("small",)


def test_the_module_that_does_not_exist_is_named(site, monkeypatch):
    site.add("ptb-acme", "import no_such_module.inner")
    monkeypatch.syspath_prepend(str(site.path))
    (found,) = find_plugins(site.distributions())
    facts = describe(found)
    assert (facts["status"], facts["missing"]) == ("failed", "no_such_module")
    assert facts["reason"].startswith("ModuleNotFoundError: ")


def changes_of(*sources):
    """The changes that each of these sources makes, run one after the other in one process."""
    code = """
import json, sys
from ptb_doctor.probe import observed
seen = []
for source in sys.argv[1:]:
    with observed() as changes:
        exec(source, {"__name__": "acme"})
    seen.append(changes)
print("\\n" + json.dumps(seen), file=sys.__stdout__, flush=True)
"""
    command = [sys.executable, "-c", code, *sources]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout.splitlines()[-1])


def test_what_an_import_changes_for_the_whole_process_is_named():
    changes = {
        "import os; os.chdir('/')": "the current folder",
        "import os, tempfile; d = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d)": "the current folder",
        "import os; os.umask(0o123)": "the umask",
        "import os; os.environ['OMP_NUM_THREADS'] = '77'": "$OMP_NUM_THREADS",
        "import os; del os.environ['OMP_NUM_THREADS']": "$OMP_NUM_THREADS",
        "import sys; sys.path.insert(0, '/acme')": "sys.path",
        "import sys, io; sys.stdout = io.StringIO()": "sys.stdout",
        "import sys; sys.stderr = None": "sys.stderr",
        "import sys; sys.excepthook = print": "sys.excepthook",
        "import signal; signal.signal(signal.SIGTERM, print)": "the handler of SIGTERM",
        "import warnings; warnings.filterwarnings('ignore')": "warnings.filters",
        "import warnings; warnings.resetwarnings()": "warnings.filters",
        "import atexit; atexit.register(print)": "a function of acme that runs at exit",
        "from threading import *; Thread(name='pump', target=Event().wait, daemon=True).start()": "a thread, 'pump'",
    }
    assert changes_of(*changes) == [[name] for name in changes.values()]


def test_what_libraries_do_for_themselves_is_not_named_and_switches_of_torch_are():
    own = [
        "import warnings; warnings.filterwarnings('ignore', 'of its own', module='acme')",
        "import logging, multiprocessing.util",  # they register what runs at exit
        "import threading; t = threading.Thread(target=print); t.start(); t.join()",
    ]
    switches = {  # the first import of torch must not look like a change of the others
        "import torch; torch.set_default_dtype(torch.float64)": "torch.get_default_dtype()",
        "import torch; torch.set_default_device('meta')": "torch.get_default_device()",
        "import torch; torch.set_float32_matmul_precision('medium')": "torch.get_float32_matmul_precision()",
        "import torch; torch._C._set_deterministic_algorithms(True)": "torch.are_deterministic_algorithms_enabled()",
        "import torch; torch.backends.cudnn.deterministic = True": "torch.backends.cudnn.deterministic",
        "import torch; torch.backends.cudnn.benchmark = True": "torch.backends.cudnn.benchmark",
        "import torch; torch.set_grad_enabled(False)": "torch.is_grad_enabled()",
        "import torch; torch.autograd.set_detect_anomaly(True)": "torch.is_anomaly_enabled()",
        "import torch; torch.nn.modules.module.register_module_forward_hook(print)": "torch's global hooks",
    }
    seen = changes_of(*own, *switches)
    assert seen[:3] == [[], [], []]
    for expected, changes in zip(switches.values(), seen[3:], strict=True):
        assert [name for name in changes if not name.startswith("$")] == [expected]
