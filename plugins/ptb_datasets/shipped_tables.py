"""The tables that scikit-learn ships: a first run on numbers instead of pictures, in a second and without a network.

Inputs are standardised with the means and standard deviations of the training samples alone.
"""

from collections.abc import Sequence
from typing import IO

import numpy as np

from ptb import DataBundle, DataError, DataSpec
from ptb_datasets.csv_settings import Csv
from ptb_datasets.shipped import numbers, read_shipped
from ptb_datasets.splits import class_counts, quantile_split, stratified_split
from ptb_datasets.table_features import Feature
from ptb_datasets.table_preprocessor import TablePreprocessor
from ptb_datasets.table_targets import Target, fit_target
from ptb_datasets.tables import Standardizer, splits_of, standardized

# As scikit-learn calls them.
_CELLS = "radius texture perimeter area smoothness compactness concavity concave_points symmetry fractal_dimension"
_CELLS_NAMES = [name.replace("_", " ") for name in _CELLS.split()]
_COLUMNS: dict[str, Sequence[str]] = {
    "iris.csv": [f"{part} {size} (cm)" for part in ("sepal", "petal") for size in ("length", "width")],
    "wine_data.csv": [
        *("alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids"),
        *("nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue", "od280/od315_of_diluted_wines"),
        "proline",
    ],
    "breast_cancer.csv": [
        *(f"mean {name}" for name in _CELLS_NAMES),
        *(f"{name} error" for name in _CELLS_NAMES),
        *(f"worst {name}" for name in _CELLS_NAMES),
    ],
}
_DIABETES = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")


def iris(*, val_fraction: float = 0.15, test_fraction: float = 0.15, split_seed: int = 0) -> DataBundle:
    """150 iris flowers of 3 species by 4 lengths in cm (Fisher, 1936, doi:10.1111/j.1469-1809.1936.tb02137.x).

    Args:
        val_fraction: part of each class for validation.
        test_fraction: part of each class for the test.
        split_seed: chooses which samples go where.

    Returns:
        float32 inputs ``[N, 4]``, int64 targets ``[N]`` in 0..2.

    Raises:
        DataError: the installed scikit-learn does not hold the file.
    """
    return _classes("iris.csv", (val_fraction, test_fraction), split_seed)


def wine(*, val_fraction: float = 0.15, test_fraction: float = 0.15, split_seed: int = 0) -> DataBundle:
    """178 wines of 3 growers by 13 chemical measurements (Aeberhard and Forina, 1992, doi:10.24432/C5PC7J).

    Args:
        val_fraction: part of each class for validation.
        test_fraction: part of each class for the test.
        split_seed: chooses which samples go where.

    Returns:
        float32 inputs ``[N, 13]``, int64 targets ``[N]`` in 0..2.

    Raises:
        DataError: the installed scikit-learn does not hold the file.
    """
    return _classes("wine_data.csv", (val_fraction, test_fraction), split_seed)


def breast_cancer(*, val_fraction: float = 0.15, test_fraction: float = 0.15, split_seed: int = 0) -> DataBundle:
    """569 tumours by 30 measurements of their cell nuclei: 0 malignant, 1 benign (Wolberg et al., 1995).

    The Diagnostic Wisconsin Breast Cancer Database, doi:10.24432/C5DW2B.

    Args:
        val_fraction: part of each class for validation.
        test_fraction: part of each class for the test.
        split_seed: chooses which samples go where.

    Returns:
        float32 inputs ``[N, 30]``, float32 targets ``[N, 1]``, 0 or 1.

    Raises:
        DataError: the installed scikit-learn does not hold the file.
    """
    return _classes("breast_cancer.csv", (val_fraction, test_fraction), split_seed, binary=True)


def diabetes(
    *,
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    split_seed: int = 0,
    standardize_target: bool = True,
) -> DataBundle:
    """442 patients by 10 measurements; how far diabetes went in a year (Efron et al., 2004, arXiv:math/0406456).

    Args:
        val_fraction: part of the samples for validation, of each tenth by their targets.
        test_fraction: the same for the test.
        split_seed: chooses which samples go where.
        standardize_target: predict (progression - mean) / std of the training samples, so that a squared error of
            1 is that of predicting the mean; else the progression as it was measured, 25 to 346.

    Returns:
        float32 inputs ``[N, 10]``, float32 targets ``[N, 1]``.

    Raises:
        DataError: the installed scikit-learn does not hold the files.
    """
    features = read_shipped("diabetes_data_raw.csv.gz", lambda stream: numbers(stream, None))
    targets = read_shipped("diabetes_target.csv.gz", numbers)
    if features.shape[1] != 10 or targets.shape != (len(features), 1):
        raise DataError(
            f"the diabetes files that scikit-learn ships do not belong together: {features.shape} values for "
            f"{targets.shape} targets; reinstall scikit-learn"
        )
    parts = quantile_split(targets[:, 0], (val_fraction, test_fraction), split_seed)
    encoded = standardized(targets, parts[0]) if standardize_target else targets.astype(np.float32)
    train, val, test = splits_of(standardized(features, parts[0]), encoded, parts)
    assert train is not None
    target = Target("real", ["progression"])
    if standardize_target:
        fit_target(target, targets, parts[0])
    mean, std = tuple(target.mean), tuple(target.std)
    spec = DataSpec((10,), "vector", "real", 1, target_mean=mean, target_std=std)
    fitted = _fitted(_DIABETES, features[parts[0]], target, spec)
    return DataBundle(spec, train, val, test, preprocessor=fitted)


def _classes(name: str, fractions: tuple[float, float], seed: int, binary: bool = False) -> DataBundle:
    features, labels, names = read_shipped(name, _parse)
    parts = stratified_split(labels, fractions, seed)
    targets = labels[:, None].astype(np.float32) if binary else labels
    train, val, test = splits_of(standardized(features, parts[0]), targets, parts)
    assert train is not None
    spec = DataSpec(
        (features.shape[1],),
        "vector",
        "binary" if binary else "class",
        1 if binary else len(names),
        class_names=names,
        class_counts=class_counts(labels[parts[0]], len(names)),
    )
    target = Target("binary" if binary else "class", ["target"], list(names))
    fitted = _fitted(_COLUMNS[name], features[parts[0]], target, spec)
    return DataBundle(spec, train, val, test, preprocessor=fitted)


def _fitted(names: Sequence[str], training: np.ndarray, target: Target, spec: DataSpec) -> TablePreprocessor:
    scale = Standardizer.of(training)
    features = [
        Feature(name, "number", "all its values are numbers", [mean], [std], [mean])
        for name, mean, std in zip(names, scale.mean.tolist(), scale.std.tolist(), strict=True)
    ]
    new = TablePreprocessor.of(Csv.model_validate({"path": "-", "target": "target"}), features, target, None, 0)
    new.spec = spec
    return new


def _parse(stream: IO[str]) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Features, labels and names; the first line is the number of samples, of features, then the class names."""
    samples, width, *names = stream.readline().strip().split(",")
    table = numbers(stream)
    if table.shape != (int(samples), int(width) + 1):
        raise ValueError(f"its first line says {samples} samples of {width} values, it holds {table.shape}")
    labels = table[:, -1].astype(np.int64)
    if labels.min() < 0 or labels.max() >= len(names):
        raise ValueError(f"a label is not in 0..{len(names) - 1}")
    return table[:, :-1], labels, tuple(names)
