import warnings

import pytest
import torch

from ptb import DataSpec, InputSpec
from ptb_models.cnn import CNN
from ptb_models.embedding_bag import EmbeddingBag
from ptb_models.lenet import LeNet
from ptb_models.linear import Linear
from ptb_models.mlp import MLP
from ptb_models.resnet import ResNet
from ptb_models.rnn import RNN
from ptb_models.unet import UNet

PICTURES = DataSpec((1, 20, 20), "image", "class", 4)
PIXELS = DataSpec((1, 21, 22), "image", "class", 4, positions=(21, 22))
TEXTS = DataSpec((9,), "tokens", "class", 3, vocabulary=30, padding=0)
TAGS = DataSpec((9,), "tokens", "class", 3, vocabulary=30, padding=0, positions=(9,))
SENSORS = DataSpec((9, 5), "array", "class", 3)
LENGTHS = DataSpec((9, 5), "array", "class", 3, fields={"lengths": InputSpec((), "array")})
RNNS = [
    pytest.param(
        *(RNN, spec, {"cell": cell, "bidirectional": both, "layers": 2}),
        id=f"rnn-{cell}-{both}-{name}",
        marks=[] if both is (cell == "gru") else [pytest.mark.matrix],
    )
    for name, spec in [("texts", TEXTS), ("tags", TAGS), ("sensors", SENSORS), ("lengths", LENGTHS)]
    for cell in ("lstm", "gru")
    for both in (False, True)
]


def inputs_of(spec, size=4):
    if spec.inputs == "tokens":  # of several lengths, one of them empty
        return torch.randint(1, 30, (size, 9)) * (torch.arange(9) < torch.tensor([[2], [9], [5], [0]]))
    inputs = torch.randn(size, *spec.input_shape)
    return {"inputs": inputs, "lengths": torch.tensor([3, 9, 1, 5])} if spec.fields else inputs


@pytest.mark.parametrize(
    ("model", "spec", "settings"),
    [
        *((model, PICTURES, {}) for model in (Linear, MLP, LeNet, CNN, ResNet)),
        (UNet, PIXELS, {"width": 4, "depth": 2}),
        (EmbeddingBag, TEXTS, {}),
        (EmbeddingBag, TEXTS, {"sparse": True}),
        *RNNS,
    ],
)
def test_a_scripted_model_gives_the_scores_of_the_model(model, spec, settings):
    torch.manual_seed(0)
    built = model(spec, **settings).eval()
    inputs = inputs_of(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        scripted = torch.jit.script(built)
        given = scripted(inputs)
    torch.testing.assert_close(given, built(inputs), rtol=1e-5, atol=1e-6)
