"""Random samples of any form, with nothing to learn in them: to try out a model, a loss or the speed of a machine."""

from dataclasses import replace
from math import prod
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.utils.data import TensorDataset

from ptb import DataBundle, DataSpec
from ptb_datasets.images import Normalize
from ptb_datasets.splits import class_counts

InputKind = Literal["image", "vector", "tokens", "array"]
TargetKind = Literal["class", "binary", "multilabel", "real", "distribution", "similarity", "none"]
DEFAULT_SHAPES = {"image": (1, 28, 28), "vector": (16,), "tokens": (32,), "array": (12, 4)}
DEFAULT_SIZES = {"class": 10, "binary": 1, "multilabel": 5, "real": 1, "distribution": 10, "similarity": 16}
HIDDEN = -100  # the target of a position without a class
DEFAULT_VOCABULARY = 100
EVALUATED = 4  # one validation and one test sample for so many training samples


def random_data(
    *,
    inputs: InputKind = "image",
    input_shape: tuple[int, ...] | None = None,
    target: TargetKind = "class",
    positions: bool = False,
    output_size: int | None = None,
    vocabulary: int | None = None,
    samples: int = 512,
    data_seed: int = 0,
) -> DataBundle:
    """Samples drawn at random: pixels and tokens evenly, numbers from the normal distribution.

    Args:
        inputs: ``"image"`` (uint8), ``"vector"``, ``"array"`` (float32) or ``"tokens"`` (int64).
        input_shape: of one sample, for similarity of one half; left out, (1, 28, 28), (16,), (32,) or (12, 4).
        target: what is predicted; classes and signs are as many of each as the number allows. With ``"none"`` samples
            are inputs alone.
        positions: a target at each pixel of an image, token, or row of an array; class, where the first position of
            every second sample is -100, and real.
        output_size: classes, labels, dimensions or values of the embedding; left out, 10 for class and distribution, 5
            for multilabel, 1 for binary and real, 16 for similarity, for none the number of values in a sample.
        vocabulary: different tokens, tokens only; left out, 100.
        samples: for training; a quarter of it, and at least one, for validation and again for the test.
        data_seed: of the samples.

    Returns:
        The tensors that the spec tells.

    Raises:
        ValueError: the form is none that a data set can have.
    """
    shape = DEFAULT_SHAPES[inputs] if input_shape is None else tuple(input_shape)
    size = DEFAULT_SIZES.get(target, prod(shape)) if output_size is None else output_size
    places = {"image": shape[1:], "array": shape[:1]}.get(inputs, shape) if positions else ()
    tokens = (DEFAULT_VOCABULARY if vocabulary is None else vocabulary) if inputs == "tokens" else vocabulary
    source = torch.Generator().manual_seed(data_seed)
    counts: tuple[int, ...] = ()
    splits: list[TensorDataset] = []
    spec = DataSpec(shape, inputs, target, size, vocabulary=tokens, positions=places)  # refuses what cannot be
    for count in (samples, *[max(samples // EVALUATED, 1)] * 2):
        targets = None if target == "none" else _targets(target, count, size, places, source)
        if not splits and targets is not None:
            counts = _counts(target, targets, size)
        halves = (count, 2, *shape) if target == "similarity" else (count, *shape)
        drawn = _inputs(inputs, halves, tokens or 0, source)
        splits.append(TensorDataset(drawn) if targets is None else TensorDataset(drawn, targets))
    spec = replace(spec, class_counts=counts)
    transform = Normalize(0.5, 0.29) if inputs == "image" else None  # the std of evenly spread values: 1 / sqrt(12)
    train, val, test = splits
    return DataBundle(spec, train, val, test, transform=transform)


def _inputs(kind: InputKind, shape: tuple[int, ...], vocabulary: int, source: Generator) -> Tensor:
    if kind == "image":
        return torch.randint(256, shape, generator=source, dtype=torch.uint8)
    return torch.randint(vocabulary, shape, generator=source) if kind == "tokens" else _normal(shape, source)


def _targets(kind: TargetKind, count: int, size: int, positions: tuple[int, ...], source: Generator) -> Tensor:
    order = torch.randperm(count, generator=source)
    if kind == "class" and positions:
        classes = torch.randint(size, (count, *positions), generator=source)
        classes.flatten(1)[::2, 0] = HIDDEN
        return classes
    if kind == "class":
        return order % size
    if kind == "multilabel":
        return torch.randint(2, (count, size), generator=source).float()
    if kind == "binary":
        return (order % 2).float()[:, None]
    if kind == "similarity":
        return (order % 2).float() * 2 - 1
    values = _normal((count, size, *positions), source)
    return values if kind == "real" else values.softmax(dim=1)


def _counts(kind: TargetKind, targets: Tensor, size: int) -> tuple[int, ...]:
    if kind == "multilabel":
        return tuple(targets.sum(0).long().tolist())
    if kind not in ("class", "binary"):
        return ()
    return class_counts(targets[targets != HIDDEN].long().numpy(), 2 if kind == "binary" else size)


def _normal(shape: tuple[int, ...], source: Generator) -> Tensor:
    return torch.randn(shape, generator=source)
