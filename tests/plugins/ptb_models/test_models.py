import pytest
import torch

import ptb
from ptb import DataSpec

ENTRIES = [entry for entry in ptb.load_registry().components("model") if entry.plugin == "pytorch-basics"]
INPUTS = {"image": (2, 16, 16), "vector": (7,), "tokens": (5,)}
TAKES = {
    "linear": ("image", "vector"),
    "mlp": ("image", "vector"),
    "lenet": ("image",),
    "cnn": ("image",),
    "embedding-bag": ("tokens",),
    "resnet": ("image",),
    "rnn": ("tokens",),
}
PIXELS_ONLY = ["unet"]  # which takes targets at each pixel, and is tried by itself
TARGETS = {"class": 4, "binary": 1, "multilabel": 3, "real": 3, "distribution": 4, "similarity": 6}
PAIRS = [(entry, inputs) for entry in ENTRIES for inputs in TAKES.get(entry.name, ())]
every_model = pytest.mark.parametrize(("entry", "inputs"), PAIRS, ids=lambda value: getattr(value, "name", value))


def spec_of(inputs, target="class"):
    return DataSpec(INPUTS[inputs], inputs, target, TARGETS[target], vocabulary=9 if inputs == "tokens" else None)


def batch(inputs, size=6):
    torch.manual_seed(0)
    if inputs == "tokens":
        return torch.randint(1, 9, (size, *INPUTS[inputs]))
    return torch.randn(size, *INPUTS[inputs])


def built(entry, spec):
    torch.manual_seed(1)
    return entry.load()(spec)


def test_every_model_is_tried():
    assert {entry.name for entry in ENTRIES} == {*TAKES, *PIXELS_ONLY}


@every_model
@pytest.mark.parametrize("target", TARGETS)
def test_scores_have_the_output_size_of_every_target_kind(entry, inputs, target):
    scores = built(entry, spec_of(inputs, target))(batch(inputs))
    assert scores.shape == (6, TARGETS[target])
    assert scores.dtype == torch.float32


@every_model
def test_both_halves_of_a_pair_are_embedded_alike(entry, inputs):
    model = built(entry, spec_of(inputs, "similarity")).eval()
    pairs = torch.stack([batch(inputs), batch(inputs).flip(0)], 1)  # (B, 2, *input_shape)
    embeddings = model(pairs.flatten(0, 1)).unflatten(0, (-1, 2))
    assert torch.allclose(embeddings[:, 0], embeddings[:, 1].flip(0), atol=1e-5)


@every_model
def test_gradients_reach_every_parameter(entry, inputs):
    model = built(entry, spec_of(inputs))
    model(batch(inputs, 40)).logsumexp(1).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@every_model
def test_scores_are_raw(entry, inputs):
    model = built(entry, spec_of(inputs))
    with torch.no_grad():
        for parameter in list(model.parameters())[-2:]:
            parameter.mul_(-50)
    scores = model.eval()(batch(inputs))
    assert scores.min() < 0
    assert scores.abs().max() > 1


@every_model
def test_a_seed_decides_the_weights(entry, inputs):
    first, again = built(entry, spec_of(inputs)).state_dict(), built(entry, spec_of(inputs)).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize(
    ("entry", "inputs"),
    [(entry, inputs) for entry in ENTRIES for inputs in INPUTS if inputs not in TAKES.get(entry.name, ())],
    ids=lambda value: getattr(value, "name", value),
)
def test_other_inputs_are_refused_by_name(entry, inputs):
    with pytest.raises(ValueError, match=f"^{entry.name} takes "):
        built(entry, spec_of(inputs))
