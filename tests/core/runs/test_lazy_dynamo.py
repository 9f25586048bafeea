import json
import subprocess
import sys

import pytest

STEP = """
import json, sys
import torch
from ptb.runs.lazy_dynamo import put_off_dynamo
put_off_dynamo()
layer = torch.nn.Linear(2, 1)
loss = lambda: layer(torch.ones(3, 2)).sum()
def closure():
    optimizer.zero_grad()
    value = loss()
    value.backward()
    return value
for make in (torch.optim.Adam, torch.optim.SGD, torch.optim.LBFGS, torch.optim.RMSprop):
    optimizer = make(layer.parameters(), lr=0.1)
    optimizer.step(closure)
    optimizer.load_state_dict(optimizer.state_dict())
"""
TELL = "print(json.dumps({'imported': 'torch._dynamo.utils' in sys.modules, **told}))"


def told(code):
    done = subprocess.run([sys.executable, "-c", STEP + code + TELL], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_optimizers_train_without_the_compiler():
    assert told("told = {}\n") == {"imported": False}


@pytest.mark.parametrize(
    "use",
    [
        "import torch._dynamo.config as real; real.suppress_errors",
        "from torch._dynamo import explain, config",
        "import torch; torch._dynamo.reset()",
        "torch.compiler.reset()",
    ],
)
def test_whoever_needs_it_gets_the_real_module(use):
    code = f"{use}\ntold = {{'kind': type(sys.modules['torch._dynamo']).__name__}}\noptimizer.step(closure)\n"
    assert told(code) == {"imported": True, "kind": "module"}


def test_what_was_left_alone_is_asked_about_again_once_it_is_there():
    code = """
inner = torch.optim.Optimizer.zero_grad.__wrapped__
before = getattr(inner, '__dynamo_disable') is inner
torch._dynamo.reset()
told = {'before': before, 'after': hasattr(inner, '__dynamo_disable')}
"""
    assert told(code) == {"imported": True, "before": True, "after": False}


def test_whoever_looks_around_imports_nothing():
    code = """
import importlib.util, inspect
for module in list(sys.modules.values()):
    hasattr(module, '__file__'), hasattr(module, '__warningregistry__'), hasattr(module, '__wrapped__')
told = {'module': inspect.getmodule(closure) is not None, 'found': importlib.util.find_spec('torch._dynamo').name}
"""
    assert told(code) == {"imported": False, "module": True, "found": "torch._dynamo"}


def test_it_leaves_the_module_alone_where_it_is_imported_already():
    code = "put_off_dynamo(); import torch._dynamo.utils; real = torch._dynamo; put_off_dynamo()\n"
    assert told(code + "told = {'same': torch._dynamo is real}\n") == {"imported": True, "same": True}
