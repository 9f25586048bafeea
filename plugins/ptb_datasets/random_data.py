"""Random samples of any form, with nothing to learn in them: to try out a model, a loss or the speed of a machine."""

from typing import Literal

import torch
from torch import Generator, Tensor
from torch.utils.data import TensorDataset

from ptb import DataBundle, DataSpec
from ptb_datasets.images import Normalize
from ptb_datasets.splits import class_counts

InputKind = Literal["image", "vector", "tokens"]
TargetKind = Literal["class", "binary", "real", "distribution", "similarity"]
DEFAULT_SHAPES = {"image": (1, 28, 28), "vector": (16,), "tokens": (32,)}
DEFAULT_SIZES = {"class": 10, "binary": 1, "real": 1, "distribution": 10, "similarity": 16}
DEFAULT_VOCABULARY = 100
EVALUATED = 4  # one validation and one test sample for so many training samples


def random_data(
    *,
    inputs: InputKind = "image",
    input_shape: tuple[int, ...] | None = None,
    target: TargetKind = "class",
    output_size: int | None = None,
    vocabulary: int | None = None,
    samples: int = 512,
    data_seed: int = 0,
) -> DataBundle:
    """Samples drawn at random: pixels and tokens evenly, numbers from the normal distribution.

    Args:
        inputs: ``"image"`` (uint8), ``"vector"`` (float32) or ``"tokens"`` (int64).
        input_shape: of one sample, for similarity of one half; left out, (1, 28, 28), (16,) or (32,).
        target: what is predicted; classes and signs are as many of each as the number allows.
        output_size: classes, dimensions or values of the embedding; left out, 10 for class and distribution, 1 for
            binary and real, 16 for similarity.
        vocabulary: different tokens, tokens only; left out, 100.
        samples: for training; a quarter of it, and at least one, for validation and again for the test.
        data_seed: of the samples.

    Returns:
        The tensors that the spec tells.

    Raises:
        ValueError: the form is none that a data set can have.
    """
    shape = DEFAULT_SHAPES[inputs] if input_shape is None else tuple(input_shape)
    size = DEFAULT_SIZES[target] if output_size is None else output_size
    tokens = (DEFAULT_VOCABULARY if vocabulary is None else vocabulary) if inputs == "tokens" else vocabulary
    source = torch.Generator().manual_seed(data_seed)
    counts: tuple[int, ...] = ()
    splits: list[TensorDataset] = []
    DataSpec(shape, inputs, target, size, vocabulary=tokens)  # refuses what cannot be before anything is drawn
    for count in (samples, *[max(samples // EVALUATED, 1)] * 2):
        targets = _targets(target, count, size, source)
        if not splits and target in ("class", "binary"):
            counts = class_counts(targets.flatten().long().numpy(), 2 if target == "binary" else size)
        halves = (count, 2, *shape) if target == "similarity" else (count, *shape)
        splits.append(TensorDataset(_inputs(inputs, halves, tokens or 0, source), targets))
    spec = DataSpec(shape, inputs, target, size, vocabulary=tokens, class_counts=counts)
    transform = Normalize(0.5, 0.29) if inputs == "image" else None  # deviation of evenly spread values: 1 / sqrt(12)
    train, val, test = splits
    return DataBundle(spec, train, val, test, transform=transform)


def _inputs(kind: InputKind, shape: tuple[int, ...], vocabulary: int, source: Generator) -> Tensor:
    if kind == "image":
        return torch.randint(256, shape, generator=source, dtype=torch.uint8)
    return torch.randint(vocabulary, shape, generator=source) if kind == "tokens" else _normal(shape, source)


def _targets(kind: TargetKind, count: int, size: int, source: Generator) -> Tensor:
    order = torch.randperm(count, generator=source)
    if kind == "class":
        return order % size
    if kind == "binary":
        return (order % 2).float()[:, None]
    if kind == "similarity":
        return (order % 2).float() * 2 - 1
    values = _normal((count, size), source)
    return values if kind == "real" else values.softmax(dim=1)


def _normal(shape: tuple[int, ...], source: Generator) -> Tensor:
    return torch.randn(shape, generator=source)
