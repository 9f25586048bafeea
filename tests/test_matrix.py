"""Every combination of built-in components trains, or is refused before the first step with both parties named."""

import itertools
import math
import warnings

import cv2
import numpy as np
import pytest

import ptb
from ptb.config.resolve import resolve
from ptb.runs.compose import compose

MODELS = ["linear", "mlp", "lenet", "cnn", "embedding-bag", "resnet", "rnn", "unet"]
LOSSES = [
    *("bce", "bce-with-logits", "cross-entropy", "mse", "l1", "smooth-l1", "kl-div", "cosine-embedding"),
    *("focal", "dice", "quantile", "gaussian-nll"),
]
OPTIMIZERS = [
    *("asgd", "adadelta", "adagrad", "adam", "adamw", "adamax", "lbfgs", "rmsprop", "rprop", "sgd", "sparse-adam"),
    *("nadam", "radam", "adafactor"),
]
RANDOM = {"name": "random", "samples": 40}
DATASETS = {
    "digits": {"size": 16},
    "digits-distribution": {"name": "digits", "size": 16, "target": "distribution"},
    "digit-pairs": {"size": 16},
    "mnist": {"val_size": 10},
    "fashion-mnist": {"val_size": 10},
    "iris": {},
    "wine": {},
    "breast-cancer": {},
    "diabetes": {},
    "image-folder": {"size": 16},
    "image-masks": {"size": 16, "values": [0, 255]},
    "arrays": {},
    "arrays-standardized": {"name": "arrays", "standardize": True, "class_names": ["a", "b", "c"]},
    "idx": {},
    "csv": {"target": "kind"},
    "csv-text": {"name": "csv", "target": "kind", "text": "words"},
    "random-class": RANDOM | {"inputs": "image", "input_shape": [1, 16, 16], "target": "class", "output_size": 3},
    "random-tokens": RANDOM
    | {"inputs": "tokens", "input_shape": [5], "vocabulary": 9, "target": "class", "output_size": 3},
    "random-binary": RANDOM | {"inputs": "tokens", "input_shape": [5], "vocabulary": 9, "target": "binary"},
    "random-real": RANDOM | {"inputs": "vector", "input_shape": [5], "target": "real", "output_size": 2},
    "random-multilabel": RANDOM | {"inputs": "array", "input_shape": [5, 2], "target": "multilabel", "output_size": 3},
    "random-positions": RANDOM
    | {"inputs": "tokens", "input_shape": [5], "vocabulary": 9, "positions": True, "output_size": 3},
    "random-real-positions": RANDOM
    | {"inputs": "image", "input_shape": [1, 16, 16], "target": "real", "positions": True, "output_size": 2},
    "random-none": RANDOM | {"inputs": "image", "input_shape": [1, 16, 16], "target": "none"},
    "random-distribution": RANDOM
    | {"inputs": "vector", "input_shape": [5], "target": "distribution", "output_size": 3},
    "random-similarity": RANDOM
    | {"inputs": "image", "input_shape": [1, 16, 16], "target": "similarity", "output_size": 3},
}
# Without a line search LBFGS leaps out of range on batches of eight samples, and the run ends as numerical.
OPTIMIZER_SETTINGS = {"lbfgs": {"line_search_fn": "strong_wolfe"}}
MODEL_SETTINGS = {
    "embedding-bag": {},
    "embedding-bag-sparse": {"name": "embedding-bag", "sparse": True},
    "rnn": {"hidden": 8},
    "unet": {"depth": 2, "width": 4},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Small files for the data sets that read some."""
    root = tmp_path_factory.mktemp("files")
    random = np.random.RandomState(0)
    for prefix, count in (("train", 60), ("t10k", 20)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        for name, array in (
            ("images-idx3", random.randint(0, 256, (count, 28, 28)).astype(np.uint8)),
            ("labels-idx1", labels),
        ):
            sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
            (root / f"{prefix}-{name}-ubyte").write_bytes(bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes())
    for label in ("cat", "dog"):
        (root / "pictures" / label).mkdir(parents=True)
        for number in range(15):
            cv2.imwrite(
                str(root / "pictures" / label / f"{number}.png"), random.randint(0, 256, (20, 20)).astype(np.uint8)
            )
    for number in range(15):
        picture = random.randint(0, 256, (20, 20)).astype(np.uint8)
        for folder, pixels in (("images", picture), ("masks", (picture > 128) * np.uint8(255))):
            (root / folder).mkdir(exist_ok=True)
            cv2.imwrite(str(root / folder / f"{number}.png"), pixels)
    rows = [
        f"{random.rand():.3f},{random.rand():.3f},{'some words here' if i % 2 else 'other text'},{'ab'[i % 2]}"
        for i in range(40)
    ]
    (root / "table.csv").write_text("\n".join(["x,y,words,kind", *rows]) + "\n")
    np.save(root / "inputs.npy", random.randn(40, 3).astype(np.float32))
    np.save(root / "targets.npy", np.arange(40) % 3)
    return {
        "mnist": {"root": str(root)},
        "fashion-mnist": {"root": str(root)},
        "image-folder": {"root": str(root / "pictures")},
        "image-masks": {"images": str(root / "images"), "masks": str(root / "masks")},
        "arrays": {"inputs": str(root / "inputs.npy"), "targets": str(root / "targets.npy")},
        "idx": {"images": str(root / "train-images-idx3-ubyte"), "labels": str(root / "train-labels-idx1-ubyte")},
        "csv": {"path": str(root / "table.csv")},
    }


def outcome(registry, files, dataset, model, loss=None, optimizer="adam", **sections):
    """``trained`` after three steps of finite loss, or the message with which the combination was refused."""
    chosen = {"name": dataset} | DATASETS[dataset]
    chosen |= files.get(chosen["name"], {})
    model = {"name": model} | MODEL_SETTINGS.get(model, {})
    config = {
        "dataset": chosen,
        "model": model,
        "optimizer": {"name": optimizer, **OPTIMIZER_SETTINGS.get(optimizer, {})},
        "loader": {"batch_size": 8},
        "device": "cpu",
    }
    if loss is not None:
        config["loss"] = {"name": loss}
    names = {chosen["name"], model["name"], optimizer, *([loss] if loss else ())}
    names |= {section["name"] for section in sections.values() if "name" in section} | set(sections.get("metrics", ()))
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            trainer = compose(resolve(ptb.RunConfig(**config, **sections), registry)).trainer
    except ptb.PtbError as error:
        refusal = error
    else:
        refusal = None
    if refusal is not None:
        assert refusal.exit_code in (2, 3), f"{config}: {refusal}"
        assert sum(f"'{name}'" in str(refusal) for name in names) >= 2, f"{sorted(names)} in: {refusal}"
        return str(refusal)
    batches = itertools.cycle(trainer.train_loader.epoch(1))
    losses = [float(trainer.train_step([next(batches)]).loss) for _ in range(3)]
    return "trained" if all(map(math.isfinite, losses)) else f"diverged: {config}"


ALL = {
    "dataset": list(DATASETS),
    "model": [*MODELS, "embedding-bag-sparse"],
    "loss": [None, *LOSSES],
    "optimizer": OPTIMIZERS,
}
# The other pairs share nothing: whether an optimizer fits depends on the model alone.
TOUCHING = [("dataset", "model"), ("dataset", "loss"), ("model", "loss"), ("model", "optimizer")]
USUAL = {"dataset": "digits", "model": "mlp", "loss": None, "optimizer": "adam"}


def pairs():
    seen = set()
    for one, other in TOUCHING:
        for values in itertools.product(ALL[one], ALL[other]):
            combination = tuple((USUAL | dict(zip((one, other), values, strict=True))).items())
            if combination not in seen:
                seen.add(combination)
                yield dict(combination)


def test_every_built_in_is_in_the_matrix(built_in):
    for kind, listed in ALL.items():
        registered = {entry.name for entry in built_in.components(kind)}
        named = {DATASETS.get(name, {}).get("name", name) if kind == "dataset" else name for name in listed if name}
        assert registered == named - {"embedding-bag-sparse"}, kind


def counted(registry, files, combinations):
    results = [outcome(registry, files, **combination) for combination in combinations]
    trained = results.count("trained")
    print(f"\n{len(results)} combinations: {trained} trained, {len(results) - trained} refused")
    assert not [result for result in results if result.startswith("diverged")]
    return trained, len(results) - trained


@pytest.mark.matrix
def test_every_pair_trains_or_is_refused(built_in, files):
    trained, refused = counted(built_in, files, pairs())
    assert trained > 100
    assert refused > 150


@pytest.mark.matrix
@pytest.mark.parametrize("dataset", DATASETS)
def test_the_whole_product_trains_or_is_refused(built_in, files, dataset):
    fitting = []
    for model, loss in itertools.product(ALL["model"], ALL["loss"]):
        chosen = {"dataset": dataset, "model": model, "loss": loss}
        usual = outcome(built_in, files, **chosen)
        assert not usual.startswith("diverged")
        # Where other parties do not fit, no optimizer helps.
        if usual == "trained" or "'adam'" in usual:
            fitting += [chosen | {"optimizer": name} for name in OPTIMIZERS]
    trained, _ = counted(built_in, files, fitting)
    assert trained >= len(OPTIMIZERS) - 1


def test_every_data_set_trains_with_what_fits_it(built_in, files):
    models = {"csv-text": "embedding-bag", "random-tokens": "embedding-bag", "random-binary": "embedding-bag"}
    models |= {"image-masks": "unet", "random-positions": "rnn", "random-real-positions": "unet"}
    for dataset in DATASETS:
        assert outcome(built_in, files, dataset, models.get(dataset, "mlp")) == "trained", dataset


TARGETS = {
    "digits": "class",
    "diabetes": "real",
    "breast-cancer": "binary",
    "digit-pairs": "similarity",
    "digits-distribution": "distribution",
    "random-multilabel": "multilabel",
}


@pytest.mark.parametrize("kind", ["initializer", "scheduler"])
def test_every_initializer_and_scheduler_trains(built_in, files, kind):
    for entry in built_in.components(kind):
        if entry.name == "weights-file":  # it would need a file for each model
            continue
        settings = {"milestones": [2, 4]} if entry.name == "multi-step" else {}
        chosen = {kind: {"name": entry.name, **settings}}
        result = outcome(built_in, files, "digits", "lenet" if kind == "initializer" else "mlp", **chosen)
        assert result == "trained", f"{entry.name}: {result}"


@pytest.mark.parametrize("dataset", TARGETS)
def test_every_metric_is_computed_or_refused(built_in, files, dataset):
    fitting, others = {}, []
    for entry in built_in.components("metric"):
        if TARGETS[dataset] in entry.component.accepts:
            fitting[entry.name] = {"name": entry.name}
        else:
            others.append(entry.name)
    assert outcome(built_in, files, dataset, "mlp", metrics=fitting) == "trained"
    refusal = outcome(built_in, files, dataset, "mlp", metrics={others[0]: {"name": others[0]}})
    assert "takes targets of kind" in refusal
