"""What a data set gives: the samples, and the form that they have. Imports no torch."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, prod
from typing import TYPE_CHECKING, Any, Literal

from ptb.kinds import INPUT_KINDS, TARGET_KINDS

if TYPE_CHECKING:
    from pathlib import Path

    from torch.utils.data import Dataset

    from ptb.data.preprocessor import Preprocessor
    from ptb.data.sample_rng import SampleGenerator

InputKind = Literal["image", "vector", "tokens", "array"]
TargetKind = Literal["class", "binary", "multilabel", "real", "distribution", "similarity", "none"]
MAIN = "inputs"  # the key of the main input where samples have several


@dataclass(frozen=True)
class InputSpec:
    """The form of one further input of a sample, such as a table beside a picture.

    Args:
        shape: of one sample; ``()`` for one number, such as a length.
        kind: ``"image"``, ``"vector"``, ``"tokens"`` or ``"array"``.
        vocabulary: number of different tokens; tokens only.
        padding: the token that fills short sequences up, if there is one.

    Raises:
        ValueError: a field does not fit the others.
    """

    shape: tuple[int, ...]
    kind: InputKind = "array"
    vocabulary: int | None = None
    padding: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        if self.kind not in INPUT_KINDS:
            raise ValueError(f"inputs of kind {self.kind!r}; valid are {', '.join(INPUT_KINDS)}")
        if not all(map(_positive, self.shape)):
            raise ValueError(f"the shape of inputs must be sizes above 0, got {self.shape}")
        if self.kind == "image" and len(self.shape) != 3:
            raise ValueError(f"the shape of images is (channels, height, width), got {self.shape}")
        if (self.kind == "tokens") != (self.vocabulary is not None):
            raise ValueError(f"a vocabulary belongs to tokens; got {self.vocabulary!r} with inputs {self.kind!r}")
        if self.padding is not None and (self.vocabulary is None or not 0 <= self.padding < self.vocabulary):
            raise ValueError(f"padding must be a token of the vocabulary, got {self.padding!r} of {self.vocabulary!r}")


@dataclass(frozen=True)
class DataSpec:
    """The form of a data set's samples, from which models, losses and metrics are built.

    Args:
        input_shape: shape of one sample: ``(channels, height, width)`` for images, ``(features,)`` for vectors,
            ``(length,)`` for tokens, any for arrays. For similarity it is the shape of one half of a pair. Where
            samples differ in size, which needs a ``collate``, it holds the largest sizes.
        inputs: ``"image"``, ``"vector"``, ``"tokens"`` or ``"array"``.
        target: what a model predicts; it decides the form of targets and scores:

            ============== ====================================== ===================================
            target         targets                                scores
            ============== ====================================== ===================================
            class          int64 ``[B, *positions]``, 0 <= y < C  logits ``[B, C, *positions]``
            binary         float32 ``[B, 1]``, 0 or 1             one logit ``[B, 1]``
            multilabel     float32 ``[B, K]``, each 0 or 1        logits ``[B, K]``
            real           float32 ``[B, D, *positions]``         the prediction, of the same shape
            distribution   float32 ``[B, C]``, rows sum to 1      logits ``[B, C]``
            similarity     float32 ``[B]``, +1 or -1              embeddings ``[B, 2, E]`` of pairs
            none           the inputs before ``augment``          what the loss takes
            ============== ====================================== ===================================
        output_size: width of the model's output: classes, labels, dimensions, 1 for binary, the embedding size. A loss
            that needs more scores than there are targets changes it, see ``with_output``.
        class_names: names of the classes or labels in the order of their numbers, of real targets in the order of their
            columns, if there are any.
        vocabulary: number of different tokens; tokens only.
        class_counts: training samples of each class in the order of their numbers (for binary: of 0 and of 1; for
            class with positions: how many positions), if known; balanced class weights are computed from it.
        positions: shape of the targets of one sample where there is one at each position: ``(height, width)`` of a
            mask, ``(length,)`` of a sequence; class and real only. A class target of -100 is hidden from loss and
            metrics: padding, or a pixel that nobody labelled.
        padding: the token that fills short sequences up; tokens only.
        fields: further named inputs. Then the inputs of a batch are a dict of tensors, the main one under ``"inputs"``.
        target_size: width of the targets where ``output_size`` is another; left out, it is ``output_size``.
        target_mean: of real targets that are standardised, the mean of each that was taken off; metrics and predictions
            are in the targets' own units.
        target_std: and the standard deviation by which they were divided.

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
    positions: tuple[int, ...] = ()
    padding: int | None = None
    fields: Mapping[str, InputSpec] = field(default_factory=dict)
    target_size: int = 0
    target_mean: tuple[float, ...] = ()
    target_std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("input_shape", "class_names", "class_counts", "positions", "target_mean", "target_std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "fields", dict(self.fields))
        object.__setattr__(self, "target_size", self.target_size or self.output_size)
        if not self.input_shape:
            raise ValueError("DataSpec.input_shape must be sizes above 0, got ()")
        self.all_inputs()
        if self.target not in TARGET_KINDS:
            raise ValueError(f"DataSpec.target is {self.target!r}; valid are {', '.join(TARGET_KINDS)}")
        if not _positive(self.output_size) or not _positive(self.target_size):
            raise ValueError(f"DataSpec.output_size must be a number above 0, got {self.output_size!r}")
        if self.target == "binary" and self.target_size != 1:
            raise ValueError(f"DataSpec.output_size must be 1 for a binary target, got {self.output_size!r}")
        if self.positions and (self.target not in ("class", "real") or not all(map(_positive, self.positions))):
            raise ValueError(
                f"DataSpec.positions must be sizes above 0, for targets of kind class or real; got {self.positions} "
                f"with target {self.target!r}"
            )
        for name, spec in self.fields.items():
            if name == MAIN or not isinstance(name, str) or not isinstance(spec, InputSpec):
                raise ValueError(f"DataSpec.fields must be InputSpecs by name, and {MAIN!r} is the main input")
        self._check_classes()

    @property
    def input_size(self) -> int:
        """Number of values in one sample: the product of ``input_shape``."""
        return prod(self.input_shape)

    @property
    def target_form(self) -> str:
        """What components accept: the target kind, or ``"class+positions"``."""
        return "class+positions" if self.target == "class" and self.positions else self.target

    def all_inputs(self) -> dict[str, InputSpec]:
        """The form of every input by its name, the main one first."""
        return {MAIN: InputSpec(self.input_shape, self.inputs, self.vocabulary, self.padding), **self.fields}

    def with_output(self, size: int) -> DataSpec:
        """The same for a model whose output has another width than the targets."""
        return replace(self, output_size=size)

    def _check_classes(self) -> None:
        if odd := [name for name in self.class_names if not isinstance(name, str)]:
            raise ValueError(f"DataSpec.class_names are texts, got {odd[0]!r}")
        size = self.target_size
        classes = {"class": size, "multilabel": size, "binary": 2}.get(self.target, 0)
        names = classes or {"real": size, "distribution": size}.get(self.target, 0)
        if self.class_names and names and len(self.class_names) != names:
            raise ValueError(f"DataSpec has {len(self.class_names)} class_names for {names} classes or targets")
        if self.target_mean or self.target_std:
            widths = (len(self.target_mean), len(self.target_std))
            finite = all(map(isfinite, (*self.target_mean, *self.target_std)))
            if self.target != "real" or widths != (size, size) or not finite or min(self.target_std) <= 0:
                raise ValueError(
                    f"DataSpec.target_mean and target_std are {size} finite numbers each for real targets, the latter "
                    f"above 0; got {self.target_mean} and {self.target_std} with target {self.target!r}"
                )
        object.__setattr__(self, "class_counts", tuple(map(int, self.class_counts)))
        if self.class_counts and (len(self.class_counts) != classes or min(self.class_counts) < 0):
            raise ValueError(f"DataSpec.class_counts must be {classes} counts, got {self.class_counts}")


@dataclass(frozen=True)
class DataBundle:
    """The samples of a data set, split for training, validation and test.

    Args:
        spec: what the samples look like.
        train: a map-style dataset of ``(inputs, targets)`` or ``(inputs, targets, weight)``, for target ``none`` of
            ``inputs``; inputs are a tensor, or a dict of tensors where ``spec.fields`` names some. A ``TensorDataset``,
            or a ``StackDataset`` of tensors, is held in memory and batched by index. Or an ``IterableDataset`` with a
            length, whose worker processes share its samples out by ``torch.utils.data.get_worker_info``; if it has
            ``set_epoch(epoch)``, that is called before each epoch.
        val: the same for choosing between models, or None.
        test: the same for the final evaluation, or None.
        collate: makes a batch of a list of samples, where torch's ``default_collate`` cannot: of variable lengths.
        transform: ``transform(inputs) -> inputs``, on whole batches on the device; deterministic (cast, normalise).
        preprocessor: what makes such samples of other data, see ``ptb.Preprocessor``; the run keeps it.
        notes: short sentences for people, of what the data was taken for: ``"the positive class is 'yes'"``.
        describe: what only `ptb data show` asks for, JSON values by name: ``columns``, ``transforms``, ``warnings``.
        names: ``names(split)`` gives where each sample of a split comes from, in order: ``"prices.csv:12"``, a file.
        write_splits: ``write_splits(folder)`` writes the samples of each split as files of the form that was read, for
            `ptb data split`, and returns what it wrote by split.
        augment: ``augment(inputs, targets, generator) -> inputs, targets``, after ``transform``, on training batches
            only; random numbers come from ``generator``, a ``ptb.SampleGenerator``: each sample of each epoch has its
            own. It may make probabilities ``[B, C]`` of classes ``[B]``, for a loss that has ``takes_probabilities``;
            metrics see the classes.
    """

    spec: DataSpec
    train: Dataset[Any]
    val: Dataset[Any] | None = None
    test: Dataset[Any] | None = None
    collate: Callable[[list[Any]], Any] | None = None
    transform: Callable[[Any], Any] | None = None
    augment: Callable[[Any, Any, SampleGenerator], tuple[Any, Any]] | None = None
    preprocessor: Preprocessor | None = None
    notes: Sequence[str] = ()
    describe: Callable[[], Mapping[str, Any]] | None = None
    names: Callable[[str], Sequence[str]] | None = None
    write_splits: Callable[[Path], Mapping[str, Path]] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.notes, str) or not all(isinstance(note, str) for note in self.notes):
            raise TypeError(f"notes must be a list of sentences, got {reprlib.repr(self.notes)}")

    @property
    def splits(self) -> dict[str, Dataset[Any]]:
        """The splits that are not None, by name, in the order train, val, test."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
