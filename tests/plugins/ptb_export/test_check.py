import pytest
import torch

from ptb import DataSpec, NumericalError
from ptb_export.check import check

SPEC = DataSpec((2,), "vector", "class", 2)
INPUTS = torch.tensor([[100.0, -100.0], [1e-3, 0.0], [2.0, 3.0]])


def run_of(change):
    def run(batch):
        scores = change(batch)
        return scores, scores

    return run


def test_a_difference_counts_beside_the_largest_score_of_all_samples():
    difference = check(run_of(lambda x: x + 5e-4), run_of(lambda x: x), INPUTS, SPEC)
    assert difference == pytest.approx(5e-6, rel=0.1)


@pytest.mark.parametrize("change", [lambda x: x + 2e-3, lambda x: x * float("nan")], ids=["more", "nan"])
def test_a_larger_difference_is_refused(change):
    with pytest.raises(NumericalError, match="at batch size 1 its scores differ by"):
        check(run_of(change), run_of(lambda x: x), INPUTS, SPEC)


def test_what_is_wrong_at_one_batch_size_only_is_found():
    with pytest.raises(NumericalError, match="at batch size 257"):
        check(run_of(lambda x: x if len(x) < 257 else x + 1), run_of(lambda x: x), INPUTS, SPEC)


def test_another_shape_is_refused():
    with pytest.raises(NumericalError, match=r"gives scores of shape \[1, 1\] at batch size 1"):
        check(run_of(lambda x: x[:, :1]), run_of(lambda x: x), INPUTS, SPEC)
