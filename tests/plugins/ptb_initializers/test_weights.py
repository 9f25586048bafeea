import pytest
import torch
from torch import nn

from ptb_initializers import by_layer
from ptb_initializers.layer_settings import RULES
from ptb_initializers.weights import fill_weights

SEVEN = 7.0
NORM_LAYERS = [
    nn.BatchNorm1d(4),
    nn.BatchNorm2d(4),
    nn.BatchNorm3d(4),
    nn.SyncBatchNorm(4),
    nn.InstanceNorm1d(4, affine=True),
    nn.InstanceNorm2d(4, affine=True),
    nn.InstanceNorm3d(4, affine=True),
    nn.GroupNorm(2, 4),
    nn.LayerNorm(4),
    nn.LayerNorm((3, 4)),
    nn.RMSNorm(4),
    nn.RMSNorm((3, 4)),
]
FITS_2 = ["uniform", "normal", "trunc-normal", "constant", "ones", "zeros", "orthogonal", "xavier-uniform"]
FITS_2 += ["xavier-normal", "kaiming-uniform", "kaiming-normal"]
SETTINGS = {"uniform": {"a": -1.0}, "constant": {"value": 2.0}}


def filled_with_seven(module):
    for parameter in module.parameters():
        nn.init.constant_(parameter, SEVEN)
    return module


def apply(name, module):
    torch.manual_seed(0)
    with torch.no_grad():
        by_layer.TARGETS[name](module, **SETTINGS.get(name, {}))
    return module


def untouched(module):
    return all((parameter == SEVEN).all() for parameter in module.parameters())


@pytest.mark.parametrize("name", FITS_2)
def test_weights_are_filled_and_biases_become_zero(name):
    model = apply(name, filled_with_seven(nn.Sequential(nn.Conv2d(2, 6, 3), nn.Conv1d(2, 4, 5), nn.Linear(5, 4))))
    for layer in model:
        assert (layer.weight != SEVEN).all()
        assert not layer.bias.any()


@pytest.mark.parametrize("name", FITS_2)
@pytest.mark.parametrize("norm", NORM_LAYERS, ids=lambda norm: f"{type(norm).__name__}-{norm.weight.ndim}d")
def test_norm_layers_within_a_model_are_left_as_they_are(name, norm):
    model = apply(name, filled_with_seven(nn.Sequential(nn.Linear(4, 4), norm)))
    assert not untouched(model[0])
    assert untouched(model[1])


def test_vectors_and_parameters_of_other_names_are_left_as_they_are():
    class Token(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.zeros(3, 4))

    model = apply("kaiming-normal", filled_with_seven(nn.Sequential(nn.Linear(4, 4), nn.PReLU(4), Token())))
    assert untouched(model[1])
    assert untouched(model[2])


@pytest.mark.parametrize("name", ["eye", "dirac", "sparse"])
def test_layers_that_do_not_fit_keep_their_weights_and_biases(name):
    conv, linear = apply(name, filled_with_seven(nn.Sequential(nn.Conv2d(2, 6, 3), nn.Linear(5, 4))))
    fitting, other = (conv, linear) if name == "dirac" else (linear, conv)
    assert untouched(other)
    assert not untouched(fitting)
    assert not fitting.bias.any()


@pytest.mark.parametrize(
    "module", [nn.LSTM(3, 4, num_layers=2), nn.MultiheadAttention(4, 2, add_bias_kv=True)], ids=["lstm", "attention"]
)
def test_every_kind_of_bias_becomes_zero(module):
    apply("xavier-normal", filled_with_seven(module))
    biases = [parameter for name, parameter in module.named_parameters() if "bias" in name.rpartition(".")[2]]
    weights = [parameter for name, parameter in module.named_parameters() if "weight" in name.rpartition(".")[2]]
    assert len(biases) >= 2
    assert not any(bias.any() for bias in biases)
    assert all((weight != SEVEN).all() for weight in weights)


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag], ids=lambda kind: kind.__name__)
def test_the_row_of_the_padding_token_becomes_zero(kind):
    weight = apply("normal", kind(5, 3, padding_idx=2)).weight
    assert not weight[2].any()
    assert weight[[0, 1, 3, 4]].all()


def test_a_shared_weight_is_drawn_once():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    calls = []
    fill_weights(model, "any", calls.append)
    assert len(calls) == 1
    assert not model[1].bias.any()


@pytest.mark.parametrize("name", [name for name in RULES if name != "default"])
def test_a_seed_decides_the_weights(name):
    def drawn(seed):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Linear(6, 5))
        with torch.no_grad():
            by_layer.TARGETS[name](model, **SETTINGS.get(name, {}))
        return torch.cat([parameter.flatten() for parameter in model.parameters()]).detach()

    assert torch.equal(drawn(0), drawn(0))
    if name not in ("constant", "ones", "zeros"):
        assert not torch.equal(drawn(0), drawn(1))


@pytest.mark.parametrize("name", [name for name in RULES if name != "default"])
@pytest.mark.parametrize("model", [nn.ReLU(), nn.Sequential(nn.BatchNorm2d(3))], ids=["none", "norm"])
def test_a_model_without_weights_is_refused(name, model):
    with pytest.raises(ValueError, match=f"^{name} fills weights of .*; this model has no weights"):
        apply(name, model)


@pytest.mark.parametrize(
    ("name", "dimensions", "model", "has"),
    [
        ("dirac", "3 to 5 dimensions", nn.Linear(3, 4), r"weight \[4, 3\]"),
        ("eye", "2 dimensions", nn.Conv1d(3, 4, 5), r"weight \[4, 3, 5\]"),
        ("sparse", "2 dimensions", nn.Sequential(nn.Conv2d(3, 4, 5)), r"0.weight \[4, 3, 5, 5\]"),
    ],
    ids=["dirac", "eye", "sparse"],
)
def test_a_misfit_says_which_weights_fit_and_what_the_model_has(name, dimensions, model, has):
    with pytest.raises(
        ValueError, match=f"^{name} fills weights of {dimensions}; this model has {has}: choose another"
    ):
        apply(name, model)


def test_a_misfit_names_a_few_weights_only():
    with pytest.raises(ValueError, match=r"3.weight \[1, 1\] and 2 more: "):
        apply("dirac", nn.Sequential(*(nn.Linear(1, 1) for _ in range(6))))


def test_weights_still_take_gradients():
    model = apply("orthogonal", nn.Linear(3, 2))
    model(torch.ones(1, 3)).sum().backward()
    assert model.weight.grad.any()
