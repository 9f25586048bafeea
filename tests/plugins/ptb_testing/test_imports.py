from ptb_testing.imports import changes_of_importing
from ptb_testing.process import Snapshot

AT_IMPORT = {
    "torch.set_default_dtype(torch.float64)": "torch.get_default_dtype() from torch.float32 to torch.float64",
    "torch.set_float32_matmul_precision('high')": "torch.get_float32_matmul_precision() from highest to high",
    "torch.use_deterministic_algorithms(True)": "torch.use_deterministic_algorithms from (False, False) to",
    "torch.backends.cudnn.benchmark = True": "torch.backends.cudnn (benchmark)",
    "torch.nn.modules.module.register_module_forward_hook(print)": (
        "torch's hooks for all modules and optimizers (_global_forward_hooks)"
    ),
    "torch.manual_seed(0)": "the global generator of torch",
    "import random; random.random()": "the global generator of random",
    "import threading, time; threading.Thread(target=time.sleep, args=(1,), name='watcher').start()": (
        "the threads that the process waits for (<Thread(watcher, "
    ),
    "import atexit; atexit.register(int)": "the functions of atexit from ",
    "import os; os.chdir('/')": "the current folder from ",
    "import os; os.umask(0o7)": "the umask from ",
    "import os; os.environ['PTB_LATE'] = '1'": "os.environ (PTB_LATE)",
    "import sys; sys.path.append('elsewhere')": "sys.path (elsewhere)",
    "import signal; signal.signal(signal.SIGUSR1, print)": "the handlers of signals (SIGUSR1)",
    "import warnings; warnings.simplefilter('ignore')": "warnings.filters (('ignore', None,",
    "import io, sys; sys.stdout = io.StringIO()": "sys (stdout)",
}


def test_what_changes_while_a_module_is_imported_is_seen(site, monkeypatch):
    monkeypatch.syspath_prepend(site.path)
    site.write("acme_good.py", "import torch, sklearn.svm, logging, concurrent.futures\n")
    assert changes_of_importing("acme_good") == []
    for number, (line, change) in enumerate(AT_IMPORT.items()):
        site.write(f"acme_fault_{number}.py", f"import torch\n{line}\n")
        before = Snapshot.take()
        found = changes_of_importing(f"acme_fault_{number}")
        assert len(found) == 1, line
        assert found[0].startswith(change), line
        left = {"the threads that the process waits for", "the functions of atexit"}
        assert set(before.changed_switches(Snapshot.take())) <= left, line
