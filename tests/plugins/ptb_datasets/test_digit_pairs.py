import numpy as np
import pytest
import torch

from ptb import DataError
from ptb_datasets.digit_pairs import digit_pairs
from ptb_datasets.digits import digits


def pictures(tensor):
    return {picture.tobytes() for picture in tensor.flatten(0, -4).numpy()}


def labels_by_picture():
    table = {}
    for split in digits(size=16).splits.values():
        inputs, targets = split.tensors
        for picture, label in zip(inputs.numpy(), targets.tolist(), strict=True):
            table.setdefault(picture.tobytes(), set()).add(label)
    return table


@pytest.mark.parametrize("pairs", [1, 3])
def test_samples_have_the_shapes_and_dtypes_of_the_spec(pairs):
    bundle = digit_pairs(size=8, pairs=pairs, embedding=5)
    spec = bundle.spec
    assert (spec.input_shape, spec.inputs, spec.target, spec.output_size) == ((1, 8, 8), "image", "similarity", 5)
    assert spec.class_counts == ()
    for name, split in bundle.splits.items():
        inputs, targets = split.tensors
        assert len(inputs) == 2 * pairs * len(digits(size=8).splits[name])
        assert (inputs.dtype, inputs.shape[1:]) == (torch.uint8, (2, 1, 8, 8))
        assert (targets.dtype, targets.ndim) == (torch.float32, 1)
        assert targets.sum() == 0
        assert targets.unique().tolist() == [-1, 1]


def test_plus_one_is_the_same_digit_and_minus_one_another():
    labels = labels_by_picture()
    for split in digit_pairs(size=16).splits.values():
        for (first, second), target in zip(split.tensors[0].numpy(), split.tensors[1].tolist(), strict=True):
            same = labels[first.tobytes()] == labels[second.tobytes()]
            assert same == (target == 1)


def test_no_picture_is_paired_with_itself():
    halves = digit_pairs(size=16).train.tensors[0]
    alike = (halves[:, 0] == halves[:, 1]).flatten(1).all(1)
    assert alike.sum() < 3  # scans of two persons may look alike


def test_the_splits_are_those_of_the_digits_and_share_no_picture():
    pairs, single = digit_pairs(size=8, split_seed=4), digits(size=8, split_seed=4)
    for name in ("train", "val", "test"):
        assert pictures(pairs.splits[name].tensors[0]) == pictures(single.splits[name].tensors[0])


def test_pairs_depend_on_the_split_seed_alone():
    torch.manual_seed(1)
    np.random.seed(1)
    first = digit_pairs(size=8, split_seed=2)
    torch.manual_seed(2)
    np.random.seed(2)
    again, other = digit_pairs(size=8, split_seed=2), digit_pairs(size=8, split_seed=3)
    assert all(map(torch.equal, first.train.tensors, again.train.tensors))
    assert not torch.equal(first.train.tensors[0], other.train.tensors[0])


def test_prepare_takes_pairs_and_halves_alike():
    bundle = digit_pairs(size=8)
    inputs = bundle.test.tensors[0]
    prepared = bundle.transform(inputs)
    assert (prepared.dtype, prepared.shape) == (torch.float32, inputs.shape)
    assert torch.equal(prepared[:, 0], bundle.transform(inputs[:, 0]))
    assert bundle.transform.mean == digits(size=8).transform.mean


def test_a_split_with_too_few_pictures_is_told():
    with pytest.raises(DataError, match=r"the val split has too few pictures of the digit \d, [01] in all"):
        digit_pairs(size=8, val_fraction=0.005)
