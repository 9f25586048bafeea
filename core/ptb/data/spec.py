"""What a data set gives: the samples, and the form that they have. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from ptb.kinds import INPUT_KINDS, TARGET_KINDS

if TYPE_CHECKING:
    import torch
    from torch.utils.data import Dataset

    from ptb.data.sample_rng import SampleGenerator

InputKind = Literal["image", "vector", "tokens"]
TargetKind = Literal["class", "binary", "real", "distribution", "similarity"]


@dataclass(frozen=True)
class DataSpec:
    """The form of a data set's samples, from which models, losses and metrics are built.

    Args:
        input_shape: shape of one sample: ``(channels, height, width)`` for images, ``(features,)`` for vectors,
            ``(length,)`` for tokens. For similarity it is the shape of one half of a pair.
        inputs: ``"image"``, ``"vector"`` or ``"tokens"``.
        target: what a model predicts; it decides the form of targets and scores:

            ============== =============================== ==========================================
            target         targets                         scores
            ============== =============================== ==========================================
            class          int64 ``[B]``, 0 <= y < C       logits ``[B, C]``
            binary         float32 ``[B, 1]``, 0 or 1      one logit ``[B, 1]``
            real           float32 ``[B, D]``              the prediction ``[B, D]``
            distribution   float32 ``[B, C]``, rows sum 1  logits ``[B, C]``
            similarity     float32 ``[B]``, +1 or -1       embeddings ``[B, 2, E]`` of pairs
            ============== =============================== ==========================================
        output_size: width of the model's output: classes, 1 for binary, dimensions, or the embedding size.
        class_names: names of the classes in the order of their numbers, if there are any.
        vocabulary: number of different tokens; tokens only.
        class_counts: training samples of each class in the order of their numbers (for binary: of 0 and of 1), if
            known; balanced class weights are computed from it.

    Raises:
        ValueError: a field does not fit the others; the message says which and what is valid.
    """

    input_shape: tuple[int, ...]
    inputs: InputKind
    target: TargetKind
    output_size: int
    class_names: tuple[str, ...] = ()
    vocabulary: int | None = None
    class_counts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_shape", tuple(self.input_shape))
        object.__setattr__(self, "class_names", tuple(self.class_names))
        object.__setattr__(self, "class_counts", tuple(map(int, self.class_counts)))
        if self.inputs not in INPUT_KINDS:
            raise ValueError(f"DataSpec.inputs is {self.inputs!r}; valid are {', '.join(INPUT_KINDS)}")
        if self.target not in TARGET_KINDS:
            raise ValueError(f"DataSpec.target is {self.target!r}; valid are {', '.join(TARGET_KINDS)}")
        if not self.input_shape or not all(_positive(size) for size in self.input_shape):
            raise ValueError(f"DataSpec.input_shape must be sizes above 0, got {self.input_shape}")
        if self.inputs == "image" and len(self.input_shape) != 3:
            raise ValueError(f"DataSpec.input_shape of images is (channels, height, width), got {self.input_shape}")
        if not _positive(self.output_size) or (self.target == "binary" and self.output_size != 1):
            valid = "1 for a binary target" if self.target == "binary" else "a number above 0"
            raise ValueError(f"DataSpec.output_size must be {valid}, got {self.output_size!r}")
        if (self.inputs == "tokens") != (self.vocabulary is not None):
            raise ValueError(
                f"DataSpec.vocabulary belongs to tokens; got {self.vocabulary!r} with inputs {self.inputs!r}"
            )
        classes = {"class": self.output_size, "binary": 2}.get(self.target, 0)
        if self.class_names and classes and len(self.class_names) != classes:
            raise ValueError(f"DataSpec has {len(self.class_names)} class_names for {classes} classes")
        if self.class_counts and (len(self.class_counts) != classes or min(self.class_counts) < 0):
            raise ValueError(f"DataSpec.class_counts must be {classes} counts, got {self.class_counts}")

    @property
    def input_size(self) -> int:
        """Number of values in one sample: the product of ``input_shape``."""
        return prod(self.input_shape)


@dataclass(frozen=True)
class DataBundle:
    """The samples of a data set, split for training, validation and test.

    Args:
        spec: what the samples look like.
        train: a map-style dataset of ``(inputs, targets)``; a ``TensorDataset`` is held in memory and batched by index.
        val: the same for choosing between models, or None.
        test: the same for the final evaluation, or None.
        transform: ``transform(inputs) -> inputs``, on whole batches on the device; deterministic (cast, normalise).
        augment: ``augment(inputs, generator) -> inputs``, after ``transform``, on training batches only; random numbers
            come from ``generator``, a ``ptb.SampleGenerator``: each sample of each epoch has its own.
    """

    spec: DataSpec
    train: Dataset[Any]
    val: Dataset[Any] | None = None
    test: Dataset[Any] | None = None
    transform: Callable[[torch.Tensor], torch.Tensor] | None = None
    augment: Callable[[torch.Tensor, SampleGenerator], torch.Tensor] | None = None

    @property
    def splits(self) -> dict[str, Dataset[Any]]:
        """The splits that are not None, by name, in the order train, val, test."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
