"""The specs that components are tried on, and samples for them: small, and the same every time.

Any ten samples in a row hold two or more of each class: some losses need that, such as those of triplets.
"""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ptb import DataSpec, InputSpec
from ptb.internals import TargetKind, generator

VOCABULARY = 20
FORMS = (
    InputSpec((1, 28, 28), "image"),
    InputSpec((3, 32, 32), "image"),
    InputSpec((8,), "vector"),
    InputSpec((12,), "tokens", VOCABULARY, 0),
    InputSpec((12, 3), "array"),
)
LARGE = InputSpec((3, 224, 224), "image")
SIZES: dict[TargetKind, int] = {
    "class": 5,
    "binary": 1,
    "multilabel": 3,
    "real": 3,
    "distribution": 5,
    "similarity": 6,
    "none": 8,
}
BATCH = 4
COUNTS = {"class": (9, 7, 5, 3, 8), "binary": (20, 12), "multilabel": (9, 7, 5)}
HIDDEN = -100  # the class target of a position that counts for nothing


def spec_of(form: InputSpec, target: TargetKind, *, positions: bool = False, fields: bool = False) -> DataSpec:
    """A spec of this form of inputs and kind of targets, one at each position or one a sample."""
    counts = COUNTS.get(target, ())
    places = form.shape[1:] if form.kind == "image" else form.shape[:1]
    return DataSpec(
        form.shape,
        form.kind,
        target,
        SIZES[target],
        class_names=tuple("abcde"[: len(counts)]),
        vocabulary=form.vocabulary,
        class_counts=counts,
        positions=places if positions else (),
        padding=form.padding,
        fields={"extra": InputSpec((3,), "vector")} if fields else {},
    )


def unusual_specs(form: InputSpec) -> Iterator[DataSpec]:
    """Of a form of inputs what few models are made for: further inputs, targets at each position, no targets."""
    yield spec_of(form, "class", fields=True)
    if form.kind != "vector":
        yield spec_of(form, "class", positions=True)
        yield spec_of(form, "real", positions=True)
    yield spec_of(form, "none")


def target_specs(accepts: Sequence[str] = (), form: InputSpec = FORMS[2]) -> list[DataSpec]:
    """Specs for each form of targets, those of ``accepts`` alone if it names any.

    Numbers come also one a sample, which is where ``[B]`` and ``[B, 1]`` make ``[B, B]``, and some at each position;
    a model of the inputs themselves only where ``accepts`` names it.
    """
    usual = [target for target in SIZES if target != "none"]
    specs = [spec_of(form, target) for target in SIZES if target in (accepts or usual)]
    picture = InputSpec((2, 4, 6), "image")
    if "real" in (accepts or usual):
        specs.append(DataSpec(form.shape, form.kind, "real", 1, vocabulary=form.vocabulary))
    if "class+positions" in accepts:
        specs.append(spec_of(picture, "class", positions=True))
    if "real" in accepts:
        specs.append(spec_of(picture, "real", positions=True))
    return specs


def described(spec: DataSpec) -> str:
    """What a model meets, in messages: ``image float32 [B, 3, 32, 32], target real, scores [B, 3]``."""
    fields = f" and {', '.join(spec.fields)}" if spec.fields else ""
    main = _input(InputSpec(spec.input_shape, spec.inputs, spec.vocabulary), 1, 0, spec.target == "similarity")
    return f"{spec.inputs} {_form(main)}{fields}, target {spec.target_form}, scores {_sizes(_scores(spec))}"


def described_scores(spec: DataSpec) -> str:
    """What a loss or a metric meets: ``target class, scores float32 [B, 3], targets int64 [B]``."""
    targets = inputs_of(spec, 1) if spec.target == "none" else targets_of(spec, 1)
    return f"target {spec.target_form}, scores {_form(_scores(spec))}, targets {_form(targets)}"


def inputs_of(spec: DataSpec, count: int = BATCH, seed: int = 0) -> Any:
    """Inputs ``[count, *input_shape]``, for similarity ``[count, 2, *input_shape]``; a dict of them with fields."""
    named = {name: _input(form, count, seed, spec.target == "similarity") for name, form in spec.all_inputs().items()}
    return named if spec.fields else next(iter(named.values()))


def targets_of(spec: DataSpec, count: int = BATCH, seed: int = 0) -> Tensor:
    """Targets as the spec's kind has them; at the first position of every second sample nothing is known."""
    source = generator(seed, "targets", spec.target)
    order = torch.arange(seed, count + seed)
    if spec.target == "class":
        if not spec.positions:
            return order // 2 % spec.target_size
        classes = torch.randint(spec.target_size, (count, *spec.positions), generator=source)
        classes.flatten(1)[::2, 0] = HIDDEN
        return classes
    if spec.target == "binary":
        return (order // 2 % 2).float()[:, None]
    if spec.target == "multilabel":
        return ((order[:, None] >> torch.arange(spec.target_size)) % 2).float()
    if spec.target == "similarity":
        return (order // 2 % 2).float() * 2 - 1
    values = torch.randn(count, spec.target_size, *spec.positions, generator=source, dtype=torch.float32)
    return values if spec.target == "real" else values.softmax(dim=1)


class Reference(nn.Module):
    """A small model that takes every form of inputs and gives every form of scores."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.inputs, self.positions = spec.all_inputs(), spec.positions
        # Positions of the inputs are as many as a batch has; those of a forecast are as many as the spec says.
        self.in_inputs = bool(spec.positions) and spec.input_shape[-len(spec.positions) :] == spec.positions
        self.shape = spec.input_shape if spec.target == "none" else (spec.output_size, *spec.positions)
        self.layers = nn.ModuleList(
            nn.Linear(prod(form.shape), 4) if form.vocabulary is None else nn.Embedding(form.vocabulary, 4)
            for form in self.inputs.values()
        )
        self.head = nn.Linear(4, prod(self.shape))

    def forward(self, inputs: Any) -> Tensor:
        """Inputs to scores ``[B, output_size, *positions]``, for target ``none`` ``[B, *input_shape]``."""
        given = inputs if isinstance(inputs, dict) else dict.fromkeys(self.inputs, inputs)
        hidden = torch.zeros(())
        for layer, (name, form) in zip(self.layers, self.inputs.items(), strict=True):
            if isinstance(layer, nn.Embedding):
                hidden = hidden + layer(given[name]).flatten(1, -2).mean(1)
            else:
                # Samples may be smaller than the spec says, where a collate makes the batches.
                whole = given[name].new_zeros(len(given[name]), *form.shape, dtype=torch.float32)
                whole[tuple(map(slice, given[name].shape))] = given[name].float()
                hidden = hidden + layer(whole.reshape(len(whole), -1))
        scores: Tensor = self.head(hidden.tanh()).unflatten(1, self.shape)
        if self.in_inputs:
            shown: list[Any] = [slice(side) for side in next(iter(given.values())).shape[-len(self.positions) :]]
            scores = scores[(..., *shown)]
        return scores


def reference_models() -> dict[str, nn.Module]:
    """Small models whose layers initializers meet; each is built anew from torch's global generator."""
    classes = SIZES["class"]
    return {
        "linear layers": nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, classes)),
        "convolutions with batch norm": nn.Sequential(
            *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(8 * 4 * 4, classes)),
        ),
        "an embedding bag": nn.Sequential(nn.EmbeddingBag(VOCABULARY, 8, padding_idx=0), nn.Linear(8, classes)),
    }


REFERENCE_FORMS = {
    "linear layers": FORMS[2],
    "convolutions with batch norm": InputSpec((1, 8, 8), "image"),
    "an embedding bag": FORMS[3],
}


def _input(form: InputSpec, count: int, seed: int, pairs: bool) -> Tensor:
    source = generator(seed, "inputs", *form.shape)
    shape = (count, 2, *form.shape) if pairs else (count, *form.shape)
    if form.vocabulary is not None:
        return torch.randint(form.vocabulary, shape, generator=source)
    return torch.randn(shape, generator=source, dtype=torch.float32)


def _scores(spec: DataSpec) -> Tensor:
    """Scores of one sample as a model gives them; for similarity embeddings of both halves."""
    return torch.empty(1, *(2,) * (spec.target == "similarity"), spec.output_size, *spec.positions)


def _form(tensor: Any) -> str:
    if isinstance(tensor, dict):
        return ", ".join(map(_form, tensor.values()))
    return f"{tensor.dtype} {_sizes(tensor)}".removeprefix("torch.")


def _sizes(tensor: Tensor) -> str:
    return f"[{', '.join(('B', *map(str, tensor.shape[1:])))}]"
