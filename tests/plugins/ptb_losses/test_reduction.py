import itertools
import warnings

import pytest
import torch
from torch import nn

from ptb import ConfigError, DataSpec
from ptb.registry.settings import plain_values, validate
from ptb_losses.reduction import resolve_reduction

CHOICES = (None, False, True)
OLD_WORDS = [pair for pair in itertools.product(CHOICES, CHOICES) if pair != (None, None)]
LOSSES = {
    "bce": ("binary", 1, nn.BCELoss),
    "bce-with-logits": ("binary", 1, nn.BCEWithLogitsLoss),
    "cross-entropy": ("class", 3, nn.CrossEntropyLoss),
    "mse": ("real", 3, nn.MSELoss),
    "l1": ("real", 3, nn.L1Loss),
    "smooth-l1": ("real", 3, nn.SmoothL1Loss),
    "kl-div": ("distribution", 3, nn.KLDivLoss),
    "cosine-embedding": ("similarity", 3, nn.CosineEmbeddingLoss),
}
BATCHES = {
    "binary": (torch.randn(6, 1), torch.ones(6, 1)),
    "class": (torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])),
    "real": (torch.randn(6, 3), torch.randn(6, 3)),
    "distribution": (torch.randn(6, 3), torch.rand(6, 3).softmax(1)),
    "similarity": (torch.randn(6, 2, 3), torch.tensor([1.0, -1.0] * 3)),
}
every_loss = pytest.mark.parametrize("name", LOSSES)
every_old_word = pytest.mark.parametrize(("size_average", "reduce"), OLD_WORDS, ids=str)


def theirs(size_average, reduce):
    return nn._reduction.legacy_get_string(size_average, reduce, emit_warning=False)


def written(**settings):
    return {name: value for name, value in settings.items() if value is not None}


def spec_of(name):
    target, size, _ = LOSSES[name]
    return DataSpec((4,), "vector", target, size)


@pytest.mark.parametrize(("size_average", "reduce"), list(itertools.product(CHOICES, CHOICES)), ids=str)
def test_the_old_words_mean_what_they_mean_to_torch(size_average, reduce):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        assert resolve_reduction("mean", size_average, reduce) == theirs(size_average, reduce)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum", "batchmean"])
def test_without_them_the_reduction_stays_and_nothing_is_warned_of(reduction):
    assert resolve_reduction(reduction, None, None) == reduction


@pytest.mark.parametrize("reduction", ["none", "mean", "sum", "batchmean"])
@every_old_word
def test_they_override_the_reduction(reduction, size_average, reduce):
    with pytest.warns(FutureWarning, match=f"reduction='{theirs(size_average, reduce)}'"):
        assert resolve_reduction(reduction, size_average, reduce) == theirs(size_average, reduce)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("mean", False, None), "size_average=False is deprecated: it means reduction='sum'"),
        (("none", True, False), "size_average=True with reduce=False is deprecated: it means reduction='none'"),
        (("none", None, True), "reduce=True is deprecated: it means reduction='mean', overriding reduction='none'"),
    ],
    ids=["one", "both", "overriding"],
)
def test_the_warning_says_what_was_written_and_what_to_write(arguments, told):
    with pytest.warns(FutureWarning) as caught:
        resolve_reduction(*arguments)
    assert [str(warning.message) for warning in caught] == [f"{told}; write that instead"]


@every_loss
def test_settings_and_target_have_every_mode_of_torch_and_its_default(built_in, name):
    modes = ["none", "mean", "sum", "batchmean"] if name == "kl-div" else ["none", "mean", "sum"]
    model = built_in.get("loss", name).settings_model()
    assert model.model_json_schema()["properties"]["reduction"]["enum"] == modes
    assert model().reduction == LOSSES[name][2]().reduction == "mean"
    scores, targets = BATCHES[LOSSES[name][0]]
    for mode in modes:
        value = built_in.build("loss", name, spec_of(name), reduction=mode)(scores, targets)
        assert value.shape == (() if mode != "none" else targets.shape)


@every_loss
@every_old_word
def test_settings_hold_only_the_reduction_that_is_meant(built_in, name, size_average, reduce):
    model = built_in.get("loss", name).settings_model()
    with pytest.warns(FutureWarning, match="deprecated"):
        settings = validate(model, written(size_average=size_average, reduce=reduce))
    assert (settings.reduction, settings.size_average, settings.reduce) == (theirs(size_average, reduce), None, None)
    assert not {"size_average", "reduce"} & set(plain_values(settings))
    assert validate(model, plain_values(settings)) == settings


@every_loss
@every_old_word
def test_they_do_the_same_by_settings_as_by_the_target_alone(built_in, name, size_average, reduce):
    scores, targets = BATCHES[LOSSES[name][0]]
    wanted = built_in.build("loss", name, spec_of(name), reduction=theirs(size_average, reduce))(scores, targets)
    with pytest.warns(FutureWarning) as told:
        by_settings = built_in.build("loss", name, spec_of(name), **written(size_average=size_average, reduce=reduce))
    with pytest.warns(FutureWarning) as caught:
        alone = built_in.get("loss", name).load()(spec_of(name), size_average=size_average, reduce=reduce)
    assert len(told) == len(caught) == 1
    assert caught[0].filename == __file__
    assert torch.equal(by_settings(scores, targets), wanted)
    assert torch.equal(alone(scores, targets), wanted)


@every_loss
@pytest.mark.parametrize("mode", ["avg", "elementwise_mean", ""])
def test_other_modes_are_refused(built_in, name, mode):
    with pytest.raises(ConfigError, match=r"loss\.reduction: must be 'none', 'mean'"):
        built_in.build("loss", name, spec_of(name), reduction=mode)


@every_loss
def test_only_kl_div_has_batchmean(built_in, name):
    if name == "kl-div":
        built_in.build("loss", name, spec_of(name), reduction="batchmean")
        return
    with pytest.raises(ConfigError, match=r"loss\.reduction: must be 'none', 'mean' or 'sum'"):
        built_in.build("loss", name, spec_of(name), reduction="batchmean")


@every_loss
def test_a_loss_in_training_warns_of_nothing_and_has_a_gradient(built_in, name):
    scores, targets = BATCHES[LOSSES[name][0]]
    scores = scores.clone().requires_grad_()
    built_in.build("loss", name, spec_of(name))(scores, targets).backward()
    assert scores.grad.shape == scores.shape
    assert scores.grad.isfinite().all()


@every_loss
def test_old_words_that_contradict_a_written_reduction_are_refused(built_in, name):
    with pytest.warns(FutureWarning), pytest.raises(ConfigError, match=r"contradicted .* which mean 'sum'; drop these"):
        built_in.build("loss", name, spec_of(name), reduction="mean", size_average=False)
    with pytest.warns(FutureWarning):
        built_in.build("loss", name, spec_of(name), reduction="sum", size_average=False)
