import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ptb import DataSpec
from ptb_models.linear import Linear

sizes = st.integers(1, 9)


def test_it_has_7850_parameters_for_28x28_pictures_and_ten_classes():
    model = Linear(DataSpec((1, 28, 28), "image", "class", 10))
    assert sum(parameter.numel() for parameter in model.parameters()) == 7850


@settings(deadline=None)
@given(st.lists(sizes, min_size=1, max_size=3), sizes)
def test_it_is_one_matrix_and_a_bias_on_the_flattened_inputs(shape, outputs):
    model = Linear(DataSpec(tuple(shape), "vector", "real", outputs))
    inputs = torch.randn(3, *shape)
    assert torch.allclose(model(inputs), inputs.flatten(1) @ model.linear.weight.T + model.linear.bias, atol=1e-5)
    assert model(inputs).shape == (3, outputs)


def test_tokens_are_refused():
    with pytest.raises(
        ValueError, match="linear takes images or vectors, these inputs are tokens; embedding-bag takes"
    ):
        Linear(DataSpec((8,), "tokens", "class", 2, vocabulary=100))
