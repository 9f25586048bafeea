"""What ``arrays`` and ``idx`` say of themselves: in a line of each run, and in a page of `ptb data show`."""

from typing import Any

import numpy as np

from ptb import DataSpec
from ptb_datasets.array_inputs import statistics
from ptb_datasets.array_preprocessor import ArrayPreprocessor
from ptb_datasets.array_targets import TargetForm

MOST_COLUMNS = 1000  # vectors with more features are described as a whole


def notes(spec: DataSpec, form: TargetForm, dtype: "np.dtype[Any]", left_out: int) -> tuple[str, ...]:
    """What inputs and targets were taken for."""
    shape = "x".join(map(str, spec.input_shape))
    said = [
        {
            "image": f"inputs are pictures of {shape} ({dtype.name})",
            "vector": f"inputs are vectors of {shape} ({dtype.name})",
            "tokens": f"inputs are {shape} tokens each ({dtype.name}), out of {spec.vocabulary}",
            "array": f"inputs are arrays of {shape} ({dtype.name})",
        }[spec.inputs]
    ]
    if form.codes:
        values = ", ".join(map(str, form.codes[:5])) + (", ..." if len(form.codes) > 5 else "")
        said.append(f"the classes are the values {values}")
    elif form.one_hot:
        said.append(f"targets are {form.classes} classes, from one-hot rows")
    else:
        size = form.classes or spec.target_size
        said.append(f"targets are {size} classes" if form.kind == "class" else f"targets are {form.kind} ({size})")
    if form.kind == "binary":
        said[-1] = f"the positive class is {(spec.class_names or ('0', '1'))[1]!r}"
    if left_out:
        said.append(f"{left_out} sample{'s' * (left_out > 1)} with missing or infinite values left out")
    return tuple(said)


def describe(
    preprocessor: ArrayPreprocessor, samples: np.ndarray, dtype: "np.dtype[Any]", training: np.ndarray
) -> dict[str, Any]:
    """Columns, transformations and doubts, from the training samples ``[n]`` of all; reads them once more."""
    spec = preprocessor.spec
    columns: list[dict[str, Any]] = []
    doubts: list[str] = []
    if spec.inputs == "vector" and spec.input_size <= MOST_COLUMNS:
        values = samples.view(dtype) if dtype.kind == "u" else samples
        mean, std = statistics(values, training, "vector", written=preprocessor.fill is not None)
        for place in range(spec.input_size):
            column = values[training, place].astype(np.float64)
            low, high = np.nanmin(column) + 0.0, np.nanmax(column) + 0.0  # 0 instead of -0
            figures = {"mean": float(mean[place]), "std": float(column.std()), "min": float(low), "max": float(high)}
            columns.append({"name": f"[{place}]", "used_as": "number", **figures})
            if low == high:
                doubts.append(f"column {place} of the inputs is {low:g} in every training sample; leave it out")
            elif max(abs(high - mean[place]), abs(low - mean[place])) > 20 * std[place] and preprocessor.mean is None:
                doubts.append(f"column {place} has values far from its mean: {low:g} to {high:g}, mean {mean[place]:g}")
        spread = [each["std"] for each in columns if each["std"] > 0]
        if preprocessor.mean is None and spread and max(spread) > 100 * min(spread):
            doubts.append("the features differ in scale by more than 100; dataset.standardize=true makes them alike")
    return {"columns": columns, "transforms": _transforms(preprocessor), "warnings": doubts}


def _transforms(preprocessor: ArrayPreprocessor) -> list[str]:
    said = []
    if preprocessor.fill is not None:
        said.append(f"NaN becomes the mean of the training samples: {_short(preprocessor.fill)}")
    if preprocessor.mean is not None and preprocessor.std is not None:
        said.append(f"inputs: (value - {_short(preprocessor.mean)}) / {_short(preprocessor.std)}")
    elif preprocessor.spec.inputs == "image" and preprocessor.dtype == "uint8":
        said.append("inputs: (value / 255 - 0.5) / 0.5, so -1 to 1")
    else:
        said.append(f"inputs as they are, as {'int64' if preprocessor.spec.vocabulary else 'float32'}")
    spec = preprocessor.spec
    if spec.target_std:
        said.append(
            f"targets: (value - {_short(spec.target_mean)}) / {_short(spec.target_std)}; shown in their own units"
        )
    return said


def _short(values: Any) -> str:
    flat = np.asarray(values, dtype=np.float64).reshape(-1)
    text = ", ".join(f"{value:.4g}" for value in flat[:4])
    return text if len(flat) == 1 else f"[{text}{', ...' if len(flat) > 4 else ''}]"
