import sys
import textwrap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ptb import DataSpec
from ptb_models.embedding_bag import EmbeddingBag
from ptb_models.settings import EmbeddingBag as Settings

modes = pytest.mark.parametrize("mode", ["mean", "sum", "max"])
REDUCED = {"mean": lambda x: x.mean(0), "sum": lambda x: x.sum(0), "max": lambda x: x.amax(0)}


def tokens(length=6, vocabulary=20, outputs=3):
    return DataSpec((length,), "tokens", "class", outputs, vocabulary=vocabulary)


def test_it_has_a_row_for_each_token_and_a_linear_layer():
    model = EmbeddingBag(tokens(vocabulary=1000, outputs=4))
    assert sum(parameter.numel() for parameter in model.parameters()) == 1000 * 64 + 64 * 4 + 4
    assert EmbeddingBag(tokens(), embedding_dim=5).head.in_features == 5


@modes
def test_the_vectors_of_the_tokens_are_reduced_and_padding_is_left_out(mode):
    model = EmbeddingBag(tokens(), mode=mode)
    sample = torch.tensor([[4, 7, 4, 9, 0, 0]])
    bag = REDUCED[mode](model.embedding.weight[[4, 7, 4, 9]])
    assert torch.allclose(model(sample), model.head(bag)[None], atol=1e-5)


@modes
def test_the_amount_and_place_of_padding_change_nothing(mode):
    model = EmbeddingBag(tokens(), mode=mode)
    torch.nn.init.normal_(model.embedding.weight)  # the row of token 0 too
    first, second = model(torch.tensor([[5, 6, 0, 0, 0, 0], [0, 0, 5, 0, 6, 0]]))
    assert torch.allclose(first, second)


@modes
def test_a_sample_of_padding_alone_has_a_bag_of_zeros(mode):
    model = EmbeddingBag(tokens(), mode=mode)
    assert torch.equal(model(torch.zeros(1, 6, dtype=torch.int64))[0], model.head.bias)


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 30), st.integers(1, 5), st.booleans())
def test_any_sizes_fit_together(length, vocabulary, outputs, sparse):
    model = EmbeddingBag(tokens(length, vocabulary, outputs), sparse=sparse)
    assert model(torch.randint(vocabulary, (4, length))).shape == (4, outputs)


@pytest.mark.parametrize("mode", ["mean", "sum"])
def test_a_sparse_model_is_the_bag_alone_and_sparse_adam_trains_all_of_it(mode):
    torch.manual_seed(0)
    model = EmbeddingBag(tokens(), mode=mode, sparse=True)
    before = model.embedding.weight.detach().clone()
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == {"embedding.weight": (20, 3)}
    optimizer = torch.optim.SparseAdam(model.parameters())
    torch.nn.functional.cross_entropy(model(torch.tensor([[4, 7, 0, 0, 0, 0]])), torch.tensor([1])).backward()
    assert model.embedding.weight.grad.is_sparse
    optimizer.step()
    changed = (model.embedding.weight != before).any(1).nonzero().flatten().tolist()
    assert changed == [4, 7]


def test_sparse_scores_are_the_mean_of_the_tokens_scores():
    model = EmbeddingBag(tokens(), sparse=True)
    assert torch.allclose(model(torch.tensor([[4, 7, 0, 0, 0, 0]]))[0], model.embedding.weight[[4, 7]].mean(0))


@pytest.mark.parametrize("shape", [(3, 8, 8), (8,)], ids=["image", "vector"])
def test_what_is_no_tokens_is_refused(shape):
    kind = "image" if len(shape) == 3 else "vector"
    with pytest.raises(ValueError, match=f"embedding-bag takes tokens, these inputs are of kind '{kind}'"):
        EmbeddingBag(DataSpec(shape, kind, "class", 2))


def test_sparse_gradients_with_mode_max_are_refused():
    with pytest.raises(ValueError, match="mode max: choose mode mean or sum"):
        EmbeddingBag(tokens(), mode="max", sparse=True)
    with pytest.raises(ValidationError, match="mode max: choose mode mean or sum"):
        Settings(mode="max", sparse=True)


def test_embedding_dim_is_refused_where_it_has_no_use():
    with pytest.raises(ValidationError, match="sparse has no use for embedding_dim"):
        Settings(sparse=True, embedding_dim=8)
    assert Settings(embedding_dim=8).embedding_dim == 8


def test_torch_does_not_warn_of_sparse_checks_that_nobody_asked_for(run_python, tmp_path):
    code = """
        import warnings
        import torch
        from ptb import DataSpec
        from ptb.cli.lazy_dynamo import put_off_dynamo
        from ptb_models.embedding_bag import EmbeddingBag

        put_off_dynamo()
        warnings.simplefilter("error")
        model = EmbeddingBag(DataSpec((4,), "tokens", "class", 3, vocabulary=9), sparse=True)
        optimizer = torch.optim.Adagrad(model.parameters())
        model(torch.randint(9, (5, 4))).sum().backward()
        optimizer.step()
    """
    done = run_python([sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
