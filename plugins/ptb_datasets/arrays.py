"""Your own arrays in two NumPy files: mapped, so that they may be larger than the memory, and shared by all splits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch.utils.data import TensorDataset

from ptb import ConfigError, DataBundle, DataError, DataSpec
from ptb_datasets.array_files import ArrayFiles
from ptb_datasets.array_inputs import (
    as_samples,
    channels_first,
    fill,
    first_unusable,
    kind_of,
    statistics,
    unusable,
    vocabulary,
    warn_of_doubts,
)
from ptb_datasets.array_preprocessor import ArrayPreprocessor
from ptb_datasets.array_report import describe, notes
from ptb_datasets.array_targets import TARGET_FORMS, TargetForm, form_of
from ptb_datasets.mapped import expect_random_reads
from ptb_datasets.npy import BadNpy, map_npy
from ptb_datasets.splits import class_counts, keep_classes, quantile_split, stratified_split
from ptb_datasets.subsets import subsets

# More is not searched for NaN at the start; the first samples of each split are before a run trains.
SCAN_BYTES = 1 << 30
DROP = "dataset.missing=drop leaves such samples out"


class Files(NamedTuple):
    """The three files, the last one perhaps not given, and which of their samples are used, int64 ``[n]``."""

    inputs: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None
    rows: np.ndarray


def arrays(
    *,
    inputs: str,
    targets: str,
    kind: Literal["auto", "class", "binary", "multilabel", "real", "distribution"] = "auto",
    inputs_as: Literal["auto", "image", "vector", "tokens", "array"] = "auto",
    sample_weights: str | None = None,
    layout: Literal["channels-first", "channels-last"] | None = None,
    class_names: Sequence[str] | None = None,
    standardize: bool = False,
    standardize_target: bool = False,
    missing: Literal["error", "drop", "mean"] = "error",
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    split_seed: int = 0,
) -> DataBundle:
    """Two ``.npy`` files, written by ``numpy.save``, whose first axis is the samples.

    The inputs are mapped: the system reads what a batch needs, and they may be larger than the memory. Do not change
    the files while a run uses them. Floats up to 1 GiB, and tokens, are looked through at the start.

    Args:
        inputs: the file. uint8 ``[N, H, W]`` or ``[N, C, H, W]`` are pictures, floats of 16, 32 or 64 bits are vectors
            ``[N, F]`` or pictures ``[N, C, H, W]``, whole numbers ``[N, L]`` are tokens.
        targets: the file. Whole numbers ``[N]``, floats ``[N]`` or ``[N, D]``, or booleans ``[N]`` or ``[N, K]``.
        kind: of the targets. ``"auto"``: 0 and 1 are binary, other whole numbers are classes, other floats are real;
            what could be two things is refused: few whole floats, one-hot rows, rows of probabilities.
        inputs_as: what the inputs are, where type and axes do not say it or say another thing.
        layout: of pictures with four axes: where the channels are; None is ``"channels-first"``.
        sample_weights: a file of how much each sample counts, floats ``[N]``, 0 or more.
        class_names: of the classes or labels in order, of binary targets those of 0 and 1, of real ones the columns.
        standardize: inputs of mean 0 and standard deviation 1 in the training samples, each feature (the last axis), of
            pictures each channel.
        standardize_target: the same for each real target; figures stay in its own units.
        missing: what to do about samples that hold NaN: stop, leave them out, or use the mean of that feature in the
            training samples. Infinite values and NaN among targets are not replaced.
        val_fraction: part of the samples for validation, of each class, or of each tenth by a single real target; 0:
            none.
        test_fraction: the same for the test.
        split_seed: chooses which samples go where.

    Returns:
        Inputs as in the file, which ``transform`` makes int64 or float32 (pixels to -1 to 1, other numbers as they
        are); targets int64 ``[N]`` for class, else float32 ``[N, D]``.

    Raises:
        DataError: a file cannot be used, or they do not belong together; the message says what is valid.
        ConfigError: a setting does not fit what the files hold.
    """
    values = _mapped("inputs", inputs)
    input_kind = kind_of(Path(inputs), values, inputs_as)
    warn_of_doubts(Path(inputs), values, input_kind, inputs_as, standardize, layout)
    if layout is not None and (input_kind != "image" or values.ndim != 4):
        raise ConfigError(
            f"dataset.layout is for pictures of four axes, and {inputs} holds {values.dtype} {list(values.shape)}, "
            f"taken as {input_kind}: leave it out, or say dataset.inputs_as=image"
        )
    last = layout == "channels-last"
    values = channels_first(values) if last else values
    if (standardize or missing == "mean") and input_kind == "tokens":
        raise ConfigError(
            f"dataset.{'standardize' if standardize else 'missing'} is for numbers, and {inputs} holds tokens"
        )
    words = vocabulary(Path(inputs), values) if input_kind == "tokens" else None
    files = _files({"inputs": inputs, "targets": targets, "sample_weights": sample_weights}, values, missing)
    form = form_of(Path(targets), files.targets[files.rows], kind, files.rows)
    wanted = form.encode(files.targets[files.rows])
    parts = [files.rows[part] for part in _parts(form, wanted, (val_fraction, test_fraction), split_seed)]
    if standardize_target:
        if form.kind != "real":
            raise ConfigError(f"dataset.standardize_target belongs to real targets; those of {targets} are {form.kind}")
        form = form.standardized(files.targets[parts[0]])
        wanted = form.encode(files.targets[files.rows])
    counts = _counts(form, wanted[np.searchsorted(files.rows, parts[0])])
    _check_parts(Path(targets), len(files.rows), parts, (val_fraction, test_fraction))
    samples = as_samples(values, input_kind)
    spec = DataSpec(
        samples.shape[1:],
        input_kind,
        form.kind,
        form.classes if form.kind == "class" else wanted.shape[1],
        _names(class_names, form, 1 if wanted.ndim == 1 else wanted.shape[1]),
        vocabulary=words,
        class_counts=counts,
        target_mean=form.mean,
        target_std=form.std,
    )
    preprocessor = ArrayPreprocessor.fit(spec, values.dtype, form, last)
    numbers = samples.view(values.dtype)
    if fills := missing == "mean" and values.dtype.kind == "f":
        preprocessor.fill = statistics(numbers, parts[0], input_kind)[0]
        fill(numbers, preprocessor.fill)
    if standardize:
        preprocessor.standardize(*statistics(numbers, parts[0], input_kind, written=fills))
    expect_random_reads(values)
    held = (samples, _at(files.rows, wanted, len(values)), *(() if files.weights is None else (files.weights,)))
    together = TensorDataset(*map(torch.from_numpy, held))
    train, val, test = subsets(together, parts)
    assert train is not None
    written = ArrayFiles.of({"inputs": inputs, "targets": targets, "weights": sample_weights}, parts)
    return DataBundle(
        spec,
        train,
        val,
        test,
        transform=preprocessor.transform,
        preprocessor=preprocessor,
        notes=notes(spec, form, values.dtype, len(values) - len(files.rows)),
        describe=lambda: describe(preprocessor, samples, values.dtype, parts[0]),
        names=written.names,
        write_splits=written.write,
    )


def _mapped(key: str, path: str) -> np.ndarray:
    try:
        return map_npy(Path(path).expanduser())
    except BadNpy as error:
        raise DataError(f"dataset.{key}={path} {error}") from error
    except RuntimeError as error:  # a home that does not exist
        raise DataError(f"dataset.{key}={path}: {error}") from error


def _files(paths: dict[str, str | None], inputs: np.ndarray, missing: str) -> Files:
    """The files, whose samples with NaN are left out or refused, whose lengths agree, and whose weights are weights."""
    targets = _mapped("targets", str(paths["targets"]))
    if targets.ndim not in (1, 2):
        raise DataError(f"{paths['targets']} holds {targets.dtype} {list(targets.shape)}: {TARGET_FORMS}")
    weights = (
        None if paths["sample_weights"] is None else np.atleast_1d(_mapped("sample_weights", paths["sample_weights"]))
    )
    _check_lengths(paths, inputs, targets, weights)
    looked_at = missing != "error" or inputs.nbytes <= SCAN_BYTES
    bad = unusable(inputs, missing == "mean") if looked_at else np.zeros(len(inputs), dtype=bool)
    for key, values, wrong in (("inputs", inputs, bad), ("targets", targets, unusable(targets, False))):
        if wrong.any() and missing != "drop":
            row = int(wrong.argmax())
            only_nan = key == "inputs" and missing == "error" and np.isnan(values[row]).any()
            mean = "; dataset.missing=mean puts the mean of the training samples there" if only_nan else ""
            number = int(wrong.sum())
            more = f" ({number:,} samples hold such values)" if number > 1 else ""
            raise DataError(
                f"{paths[key]}: {key[:-1]} {row}, counted from 0, is no finite number: {first_unusable(values[row])}"
                f"{more}; {DROP}{mean}"
            )
        bad = bad | wrong
    if bad.all():
        raise DataError(f"{paths['inputs']}: every sample holds a value that is missing or infinite")
    rows = np.flatnonzero(~bad)
    return Files(
        inputs, targets, None if weights is None else _weights(str(paths["sample_weights"]), weights, rows), rows
    )


def _check_lengths(
    paths: dict[str, str | None], inputs: np.ndarray, targets: np.ndarray, weights: np.ndarray | None
) -> None:
    for key, values in (("targets", targets), ("sample_weights", weights)):
        if values is not None and len(values) != len(inputs):
            raise DataError(
                f"{paths['inputs']} and {paths[key]} do not belong together: {len(inputs)} inputs, {len(values)} "
                f"{key.removeprefix('sample_')}"
            )


def _weights(path: str, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Float32 ``[N]``."""
    flat = weights.reshape(len(weights), -1)
    if flat.shape[1] != 1:
        raise DataError(f"{path} holds {weights.dtype} {list(weights.shape)}; weights are [N], one a sample")
    flat = flat[:, 0].astype(np.float64)
    wrong = ~(np.isfinite(flat[rows]) & (flat[rows] >= 0))
    if wrong.any():
        row = rows[int(wrong.argmax())]
        raise DataError(f"{path}: weight {row} is {flat[row]}; valid are finite numbers, 0 or more")
    return flat.astype(np.float32)


def _parts(form: TargetForm, targets: np.ndarray, fractions: tuple[float, float], seed: int) -> list[np.ndarray]:
    """Which targets are in each split."""
    if form.kind in ("class", "binary"):
        labels = targets.reshape(len(targets)).astype(np.int64)
        names = form.codes or range(2 if form.kind == "binary" else form.classes)
        return keep_classes(labels, stratified_split(labels, fractions, seed), [*map(str, names)], fractions)
    if form.kind == "real" and targets.shape[1] == 1:
        return quantile_split(targets[:, 0], fractions, seed)
    return stratified_split(np.zeros(len(targets), dtype=np.int64), fractions, seed)


def _counts(form: TargetForm, training: np.ndarray) -> tuple[int, ...]:
    if form.kind == "multilabel":
        return tuple(training.sum(axis=0).astype(int).tolist())
    if form.kind in ("class", "binary"):
        return class_counts(
            training.reshape(len(training)).astype(np.int64), 2 if form.kind == "binary" else form.classes
        )
    return ()


def _names(given: Sequence[str] | None, form: TargetForm, size: int) -> tuple[str, ...]:
    if given is None:
        return tuple(map(str, form.codes))
    size = form.classes if form.kind in ("class", "binary") else size
    if len(given) != size:
        what = {"class": "classes", "binary": "classes", "real": "targets"}.get(form.kind, "labels")
        raise ConfigError(f"dataset.class_names has {len(given)} names, and there are {size} {what}")
    return tuple(given)


def _at(rows: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Targets of some of the samples at their place among all."""
    if len(rows) == count:
        return values
    whole = np.zeros((count, *values.shape[1:]), values.dtype)
    whole[rows] = values
    return whole


def _check_parts(
    path: Path,
    count: int,
    parts: list[np.ndarray],
    fractions: tuple[float, float],
) -> None:
    for split, part, fraction in zip(("val", "test"), parts[1:], fractions, strict=True):
        if fraction > 0 and not len(part):
            raise DataError(
                f"{path} has too few samples for dataset.{split}_fraction={fraction}, {count} in all; 0 makes no such "
                "split"
            )
    if not len(parts[0]):
        raise DataError(f"{path} has too few samples, {count} in all: none is left for training")
