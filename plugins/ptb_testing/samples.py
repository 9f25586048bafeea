"""The specs that components are tried on, and samples for them: small, and the same every time.

Every kind of inputs meets every kind of targets. Large pictures come in only for a model that takes no small ones,
targets at each position only for one that takes nothing else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from ptb import DataSpec
from ptb.internals import TARGET_KINDS, InputKind, TargetKind, generator

Form = tuple[InputKind, tuple[int, ...]]

FORMS: tuple[Form, ...] = (("image", (1, 28, 28)), ("image", (3, 32, 32)), ("vector", (8,)), ("tokens", (12,)))
LARGE_FORMS: tuple[Form, ...] = (("image", (3, 224, 224)),)
SIZES: dict[TargetKind, int] = {
    "class": 5,
    "binary": 1,
    "multilabel": 4,
    "real": 3,
    "distribution": 5,
    "similarity": 6,
}
VOCABULARY = 20
BATCH = 4
COUNTS = {"class": (9, 7, 5, 3, 8), "binary": (20, 12), "multilabel": (9, 7, 5, 3)}
HIDDEN = -100  # the class target of a position that counts for nothing


def spec_of(form: Form, target: TargetKind) -> DataSpec:
    """A spec of this form of inputs and kind of targets."""
    inputs, shape = form
    counts = COUNTS.get(target, ())
    names = tuple("abcde"[: len(counts)])
    vocabulary = VOCABULARY if inputs == "tokens" else None
    return DataSpec(shape, inputs, target, SIZES[target], names, vocabulary, counts)


def specs(forms: Sequence[Form] = FORMS) -> Iterator[DataSpec]:
    """Every form with every kind of targets."""
    for form in forms:
        for target in SIZES:
            yield spec_of(form, target)


def position_specs() -> list[DataSpec]:
    """A class at each pixel, numbers at each pixel, and a class at each token, of which some are padding."""
    pixels = replace(spec_of(("image", (3, 32, 32)), "class"), positions=(32, 32))
    tokens = replace(spec_of(("tokens", (12,)), "class"), positions=(12,), padding=0)
    return [pixels, replace(spec_of(("image", (3, 32, 32)), "real"), positions=(32, 32)), tokens]


def target_specs(accepts: Sequence[str] = ()) -> list[DataSpec]:
    """Specs for each form of targets, those of ``accepts`` alone if it names any.

    Numbers come also one a sample, which is where ``[B]`` and ``[B, 1]`` make ``[B, B]``, and some at each position;
    a model of the inputs themselves only where ``accepts`` names it.
    """
    specs = [spec_of(("vector", (8,)), target) for target in SIZES if target in (accepts or TARGET_KINDS)]
    numbers = [spec for spec in specs if spec.target == "real"]
    specs += [replace(spec, output_size=1, target_size=1) for spec in numbers]
    if "class+positions" in accepts:
        specs.append(DataSpec((2, 4, 6), "image", "class", 5, class_counts=COUNTS["class"], positions=(4, 6)))
    if "real" in accepts:
        specs.append(DataSpec((2, 4, 6), "image", "real", 3, positions=(4, 6)))
    if "none" in accepts:
        specs.append(DataSpec((8,), "vector", "none", 8))
    return specs


def described(spec: DataSpec) -> str:
    """What a model meets, in messages: ``image float32 [B, 3, 32, 32], target real, scores [B, 3]``."""
    return f"{spec.inputs} {_form(inputs_of(spec, 1))}, target {spec.target_form}, scores {_sizes(scores_of(spec, 1))}"


def described_scores(spec: DataSpec) -> str:
    """What a loss or a metric meets: ``target class, scores float32 [B, 5], targets int64 [B]``."""
    return f"target {spec.target_form}, scores {_form(scores_of(spec, 1))}, targets {_form(targets_of(spec, 1))}"


def inputs_of(spec: DataSpec, count: int = BATCH, seed: int = 0) -> Tensor:
    """Prepared inputs ``[count, *input_shape]``, for similarity ``[count, 2, *input_shape]``."""
    source = generator(seed, "inputs", *spec.input_shape)
    shape = (count, 2, *spec.input_shape) if spec.target == "similarity" else (count, *spec.input_shape)
    if spec.vocabulary is not None:
        return torch.randint(spec.vocabulary, shape, generator=source)
    return torch.randn(shape, generator=source, dtype=torch.float32)


def targets_of(spec: DataSpec, count: int = BATCH, seed: int = 0) -> Tensor:
    """Targets as the spec's kind has them; every class is there if ``count`` allows.

    At the first position of every second sample nothing is known; targets of kind ``none`` are the inputs.
    """
    if spec.target == "none":
        return inputs_of(spec, count, seed)
    source = generator(seed, "targets", spec.target)
    order = torch.randperm(count, generator=source)
    if spec.target == "class":
        if not spec.positions:
            return order % spec.target_size
        classes = torch.randint(spec.target_size, (count, *spec.positions), generator=source)
        classes.flatten(1)[::2, 0] = HIDDEN
        return classes
    if spec.target == "binary":
        return (order % 2).float()[:, None]
    if spec.target == "multilabel":
        return ((order[:, None] >> torch.arange(spec.target_size)) % 2).float()
    if spec.target == "similarity":
        return (order % 2).float() * 2 - 1
    values = torch.randn(count, spec.target_size, *spec.positions, generator=source, dtype=torch.float32)
    return values if spec.target == "real" else values.softmax(dim=1)


def scores_of(spec: DataSpec, count: int = BATCH, seed: int = 0) -> Tensor:
    """Scores as a model would give: ``[count, output_size, *positions]``; for similarity embeddings of both halves."""
    pairs = (2,) if spec.target == "similarity" else ()
    source = generator(seed, "scores", spec.target)
    return torch.randn(count, *pairs, spec.output_size, *spec.positions, generator=source, dtype=torch.float32)


def _form(tensor: Tensor) -> str:
    return f"{tensor.dtype} {_sizes(tensor)}".removeprefix("torch.")


def _sizes(tensor: Tensor) -> str:
    return f"[{', '.join(('B', *map(str, tensor.shape[1:])))}]"


def reference_models() -> dict[str, nn.Module]:
    """Small models whose layers initializers meet; each is built anew from torch's global generator."""
    return {
        "linear layers": nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 5)),
        "convolutions with batch norm": nn.Sequential(
            *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(8 * 4 * 4, 5)),
        ),
        "an embedding bag": nn.Sequential(nn.EmbeddingBag(VOCABULARY, 8, padding_idx=0), nn.Linear(8, 5)),
    }


REFERENCE_INPUTS = {
    "linear layers": partial(torch.randn, 3, 8),
    "convolutions with batch norm": partial(torch.randn, 3, 1, 8, 8),
    "an embedding bag": partial(torch.randint, 1, VOCABULARY, (3, 6)),
}
