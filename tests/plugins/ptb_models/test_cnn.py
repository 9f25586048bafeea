import json

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from ptb import DataSpec
from ptb_models.cnn import CNN
from ptb_models.settings import CNN as Settings

sides = st.integers(1, 40)
odd = st.sampled_from([1, 3, 5])


def images(*shape, outputs=10):
    return DataSpec(shape, "image", "class", outputs)


def count(model, kind):
    return sum(isinstance(layer, kind) for layer in model.modules())


def read(**values):
    return Settings.model_validate_json(json.dumps(values), strict=True, extra="forbid")


def test_the_defaults_have_29178_parameters_for_28x28_pictures_and_ten_classes():
    parameters = sum(parameter.numel() for parameter in CNN(images(1, 28, 28)).parameters())
    convolutions = 9 * (1 * 16 + 16 * 32 + 32 * 64)
    assert parameters == convolutions + 2 * (16 + 32 + 64) + 64 * 3 * 3 * 10 + 10 == 29_178


def test_the_defaults_are_convolution_norm_relu_and_pooling_three_times_and_a_linear_layer():
    model, inputs = CNN(images(2, 28, 28)), torch.randn(4, 2, 28, 28)
    x = inputs
    for block in model.blocks:
        conv, norm = block[0], block[1]
        x = F.conv2d(x, conv.weight, padding=1)
        x = F.batch_norm(x, None, None, norm.weight, norm.bias, training=True)
        x = F.max_pool2d(F.relu(x), 2)
    assert torch.allclose(model(inputs), model.head[-1](x.flatten(1)), atol=1e-5)
    assert len(model.blocks) == 3


@pytest.mark.parametrize(
    "shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 57, 91), (3, 224, 160), (1, 9, 300)], ids=str
)
def test_pictures_of_any_size_fit_and_the_linear_layer_stays_small(shape):
    model = CNN(images(*shape, outputs=4)).eval()
    assert model(torch.zeros(2, *shape)).shape == (2, 4)
    assert model.head[-1].in_features <= 64 * 16


@hypothesis_settings(deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), sides, sides),
    channels=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    kernel_size=st.one_of(odd, st.tuples(odd, odd)),
    stride=st.integers(1, 2),
    padding=st.one_of(st.integers(0, 2), st.tuples(st.integers(0, 2), st.integers(0, 2)), st.just("same")),
    pool=st.sampled_from(["max", "avg", "none"]),
    pool_size=st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3))),
    batch_norm=st.booleans(),
)
def test_every_choice_gives_scores_or_says_where_nothing_is_left(shape, channels, **settings):
    settings["stride"] = 1 if settings["padding"] == "same" else settings["stride"]
    layers = [nn.Conv2d(shape[0], 1, settings["kernel_size"], settings["stride"], settings["padding"])]
    layers += [nn.Conv2d(1, 1, *(settings[key] for key in ("kernel_size", "stride", "padding"))) for _ in channels[1:]]
    pool = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}.get(settings["pool"], lambda size: nn.Identity())
    x, fits = torch.zeros(1, *shape), True
    try:
        for layer in layers:
            x = pool(settings["pool_size"])(layer(x))
    except RuntimeError:
        fits = False
    if fits:
        model = CNN(images(*shape, outputs=2), channels=channels, **settings).eval()
        assert model(torch.zeros(3, *shape)).shape == (3, 2)
        assert model.blocks(torch.zeros(3, *shape)).shape[2:] == x.shape[2:]
    else:
        with pytest.raises(ValueError, match="nothing is left of the pictures at block"):
            CNN(images(*shape, outputs=2), channels=channels, **settings)


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        (
            (1, 4, 6),
            {},
            r"block 3 of 3: 1x1 pixels reach it, the convolution \(3x3, stride 1x1, padding same\) makes 1x1 of them "
            r"and pooling \(2x2\) 0x0; give fewer channels, a smaller kernel_size, stride or pool_size, or more pad",
        ),
        (
            (1, 28, 3),
            {"channels": [2], "kernel_size": [3, 5], "stride": 2, "padding": 0, "pool": "none"},
            r"block 1 of 1: 28x3 pixels reach it, the convolution \(3x5, stride 2x2, padding 0x0\) makes 13x0",
        ),
    ],
    ids=["pooling", "convolution"],
)
def test_nothing_left_names_the_block_the_sizes_and_the_settings(shape, settings, message):
    settings = {key: tuple(value) if key == "kernel_size" else value for key, value in settings.items()}
    with pytest.raises(ValueError, match=message):
        CNN(images(*shape), **settings)


def test_batch_norm_takes_the_place_of_biases():
    with_norm, without = CNN(images(1, 8, 8)), CNN(images(1, 8, 8), batch_norm=False)
    assert (count(with_norm, nn.BatchNorm2d), count(without, nn.BatchNorm2d)) == (3, 0)
    assert all(block[0].bias is None for block in with_norm.blocks)
    assert all(block[0].bias is not None for block in without.blocks)


def test_dropout_stands_before_the_linear_layer_and_acts_in_training_only():
    model, inputs = CNN(images(1, 16, 16), dropout=0.5, batch_norm=False), torch.randn(4, 1, 16, 16)
    assert isinstance(model.head[-2], nn.Dropout)
    assert not torch.equal(model(inputs), model(inputs))
    model.eval()
    assert torch.equal(model(inputs), model(inputs))
    assert count(CNN(images(1, 16, 16)), nn.Dropout) == 0


@pytest.mark.parametrize(
    ("pool", "kinds"), [("max", (3, 0)), ("avg", (0, 3)), ("none", (0, 0))], ids=["max", "avg", "none"]
)
def test_the_blocks_pool_as_asked(pool, kinds):
    model = CNN(images(1, 16, 16), pool=pool)
    assert (count(model.blocks, nn.MaxPool2d), count(model.blocks, nn.AvgPool2d)) == kinds


@pytest.mark.parametrize(("side", "window", "places"), [(4, 1, 4), (5, 2, 3), (7, 2, 4), (16, 4, 4), (17, 5, 4)])
def test_large_rests_are_averaged_in_windows(side, window, places):
    model = CNN(images(1, side, side), channels=[2], pool="none").eval()
    inputs = torch.randn(1, 1, side, side)
    features = model.blocks(inputs)
    means = [
        features[0, :, top : top + window, left : left + window].mean((1, 2))
        for top in range(0, side, window)
        for left in range(0, side, window)
    ]
    assert model.head[-1].in_features == 2 * places**2
    assert torch.allclose(model(inputs), model.head[-1](torch.stack(means, 1).reshape(1, -1)), atol=1e-5)


@pytest.mark.parametrize(
    ("activation", "kind"),
    [("relu", nn.ReLU), ("leaky_relu", nn.LeakyReLU), ("gelu", nn.GELU), ("tanh", nn.Tanh), ("sigmoid", nn.Sigmoid)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_activation_is_that_of_torch(activation, kind):
    assert count(CNN(images(1, 8, 8), activation=activation), kind) == 3


@pytest.mark.parametrize(
    "spec",
    [DataSpec((64,), "vector", "class", 10), DataSpec((64,), "tokens", "class", 10, vocabulary=100)],
    ids=lambda spec: spec.inputs,
)
def test_what_is_no_picture_is_refused(spec):
    with pytest.raises(ValueError, match=f"cnn takes pictures .* of kind '{spec.inputs}'"):
        CNN(spec)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"channels": []}, "at least 1 item"),
        ({"channels": [4, 0]}, "greater than 0"),
        ({"channels": [2**63 - 1]}, "less than or equal to 100000"),
        ({"kernel_size": 2**63 - 1}, "less than or equal to 4096"),
        ({"kernel_size": [3, 0]}, "greater than 0"),
        ({"kernel_size": [3, 3, 3]}, "at most 2 items"),
        ({"stride": 2}, "padding same needs stride 1, stride is 2: give padding as a number"),
        ({"stride": [1, 2]}, "padding same needs stride 1"),
        ({"padding": -1}, "greater than or equal to 0"),
        ({"padding": "valid"}, "'same'"),
        ({"pool": "none", "pool_size": 3}, "pool none has no use for pool_size"),
        ({"dropout": 1.0}, "less than 1"),
        ({"activation": "swish"}, "'relu'"),
    ],
    ids=lambda value: "" if isinstance(value, str) else json.dumps(value),
)
def test_a_wrong_setting_is_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        read(**values)


def test_one_number_or_two_are_taken():
    settings = read(kernel_size=[3, 5], stride=[1, 2], padding=[1, 2], pool_size=[2, 1])
    model = CNN(images(1, 20, 20), **dict(settings))
    assert (model.blocks[0][0].kernel_size, model.blocks[0][0].stride) == ((3, 5), (1, 2))
    assert read(stride=[1, 1]).padding == "same"
