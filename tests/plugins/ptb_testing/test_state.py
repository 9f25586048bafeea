import random

import numpy as np
import pytest
import torch
from ptb_testing.state import SWITCHES, differences, generators, guarded, identical, switches

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
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False),
        ((1, 2), [1, 2], True),
        ((1, 2), (1,), False),
        (1, 1.0, False),
        (NAN, NAN, True),
        (None, None, True),
        (None, 0, False),
    ],
)
def test_identical_is_to_the_last_bit(one, other, same):
    assert identical(one, other) is same


def test_what_the_block_changes_is_put_back():
    before = generators(), switches()
    with guarded():
        random.random(), np.random.rand(), torch.rand(1)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        assert differences(before[0], generators()) == ["random", "numpy.random", "torch"]
        assert differences(before[1], switches()) == ["torch.get_default_dtype()", "torch.is_grad_enabled()"]
    assert identical(before, (generators(), switches()))


def test_it_is_put_back_after_an_error_too():
    def broken():
        with guarded():
            torch.use_deterministic_algorithms(True)
            raise ZeroDivisionError

    before = switches()
    with pytest.raises(ZeroDivisionError):
        broken()
    changed = differences(before, switches())
    assert [name for name in changed if SWITCHES[name].write is not None] == []


def test_writing_a_switch_as_it_stands_changes_nothing():
    before = switches()
    for name, switch in SWITCHES.items():
        if switch.write is not None:
            switch.write(before[name])
    assert identical(before, switches())
