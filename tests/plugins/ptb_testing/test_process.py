import random
import threading
from contextlib import suppress

import numpy as np
import pytest
import torch

from ptb_testing.process import SWITCHES, Snapshot, differing, guarded, identical

NAN = float("nan")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (torch.ones(2), torch.ones(2), True),
        (torch.ones(2), torch.ones(2, dtype=torch.float64), False),
        (torch.ones(2), torch.ones(1, 2), False),
        (torch.tensor([1.0, NAN]), torch.tensor([1.0, NAN]), True),
        (torch.tensor([1.0, NAN]), torch.tensor([NAN, 1.0]), False),
        (torch.ones(2).to_sparse(), torch.ones(2).to_sparse(), True),
        (torch.ones(2).to_sparse(), torch.ones(2), False),
        (np.ones(2), np.ones(2), True),
        (np.ones(2), np.zeros(2), False),
        ({"a": [torch.ones(1)]}, {"a": [torch.ones(1)]}, True),
        ({"a": 1}, {"b": 1}, False),
        ((1, 2), [1, 2], False),
        ((1, 2), (1,), False),
        (1, 1.0, False),
        (1, True, False),
        (NAN, NAN, True),
        (None, None, True),
        (None, 0, False),
    ],
)
def test_identical_is_to_the_last_bit(one, other, same):
    assert identical(one, other) is same


def test_what_differs_is_named():
    assert differing({"a": 1, "b": torch.ones(1), "c": 3}, {"a": 1, "b": torch.zeros(1), "d": 3}) == ["b", "c", "d"]


def test_what_the_block_changes_is_put_back():
    before = Snapshot.take()
    with guarded():
        random.random(), np.random.rand(), torch.rand(1)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        inside = Snapshot.take()
    assert before.moved_generators(inside) == ["random", "numpy.random", "torch"]
    assert list(before.changed_switches(inside)) == ["torch.get_default_dtype()", "torch.is_grad_enabled()"]
    after = Snapshot.take()
    assert (before.moved_generators(after), before.changed_switches(after)) == ([], {})


def test_it_is_put_back_after_an_error_too():
    torch.use_deterministic_algorithms(False)  # imports at first what is there for good
    before = Snapshot.take()
    with suppress(ZeroDivisionError), guarded():
        torch.use_deterministic_algorithms(True)
        raise ZeroDivisionError
    assert before.changed_switches(Snapshot.take()) == {}


def test_writing_a_switch_as_it_stands_changes_nothing():
    before = Snapshot.take()
    for name, switch in SWITCHES.items():
        if switch.write is not None:
            switch.write(before.switches[name])
    assert before.changed_switches(Snapshot.take()) == {}


def test_a_thread_that_ends_is_not_blamed_on_what_runs_beside_it_and_one_that_begins_is():
    ended, other = threading.Event(), threading.Event()
    former, new = (threading.Thread(target=event.wait) for event in (ended, other))
    former.start()
    before = Snapshot.take()
    ended.set()
    former.join()
    assert before.changed_switches(Snapshot.take()) == {}
    new.start()
    (message,) = before.changed_switches(Snapshot.take()).values()
    other.set()
    new.join()
    assert message.startswith("the threads that the process waits for (<Thread(")
