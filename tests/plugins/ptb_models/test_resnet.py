import pytest
import torch
from torch import nn

from ptb import ConfigError, DataSpec
from ptb_models.resnet import ResNet

CIFAR = DataSpec((3, 32, 32), "image", "class", 10)
IMAGENET = DataSpec((3, 224, 224), "image", "class", 1000)
# The paper's table 6, in millions; and torchvision's, whose small forms of table 1 have the paper's layers.
SMALL = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}
LARGE = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808}


def parameters(model):
    return sum(each.numel() for each in model.parameters())


def built(spec, depth):
    with torch.device("meta"):
        return ResNet(spec, depth=depth)


@pytest.mark.parametrize("depth", SMALL)
def test_the_form_for_small_pictures_has_the_paper_s_parameters(depth):
    digits = 1 if depth == 110 else 2
    assert round(parameters(built(CIFAR, depth)) / 1e6, digits) == SMALL[depth]


@pytest.mark.parametrize("depth", LARGE)
def test_the_form_for_large_pictures_has_torchvision_s_parameters(depth):
    assert parameters(built(IMAGENET, depth)) == LARGE[depth]


@pytest.mark.parametrize("depth", [*SMALL, *LARGE])
def test_the_depth_is_the_number_of_layers_with_weights(depth):
    model = built(CIFAR, depth)
    shortcuts = {id(each) for block in model.blocks if block.shortcut for each in block.shortcut}
    layers = [each for each in model.modules() if isinstance(each, nn.Conv2d | nn.Linear) and id(each) not in shortcuts]
    assert len(layers) == depth


@pytest.mark.parametrize(
    ("spec", "depth", "shape"),
    [(CIFAR, 20, (64, 8, 8)), (IMAGENET, 18, (512, 7, 7)), (IMAGENET, 50, (2048, 7, 7))],
    ids=["20", "18", "50"],
)
def test_the_last_features_have_the_size_that_the_paper_says(spec, depth, shape):
    model = built(spec, depth)
    seen = []
    model.blocks.register_forward_hook(lambda module, inputs, outputs: seen.append(tuple(outputs.shape[1:])))
    assert model(torch.empty(2, *spec.input_shape, device="meta")).shape == (2, spec.output_size)
    assert seen == [shape]


def test_a_block_whose_convolutions_give_0_passes_on_what_it_got():
    torch.manual_seed(0)
    model = ResNet(CIFAR, depth=20)
    for block in model.blocks:
        nn.init.zeros_(block.residual[-1].weight)
    x = model.stem(torch.randn(2, 3, 32, 32))
    y = model.blocks(x)
    assert torch.equal(y[:, :16], x[..., ::4, ::4])  # option A: every second pixel twice
    assert not y[:, 16:].any()


@pytest.mark.parametrize("depth", [20, 18, 50])
@pytest.mark.parametrize("size", [(1, 1), (28, 28), (33, 7)])
def test_pictures_of_any_size_go_through(depth, size):
    model = ResNet(DataSpec((1, *size), "image", "class", 3), depth=depth).eval()
    assert model(torch.zeros(2, 1, *size)).shape == (2, 3)


@pytest.mark.parametrize("depth", [19, 26, 0, "50"])
def test_other_depths_are_refused(built_in, depth):
    with pytest.raises(ConfigError, match=r"model\.depth"):
        built_in.build("model", "resnet", CIFAR, depth=depth)
