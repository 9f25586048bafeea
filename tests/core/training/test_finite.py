"""What is no number is found, and nothing else."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ptb import NumericalError
from ptb.training.evaluation import MetricsRow
from ptb.training.finite import FiniteCheck, check_rows, check_weights, non_finite, non_finite_tensors

CPU = torch.device("cpu")
NAN, INF = math.nan, math.inf
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64]


@given(
    values=st.lists(st.lists(st.sampled_from([0.0, -1.5, 60000.0, NAN, INF, -INF]), max_size=5), max_size=4),
    dtypes=st.lists(st.sampled_from(DTYPES), min_size=4, max_size=4),
    sparse=st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_many_tensors_are_finite_if_each_value_is(values, dtypes, sparse):
    tensors = [torch.tensor(each, dtype=dtype) for each, dtype in zip(values, dtypes, strict=False)]
    before = [each.clone() for each in tensors]
    looked_at = [each.to_sparse() if sparse else each for each in tensors]
    wanted = all(torch.isfinite(each).all() for each in tensors)
    check = FiniteCheck(CPU)
    assert check.all_finite(looked_at) == wanted
    assert check.all_finite(looked_at) == wanted
    assert check.all_finite([torch.ones(2)])
    for tensor, kept in zip(tensors, before, strict=True):
        torch.testing.assert_close(tensor, kept, rtol=0, atol=0, equal_nan=True)


def test_names_of_what_is_not_finite_keep_their_order():
    tensors = {"b": torch.tensor([1.0, NAN]), "c": torch.ones(2), "a": torch.tensor(INF), "i": torch.tensor([1])}
    assert non_finite(tensors) == ["b", "a"]
    assert non_finite({"z": torch.tensor([complex(0, INF)]), "s": torch.tensor([0, NAN]).to_sparse()}) == ["z", "s"]
    assert non_finite({}) == []


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.frozen = nn.Parameter(torch.tensor(NAN), requires_grad=False)
        self.register_buffer("mask", torch.tensor([0.0, -INF]))
        self.register_buffer("largest", torch.zeros(()))
        self.register_buffer("count", torch.tensor(0))

    def forward(self, inputs):
        return self.layer(inputs)


def test_what_is_infinite_from_the_start_is_no_error(build):
    assert non_finite_tensors(Masked()) == {"mask"}
    trainer = build(Masked)
    trainer.fit()
    trainer.model.largest.fill_(INF)
    with pytest.raises(NumericalError, match=r"the weights are not finite after step 6 \(largest\)"):
        check_weights(trainer)


@pytest.mark.parametrize(("split", "said"), [("train", "training"), ("val", "validation"), ("test", "test")])
def test_a_row_with_a_loss_that_is_no_number_is_an_error_with_advice(split, said):
    rows = [MetricsRow(5, 1, "train", {"loss": 1.0}, 0.1), MetricsRow(5, 1, split, {"loss": NAN}, 0.25)]
    with pytest.raises(
        NumericalError, match=rf"the {said} loss is nan after step 5.* rate is 0\.25: try a smaller"
    ) as error:
        check_rows(rows)
    assert error.value.exit_code == 4
    check_rows(rows[:1])
