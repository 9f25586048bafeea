import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptb import DataError
from ptb.data.batch import Batch, leaves, map_leaves

X, Y, W = torch.zeros(3, 2), torch.arange(3), torch.ones(3, dtype=torch.float64)
FIELDS = {"inputs": X, "length": Y}


@pytest.mark.parametrize(
    ("given", "inputs", "targets", "weights"),
    [
        (X, X, {}, None),
        ((X,), X, {}, None),
        ([X, Y], X, Y, None),
        ((X, Y, W), X, Y, W),
        (FIELDS, FIELDS, {}, None),
        ([FIELDS], FIELDS, {}, None),
        ((FIELDS, Y), FIELDS, Y, None),
        ([FIELDS, Y, W], FIELDS, Y, W),
        ((X, Y, None), X, Y, None),
    ],
    ids=[
        "tensor",
        "alone",
        "pair",
        "weighted",
        "dict",
        "dict alone",
        "dict and targets",
        "dict, weighted",
        "no weights",
    ],
)
def test_samples_have_inputs_and_perhaps_targets_and_weights(given, inputs, targets, weights):
    batch = Batch.of(given)
    assert batch.inputs is inputs
    assert batch.targets is targets or (batch.targets == targets == {})
    assert batch.size == 3
    if weights is None:
        assert batch.weights is None
    else:
        assert batch.weights.dtype == torch.float32
        assert torch.equal(batch.weights.double(), weights)


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ((), ""),
        ([], ""),
        (None, "NoneType"),
        ("text", "str"),
        (3.0, "float"),
        (X.numpy(), "ndarray"),
        ((X, Y, W, X), "Tensor, Tensor, Tensor, Tensor"),
        ((X, None), "Tensor, NoneType"),
        ((X, {"a": Y}), "Tensor, dict of a"),
        ((X, [Y, Y]), "Tensor, list"),
        ((X, Y, 1.0), "Tensor, Tensor, float"),
        ((X, Y, {"w": W}), "Tensor, Tensor, dict of w"),
        ({}, "dict of "),
        ({"a": {"b": X}}, "dict of a"),
        ({"a": X, "b": np.zeros(3)}, "dict of a, b"),
        (({}, Y), "dict of , Tensor"),
        (([X, X], Y), "list, Tensor"),
    ],
    ids=str,
)
def test_what_is_no_batch_is_refused_with_what_it_is(given, got):
    with pytest.raises(DataError, match="a sample must be") as error:
        Batch.of(given)
    assert f"got ({got})" in str(error.value)


@pytest.mark.parametrize(
    ("given", "shapes"),
    [
        ((X, Y, W[:, None]), r"\(3, 2\), \(3,\), \(3, 1\)"),
        ((X, Y, W[:2]), r"\(3, 2\), \(3,\), \(2,\)"),
        ((X, Y, W[0]), r"\(3, 2\), \(3,\), \(\)"),
        ((X, Y[:2]), r"\(3, 2\), \(2,\)"),
        ({"inputs": X, "length": Y[1:]}, r"\(3, 2\), \(2,\)"),
        (W[0], r"\(\)"),
    ],
    ids=["column of weights", "few weights", "one weight", "few targets", "a short field", "no dimension"],
)
def test_all_tensors_are_of_one_length_and_weights_are_numbers(given, shapes):
    with pytest.raises(DataError, match=f"of one length, and weights one number a sample; got tensors of .* {shapes}$"):
        Batch.of(given)


@given(
    size=st.integers(0, 5),
    names=st.lists(st.sampled_from("abc"), unique=True),
    has_targets=st.booleans(),
    weighted=st.booleans(),
)
def test_a_batch_knows_its_size_and_bytes_and_maps_every_tensor(size, names, has_targets, weighted):
    inputs = {name: torch.ones(size, number + 1) for number, name in enumerate(names)} or torch.ones(size, 2)
    batch = Batch(
        inputs, torch.ones(size) if has_targets else {}, torch.ones(size) if has_targets and weighted else None
    )
    floats = sum(range(1, len(names) + 1)) or 2
    assert batch.size == size
    assert batch.nbytes == 4 * size * (floats + has_targets + (has_targets and weighted))
    halves = batch.map(lambda tensor: tensor / 2)
    assert type(halves) is Batch
    assert [each.shape for each in halves.tensors()] == [each.shape for each in batch.tensors()]
    assert all((each == 0.5).all() for each in halves.tensors())
    assert (type(halves.inputs), halves.weights is None) == (type(inputs), batch.weights is None)
    if names:
        assert list(halves.inputs) == names
    assert has_targets or halves.targets == {}


def test_trees_are_tensors_dicts_of_them_or_nothing():
    assert list(leaves(None)) == []
    assert list(leaves(X)) == [X]
    assert list(leaves(FIELDS)) == [X, Y]
    assert map_leaves(len, None) is None
    assert map_leaves(len, X) == 3
    assert map_leaves(len, FIELDS) == {"inputs": 3, "length": 3}
