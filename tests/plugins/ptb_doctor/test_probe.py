import json
import subprocess
import sys
from types import ModuleType

import pytest

from ptb.registry.discovery import find_plugins
from ptb_doctor.probe import _answer

SOURCE = """
import polars
from ptb import Component, hookimpl

@hookimpl
def ptb_provide_models():
    return [Component("tiny", "nowhere:Tiny", aliases=["small"])]
"""


@pytest.mark.parametrize("there", [False, True], ids=["by-the-plugin", "before-it"])
def test_a_heavy_package_is_told_of_the_plugin_that_imports_it_first(site, monkeypatch, there):
    site.add("ptb-acme", SOURCE)
    site.write("polars.py", "")
    monkeypatch.syspath_prepend(str(site.path))
    if there:
        monkeypatch.setitem(sys.modules, "polars", ModuleType("polars"))
    (found,) = find_plugins(site.distributions())
    answer = _answer(found)
    assert answer["heavy"] == ([] if there else ["polars"])
    assert (answer["name"], answer["status"], answer["missing"]) == ("ptb-acme", "ok", "")
    assert answer["components"][0][0] == "model"
    assert answer["components"][0][1]["aliases"] == ("small",)


def test_the_module_that_was_not_there_is_told(site, monkeypatch):
    site.add("ptb-acme", "import no_such_module.inner")
    monkeypatch.syspath_prepend(str(site.path))
    (found,) = find_plugins(site.distributions())
    answer = _answer(found)
    assert (answer["status"], answer["missing"]) == ("failed", "no_such_module")
    assert answer["reason"].startswith("ModuleNotFoundError: ")


def changes_of(*sources):
    """What is told of each of these sources, run one after the other in a process of their own."""
    code = """
import json, sys
from ptb_doctor.probe import _observed
told = []
for source in sys.argv[1:]:
    with _observed() as changes:
        exec(source, {"__name__": "acme"})
    told.append(changes)
print("\\n" + json.dumps(told), file=sys.__stdout__, flush=True)
"""
    command = [sys.executable, "-c", code, *sources]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout.splitlines()[-1])


def test_what_an_import_changes_for_the_whole_process_is_told():
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
    assert changes_of(*changes) == [[told] for told in changes.values()]


def test_what_libraries_do_for_themselves_is_not_told():
    sources = [
        "import warnings; warnings.filterwarnings('ignore', 'of its own', module='acme')",
        "import logging, multiprocessing.util",  # they register what runs at exit
        "import threading; t = threading.Thread(target=print); t.start(); t.join()",
        "import torch",
    ]
    assert changes_of(*sources) == [[], [], [], []]


def test_switches_of_torch_are_compared_with_how_an_import_of_it_leaves_them():
    changes = {
        "import torch; torch.set_default_dtype(torch.float64)": "torch.get_default_dtype()",
        "torch.set_default_device('meta')": "torch.get_default_device()",
        "torch.set_float32_matmul_precision('medium')": "torch.get_float32_matmul_precision()",
        "torch.use_deterministic_algorithms(True)": "torch.use_deterministic_algorithms",
        "torch.backends.cudnn.deterministic = True": "torch.backends.cudnn.deterministic",
        "torch.backends.cudnn.benchmark = True": "torch.backends.cudnn.benchmark",
        "torch.set_grad_enabled(False)": "torch.is_grad_enabled()",
        "torch.autograd.set_detect_anomaly(True)": "torch.is_anomaly_enabled()",
        "torch.nn.modules.module.register_module_forward_hook(print)": "torch's global hooks",
    }
    told = changes_of(*(f"import torch; {source}" for source in changes))
    for expected, seen in zip(changes.values(), told, strict=True):
        assert expected in seen
        assert [name for name in seen if not name.startswith("$")] == [expected]  # some import more of torch
