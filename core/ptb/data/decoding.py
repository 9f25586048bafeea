"""Scores and targets in the user's terms: names of classes, probabilities, values in their own units."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ptb.data.spec import DataSpec

MOST_SHOWN = 24  # values of a row without names


def decoded(spec: DataSpec, scores: Tensor) -> dict[str, Any]:
    """The columns that ``Preprocessor.decode`` describes, of scores ``[B, ...]`` in the form of the targets."""
    scores = scores.detach().cpu()
    if spec.positions or spec.target == "none":
        whole = scores.argmax(1) if spec.target == "class" else own_units(spec)(scores)
        return {"prediction": whole}
    if spec.target == "similarity":
        return {"prediction": torch.cosine_similarity(scores[:, 0], scores[:, 1])}
    names = target_names(spec)
    if spec.target == "real":
        values = own_units(spec)(scores)
        return {"prediction": values[:, 0]} if values.shape[1] == 1 else _columns("prediction", names, values)
    if spec.target == "binary":
        one = scores.double().sigmoid()
        probabilities = torch.cat([1 - one, one], 1)
    elif spec.target == "multilabel":
        probabilities = scores.double().sigmoid()
    else:
        probabilities = scores.double().softmax(1)
    columns = _columns("probability", names, probabilities)
    if spec.target == "distribution":
        return columns
    if spec.target == "multilabel":
        return {"prediction": _joined(names, probabilities > 0.5)} | columns
    chosen = (scores > 0).long()[:, 0] if spec.target == "binary" else scores.argmax(1)
    probability = probabilities.gather(1, chosen[:, None])[:, 0]
    return {"prediction": [names[each] for each in chosen.tolist()], "probability": probability} | columns


def decoded_targets(spec: DataSpec, targets: Tensor) -> Any:
    """Targets ``[B, ...]`` in the user's terms, one a sample: a list of texts, or a tensor on the CPU."""
    targets = targets.detach().cpu()
    if spec.positions or spec.target in ("none", "similarity", "distribution"):
        return own_units(spec)(targets)
    if spec.target == "real":
        values = own_units(spec)(targets)
        return values[:, 0] if values.shape[1] == 1 else values
    names = target_names(spec)
    if spec.target == "multilabel":
        return _joined(names, targets > 0)
    return [names[each] for each in targets.long().flatten().tolist()]


def own_units(spec: DataSpec) -> Callable[[Tensor], Tensor]:
    """Undoes what was done to real targets: ``value * target_std + target_mean`` for tensors ``[B, D, ...]``."""
    if not spec.target_std:
        return lambda values: values
    shape = (-1, *(1,) * len(spec.positions))
    std, mean = (torch.tensor(each).view(shape) for each in (spec.target_std, spec.target_mean))
    return lambda values: values * std.to(values.device) + mean.to(values.device)


def target_names(spec: DataSpec) -> tuple[str, ...]:
    """The names of classes, labels or targets, or their numbers."""
    size = 2 if spec.target == "binary" else spec.target_size
    return spec.class_names or tuple(map(str, range(size)))


def shown(spec: DataSpec, inputs: Any) -> Tensor | str | dict[str, Any]:
    """The inputs of one sample as ``Preprocessor.show`` describes it: a picture, a text or a row."""
    if isinstance(inputs, dict):
        inputs = inputs["inputs"]
    values = inputs.detach().cpu()
    if spec.inputs == "image":
        pair = spec.target == "similarity"
        picture = torch.cat([*values], 2) if pair else values
        picture = picture if picture.shape[0] in (1, 3) else picture[:1]
        return picture if picture.dtype == torch.uint8 else _grey_levels(picture.float())
    if spec.inputs == "tokens":
        known = values[values != spec.padding] if spec.padding is not None else values
        return " ".join(map(str, known.flatten().tolist()))
    numbers = values.flatten().tolist()
    return {str(place): number for place, number in enumerate(numbers[:MOST_SHOWN])}


def _grey_levels(picture: Tensor) -> Tensor:
    """Real values between the smallest and the largest as 0 to 255."""
    low, high = picture.aminmax()
    span = (high - low).clamp(min=torch.finfo(torch.float32).tiny)
    return ((picture - low) / span * 255).nan_to_num(0).round().byte()


def plain(column: Any) -> list[Any]:
    """A column as a list; numbers have the digits that a 32-bit number has."""
    if not isinstance(column, Tensor):
        return list(column)
    if not column.is_floating_point() or column.ndim > 1:
        return list(column.tolist())
    return [float(str(value)) for value in column.float().numpy()]


def _columns(word: str, names: Sequence[str], values: Tensor) -> dict[str, Any]:
    return {f"{word}:{name}": each for name, each in zip(names, values.unbind(1), strict=True)}


def _joined(names: Sequence[str], mask: Tensor) -> list[str]:
    return ["|".join(name for name, on in zip(names, row, strict=True) if on) for row in mask.tolist()]
