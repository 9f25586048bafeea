import pytest
import torch

from ptb import ConfigError
from ptb_datasets.random_data import random_data

INPUTS = {
    "image": (torch.uint8, (2, 5, 6)),
    "vector": (torch.float32, (7,)),
    "tokens": (torch.int64, (9,)),
    "array": (torch.float32, (3, 4, 2)),
}
TARGETS = ["class", "binary", "multilabel", "real", "distribution", "similarity"]


def splits_equal(first, second):
    return all(map(torch.equal, first.train.tensors, second.train.tensors))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("inputs", INPUTS)
def test_every_form_has_the_shapes_dtypes_and_ranges_of_its_spec(built_in, inputs, target):
    dtype, shape = INPUTS[inputs]
    size = 1 if target == "binary" else 4
    bundle = built_in.build(
        "dataset", "random", inputs=inputs, input_shape=list(shape), target=target, output_size=size, samples=21
    )
    assert (bundle.spec.inputs, bundle.spec.input_shape) == (inputs, shape)
    assert (bundle.spec.target, bundle.spec.output_size) == (target, size)
    assert {name: len(split) for name, split in bundle.splits.items()} == {"train": 21, "val": 5, "test": 5}
    for split in bundle.splits.values():
        values, targets = split.tensors
        assert values.dtype == dtype
        assert values.shape[1:] == ((2, *shape) if target == "similarity" else shape)
        if inputs == "tokens":
            assert values.min() >= 0
            assert values.max() < bundle.spec.vocabulary == 100
        check_targets(targets, target, len(split), size)


def check_targets(targets, kind, count, size):
    if kind == "class":
        assert (targets.dtype, targets.shape) == (torch.int64, (count,))
        assert targets.unique().tolist() == [0, 1, 2, 3]
        return
    assert targets.dtype == torch.float32
    assert targets.shape == ((count,) if kind == "similarity" else (count, size))
    if kind in ("binary", "multilabel"):
        assert targets.unique().tolist() == [0, 1]
    elif kind == "similarity":
        assert targets.unique().tolist() == [-1, 1]
    elif kind == "distribution":
        assert targets.min() > 0
        torch.testing.assert_close(targets.sum(1), torch.ones(count))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("inputs", INPUTS)
def test_defaults_fit_every_kind_of_inputs_and_target(built_in, inputs, target):
    assert len(built_in.build("dataset", "random", inputs=inputs, target=target, samples=4).val) == 1


def test_the_data_depend_on_their_seed_alone():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = random_data(samples=5, data_seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert splits_equal(first, random_data(samples=5, data_seed=3))
    assert not splits_equal(first, random_data(samples=5, data_seed=4))


@pytest.mark.parametrize(
    ("inputs", "places"), [("image", (5, 6)), ("tokens", (9,)), ("array", (3,))], ids=["image", "tokens", "array"]
)
def test_targets_may_be_at_each_position(built_in, inputs, places):
    form = {
        "inputs": inputs,
        "input_shape": list(INPUTS[inputs][1]),
        "positions": True,
        "output_size": 4,
        "samples": 40,
    }
    numbers = built_in.build("dataset", "random", **form, target="real")
    assert numbers.spec.positions == places
    assert numbers.train.tensors[1].shape == (40, 4, *places)
    classes = built_in.build("dataset", "random", **form)
    targets = classes.train.tensors[1]
    assert (targets.dtype, targets.shape) == (torch.int64, (40, *places))
    assert targets.unique().tolist() == [-100, 0, 1, 2, 3]
    assert classes.spec.class_counts == tuple(torch.bincount(targets[targets >= 0]).tolist())
    assert sum(classes.spec.class_counts) == targets.numel() - 20


@pytest.mark.parametrize("inputs", ["image", "vector", "array"])
def test_samples_without_targets_are_inputs_alone(built_in, inputs):
    bundle = built_in.build("dataset", "random", inputs=inputs, target="none", samples=4)
    assert bundle.spec.output_size == bundle.spec.input_size
    assert [tensor.shape for tensor in bundle.train.tensors] == [(4, *bundle.spec.input_shape)]


@pytest.mark.parametrize(
    "settings",
    [
        {"positions": True, "inputs": "vector"},
        {"positions": True, "target": "multilabel"},
        {"target": "none", "inputs": "tokens"},
    ],
    ids=str,
)
def test_forms_that_no_data_set_has_are_refused(built_in, settings):
    with pytest.raises(ConfigError, match="dataset"):
        built_in.build("dataset", "random", **settings)


@pytest.mark.parametrize(("target", "counts"), [("class", (3, 2, 2)), ("binary", (4, 3)), ("real", ())])
def test_the_spec_counts_the_training_samples_of_each_class(target, counts):
    bundle = random_data(target=target, output_size=1 if target == "binary" else 3, samples=7)
    assert bundle.spec.class_counts == counts


def test_the_spec_counts_the_training_samples_that_have_each_label():
    bundle = random_data(target="multilabel", samples=7)
    assert bundle.spec.class_counts == tuple(bundle.train.tensors[1].sum(0).tolist())
    assert 0 < sum(bundle.spec.class_counts) < 35


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_shape": [3, 4]}, r"images is \[channels, height, width\]"),
        ({"inputs": "tokens", "input_shape": [3, 4]}, r"tokens is \[length\]"),
        ({"vocabulary": 5}, "dataset.vocabulary: belongs to inputs=tokens, got 5"),
        ({"target": "binary", "output_size": 2}, "dataset.output_size: is 1 for a binary target"),
        ({"inputs": "vector", "input_shape": [0]}, "must be at least 1, got 0"),
        (
            {"inputs": "vector", "input_shape": [10**9], "samples": 10},
            "10,000,000,000, more than .*: give fewer samples",
        ),
        (
            {"inputs": "tokens", "vocabulary": 2**62},
            "vocabulary: must be at most 10000000",
        ),
        ({"output_size": 1}, "dataset.output_size: is at least 2 for target=class: .* nothing can be learnt, got 1"),
        ({"target": "distribution", "output_size": 1}, "dataset.output_size: is at least 2 for target=distribution"),
    ],
    ids=["image", "tokens", "vocabulary", "binary", "no-size", "too-much", "words", "one-class", "one-share"],
)
def test_a_form_that_cannot_be_is_refused(built_in, settings, message):
    with pytest.raises(ConfigError, match=message):
        built_in.build("dataset", "random", **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inputs": "vector", "vocabulary": 5}, "a vocabulary belongs to tokens; got 5 with inputs 'vector'"),
        ({"input_shape": (3, 4)}, r"images is \(channels, height, width\), got \(3, 4\)"),
    ],
    ids=str,
)
def test_without_settings_the_spec_refuses_it(settings, message):
    with pytest.raises(ValueError, match=message):
        random_data(**settings)
