import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ptb_initializers.structured import dirac, eye, orthogonal, sparse

sizes = st.integers(1, 7)


def initialized(initializer, module, **settings):
    torch.manual_seed(0)
    with torch.no_grad():
        initializer(module, **settings)
    return module


@settings(deadline=None)
@given(sizes, sizes)
def test_eye_passes_on_as_many_inputs_as_possible(inputs, outputs):
    layer = initialized(eye, nn.Linear(inputs, outputs))
    x = torch.randn(3, inputs)
    kept = min(inputs, outputs)
    assert torch.equal(layer(x)[:, :kept], x[:, :kept])
    assert not layer(x)[:, kept:].any()


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("outputs", [2, 3, 5])
def test_dirac_passes_its_inputs_on(dimensions, outputs):
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    layer = initialized(dirac, convolution(3, outputs, 3, padding=1))
    x = torch.randn(2, 3, *[5] * dimensions)
    kept = min(3, outputs)
    assert torch.equal(layer(x)[:, :kept], x[:, :kept])
    assert not layer(x)[:, kept:].any()


def test_dirac_passes_its_inputs_on_in_each_group():
    layer = initialized(dirac, nn.Conv2d(6, 9, 3, padding=1, groups=3), groups=3)
    x = torch.randn(2, 6, 4, 4)
    out = layer(x)
    assert torch.equal(out[:, [0, 1, 3, 4, 6, 7]], x)
    assert not out[:, [2, 5, 8]].any()


def test_groups_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(ValueError, match=r"groups=4 divides; .* \[6, 1, 5, 5\]: choose other groups"):
        dirac(nn.Conv2d(1, 6, 5), groups=4)


@settings(deadline=None)
@given(sizes, sizes)
def test_orthogonal_gives_orthonormal_rows_or_columns(inputs, outputs):
    weight = initialized(orthogonal, nn.Linear(inputs, outputs)).weight
    product = weight @ weight.T if outputs <= inputs else weight.T @ weight
    assert torch.allclose(product, torch.eye(min(inputs, outputs)), atol=1e-5)


def test_orthogonal_takes_a_convolution_as_a_matrix():
    weight = initialized(orthogonal, nn.Conv2d(2, 5, 3)).weight.flatten(1)
    assert torch.allclose(weight @ weight.T, torch.eye(5), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "gain"),
    [({"gain": 3.0}, 3), ({"nonlinearity": "tanh"}, 5 / 3), ({"gain": 2.0, "nonlinearity": "relu"}, 2 * math.sqrt(2))],
    ids=["gain", "nonlinearity", "both"],
)
def test_orthogonal_multiplies_by_its_gain(settings, gain):
    weight = initialized(orthogonal, nn.Linear(6, 4), **settings).weight
    assert torch.allclose(weight @ weight.T, gain**2 * torch.eye(4), atol=1e-4)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.55, 0.95])
def test_sparse_sets_the_same_part_of_each_column_to_zero(sparsity):
    weight = initialized(sparse, nn.Linear(200, 30), sparsity=sparsity).weight
    assert (weight == 0).sum(0).tolist() == [math.ceil(sparsity * 30)] * 200
    assert len({tuple(column) for column in (weight == 0).T.tolist()}) >= 20 or sparsity == 0


def test_the_rest_of_sparse_is_normal():
    weight = initialized(sparse, nn.Linear(300, 700), sparsity=0.5, std=0.2).weight
    rest = weight[weight != 0].double()
    assert rest.std().item() == pytest.approx(0.2, rel=0.01)
    assert rest.mean().item() == pytest.approx(0, abs=4 * 0.2 / math.sqrt(len(rest)))


def test_a_layer_with_one_output_becomes_zero_as_the_docs_warn():
    assert not initialized(sparse, nn.Linear(5, 1)).weight.any()
    assert initialized(sparse, nn.Linear(5, 1), sparsity=0.0).weight.all()
