import pytest
import torch
from torch import nn

from ptb import ConfigError, DataSpec
from ptb_models.unet import UNet


def spec_of(height, width, channels=1, target="class", size=2):
    return DataSpec((channels, height, width), "image", target, size, positions=(height, width))


def test_with_the_defaults_it_has_the_layers_of_the_paper():
    with torch.device("meta"):
        model = UNet(spec_of(572, 572), width=64, batch_norm=False)
    layers = [each for each in model.modules() if isinstance(each, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(layers) == 23
    assert [down[0].out_channels for down in model.down] == [64, 128, 256, 512, 1024]
    # By hand: a kernel and a bias for each output channel of 3x3, 2x2 and 1x1 convolutions.
    widths = [64, 128, 256, 512, 1024]
    down = sum(9 * a * b + b + 9 * b * b + b for a, b in zip([1, *widths], widths, strict=False))
    up = sum(4 * 2 * b * b + b + 9 * 2 * b * b + b + 9 * b * b + b for b in widths[:-1])
    assert sum(each.numel() for each in model.parameters()) == down + up + 64 * 2 + 2 == 31_030_658


@pytest.mark.parametrize("size", [(16, 16), (1, 1), (17, 30), (5, 64)])
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("target", ["class", "real"])
def test_scores_are_at_each_pixel_of_pictures_of_any_size(size, depth, target):
    model = UNet(spec_of(*size, 3, target, 4), depth=depth, width=4).eval()
    assert model(torch.randn(2, 3, *size)).shape == (2, 4, *size)
    assert model(torch.randn(2, 3, 9, 10)).shape == (2, 4, 9, 10)


def test_zeros_around_a_picture_are_no_part_of_the_scores():
    torch.manual_seed(0)
    model = UNet(spec_of(13, 14), depth=2, width=4, batch_norm=False).eval()
    picture = torch.randn(1, 1, 13, 14)
    padded = torch.zeros(1, 1, 16, 16)
    padded[..., :13, :14] = picture
    assert torch.equal(model(picture), model(padded)[..., :13, :14])


def test_a_score_sees_near_pixels_by_the_first_level_and_far_ones_by_those_below():
    torch.manual_seed(0)
    model = UNet(spec_of(32, 32), depth=3, width=4, batch_norm=False)
    picture = torch.randn(1, 1, 32, 32, requires_grad=True)
    model(picture)[0, 0, 16, 16].backward()
    seen = picture.grad[0, 0] != 0
    assert seen[16, 16]
    assert seen[0].any()
    model.up[-1].weight.data.zero_()
    picture.grad = None
    model(picture)[0, 0, 16, 16].backward()
    assert {tuple(place) for place in picture.grad[0, 0].nonzero().tolist()} <= {
        (row, column) for row in range(12, 21) for column in range(12, 21)
    }  # four 3x3 convolutions
    assert picture.grad[0, 0, 12, 12:21].any()


def test_gradients_reach_every_parameter():
    model = UNet(spec_of(16, 16), depth=2, width=4)
    model(torch.randn(4, 1, 16, 16)).logsumexp(1).sum().backward()
    assert [name for name, each in model.named_parameters() if each.grad is None or not each.grad.any()] == []


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (DataSpec((1, 8, 8), "image", "class", 3), "unet takes a target at each of the 8x8 pixels .* one a sample"),
        (DataSpec((1, 8, 8), "image", "class", 3, positions=(4, 4)), r"at \(4, 4\) positions"),
        (DataSpec((8,), "vector", "class", 3), "unet takes pictures"),
    ],
    ids=["class", "other-positions", "vector"],
)
def test_what_is_no_segmentation_is_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        UNet(spec)


@pytest.mark.parametrize("settings", [{"depth": 0}, {"depth": 9}, {"width": 0}])
def test_settings_out_of_range_are_refused(built_in, settings):
    with pytest.raises(ConfigError, match=f"model.{next(iter(settings))}"):
        built_in.build("model", "unet", spec_of(8, 8), **settings)
