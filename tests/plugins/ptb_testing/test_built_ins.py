"""The built-in components pass the kit that strangers' components pass."""

import atexit
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.torch import save_file

from ptb import InputSpec
from ptb.kinds import KINDS
from ptb_testing.given import Given
from ptb_testing.kit import cases_of, checks_of, minimum, report_of
from ptb_testing.samples import reference_models, spec_of
from ptb_testing.subject import Subject, installed, kind_of, label_of

FILES = Path(tempfile.mkdtemp(prefix="ptb-built-ins-"))  # settings are needed while tests are collected
atexit.register(shutil.rmtree, FILES, ignore_errors=True)


def write_files():
    """Small files for the data sets that read some."""
    random = np.random.RandomState(0)
    for prefix, count in (("train", 60), ("t10k", 20)):
        pictures, labels = random.randint(0, 256, (count, 28, 28)), np.arange(count) % 10
        for name, array in (("images-idx3", pictures), ("labels-idx1", labels)):
            sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
            header = bytes((0, 0, 8, array.ndim)) + sizes
            (FILES / f"{prefix}-{name}-ubyte").write_bytes(header + array.astype(np.uint8).tobytes())
    for label in ("cat", "dog"):
        (FILES / "pictures" / label).mkdir(parents=True)
        for number in range(10):
            picture = random.randint(0, 256, (20, 20, 3)).astype(np.uint8)
            cv2.imwrite(str(FILES / "pictures" / label / f"{number}.png"), picture)
    for number in range(12):
        picture = random.randint(0, 256, (20, 20, 3)).astype(np.uint8)
        for folder, pixels in (("images", picture), ("masks", np.where(picture[..., 0] > 128, 255, 0))):
            (FILES / folder).mkdir(exist_ok=True)
            cv2.imwrite(str(FILES / folder / f"{number}.png"), pixels.astype(np.uint8))
    rows = [f"{i % 7},{i * i % 11},{'some words here' if i % 2 else 'other text'},{'abc'[i % 3]}" for i in range(40)]
    (FILES / "table.csv").write_text("\n".join(["x,y,words,kind", *rows]) + "\n")
    np.save(FILES / "inputs.npy", random.randn(40, 3).astype(np.float32))
    np.save(FILES / "targets.npy", np.arange(40) % 3)
    np.save(FILES / "words.npy", random.randint(0, 20, (40, 3)))
    np.save(FILES / "amounts.npy", 1000 + 50 * random.randn(40, 2))
    save_file(reference_models()["convolutions with batch norm"].state_dict(), FILES / "weights.safetensors")


write_files()
MASKS = {"images": str(FILES / "images"), "masks": str(FILES / "masks"), "size": 8, "values": [0, 255]}
SETTINGS = {  # for data sets and callbacks what they need, for others what is small
    "model/unet": {"depth": 1, "width": 4},
    "model/rnn": {"hidden": 8, "embedding_dim": 8},
    "model/cnn": {"channels": [4, 8]},
    "model/mlp": {"hidden": [16]},
    "optimizer/lbfgs": {"max_iter": 4},
    "dataset/digits": {"size": 8},
    "dataset/digit-pairs": {"size": 8},
    "dataset/mnist": {"root": str(FILES), "val_size": 10},
    "dataset/fashion-mnist": {"root": str(FILES), "val_size": 10},
    "dataset/image-folder": {"root": str(FILES / "pictures"), "size": 8},
    "dataset/image-masks": MASKS,
    "dataset/csv": {"path": str(FILES / "table.csv"), "target": "kind"},
    "dataset/arrays": {"inputs": str(FILES / "inputs.npy"), "targets": str(FILES / "targets.npy")},
    "dataset/idx": {
        "images": str(FILES / "train-images-idx3-ubyte"),
        "labels": str(FILES / "train-labels-idx1-ubyte"),
    },
    "initializer/weights-file": {"path": str(FILES / "weights.safetensors")},
    "callback/best-checkpoint": {"monitor": "val/accuracy", "mode": "max"},
    "callback/mlflow": {"uri": "http://127.0.0.1:9"},
    "callback/freeze": {"match": ["blocks.*"]},
}
# Other ways through the same components, where these differ in what the kit looks at.
OTHERWISE = {
    "dataset/csv": {"path": str(FILES / "table.csv"), "target": "kind", "text": "words"},
    "dataset/arrays": {
        "inputs": str(FILES / "inputs.npy"),
        "targets": str(FILES / "amounts.npy"),
        "standardize": True,
        "standardize_target": True,
    },
    "dataset/image-masks": MASKS | {"flip": True, "colour": "grey"},
    "dataset/random": {"inputs": "tokens", "target": "similarity", "samples": 40},
    "model/embedding-bag": {"sparse": True},
    "model/rnn": {"cell": "gru", "layers": 2, "bidirectional": True, "dropout": 0.5, "hidden": 8},
    "model/unet": {"depth": 2, "width": 4, "batch_norm": False},
    "loss/bce": {"weight": [0.5, 2.0], "reduction": "none"},
    "loss/cross-entropy": {"weight": "balanced", "label_smoothing": 0.1},
    "loss/dice": {"per_sample": True, "squared": False},
    "loss/quantile": {"quantiles": [0.2, 0.5, 0.7, 0.8]},
    "loss/gaussian-nll": {"full": True, "eps": 0.01},
    "loss/kl-div": {"reduction": "batchmean", "log_target": True},
    "metric/f1": {"average": "micro"},
    "metric/precision": {"average": "weighted"},
    "optimizer/lbfgs": {"line_search_fn": "strong_wolfe", "max_iter": 3},
    "optimizer/sgd": {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    "callback/ema": {"warmup": False, "every": 2, "buffers": False},
}
MORE = {
    "dataset/arrays": {
        "inputs": str(FILES / "words.npy"),
        "targets": str(FILES / "targets.npy"),
        "inputs_as": "tokens",
    },
    "dataset/digits": {"size": 8, "target": "distribution"},
    "model/cnn": {"channels": [4, 8], "dropout": 0.5, "batch_norm": False, "activation": "gelu"},
    "model/mlp": {"hidden": [8, 8], "dropout": 0.5},
    "model/resnet": {"depth": 18},
    "initializer/weights-file": {"path": str(FILES / "weights.safetensors"), "skip": ["6.*"]},
    "loss/bce-with-logits": {"pos_weight": "balanced"},
    "loss/cosine-embedding": {"margin": 0.3, "reduction": "sum"},
    "optimizer/adam": {"amsgrad": True, "weight_decay": 0.1},
    "optimizer/rmsprop": {"momentum": 0.9, "centered": True},
    "scheduler/cosine": {"warmup_steps": 7, "min_lr": 0.001},
    "scheduler/one-cycle": {"anneal": "linear", "max_factor": 1.5},
    "callback/best-checkpoint": {"monitor": "val/loss", "mode": "min", "label": "low"},
    "callback/freeze": {"match": ["blocks.*"], "until_epoch": 2},
}
# All data sets, models and commands; of other kinds one of each form, role, need and library. The rest has the marker.
ALL_OF = ("dataset", "model", "command")
FEW = {
    *("initializer/by-layer", "initializer/kaiming-normal", "initializer/weights-file"),
    *("loss/bce-with-logits", "loss/cosine-embedding", "loss/cross-entropy", "loss/gaussian-nll", "loss/kl-div"),
    "loss/mse",
    *("optimizer/adam", "optimizer/lbfgs", "optimizer/sparse-adam"),
    *("scheduler/cosine", "scheduler/plateau"),
    *("metric/accuracy", "metric/class-report", "metric/mae", "metric/mean-iou"),
    *("callback/best-checkpoint", "callback/ema", "callback/freeze", "callback/micro-batch-on-oom"),
    *("plot/embedding", "plot/parallel", "plot/worst-samples"),
}
FEW_OTHERWISE = {
    *("dataset/csv", "dataset/arrays", "dataset/image-masks", "dataset/random", "model/embedding-bag"),
    *("loss/bce", "loss/cross-entropy", "loss/kl-div", "metric/f1"),
}
# Deep models take long on the kit's pictures; with other settings, behind the marker, they get these.
SPECS = {"model/resnet": [spec_of(InputSpec((3, 8, 8), "image"), target) for target in ("class", "real")]}
ENTRIES = installed("pytorch-basics").entries


def every_case(settings, few=frozenset(), *, others=True):
    """Makes a test of each built-in component; of those alone that are given settings, unless there are ``others``."""
    entries = tuple(entry for entry in ENTRIES if others or label_of(entry) in settings)
    cases = cases_of(Subject("pytorch-basics", entries, Given(settings, SPECS if others else {})))
    marks = ([] if case.label in few or (others and case.kind in ALL_OF) else [pytest.mark.matrix] for case in cases)
    given = [pytest.param(case, marks=each) for case, each in zip(cases, marks, strict=True)]
    return pytest.mark.parametrize("case", given, ids=[case.label for case in cases])


def assert_green(report):
    assert [(result.check, result.message) for result in report.results if result.status == "failed"] == []
    assert report.shortage == ""


@every_case(SETTINGS, FEW)
def test_a_built_in_component_keeps_its_contract(case):
    assert_green(report_of(case))


@every_case(OTHERWISE, FEW_OTHERWISE, others=False)
def test_it_does_so_with_other_settings(case):
    assert_green(report_of(case))


@every_case(MORE, others=False)
def test_it_does_so_with_still_other_settings(case):
    assert_green(report_of(case))


def test_those_that_are_always_tried_are_of_every_kind_form_role_and_need():
    def traits(entries):
        parts = [(kind_of(entry), entry.component) for entry in entries if kind_of(entry) in KINDS]
        forms = {form for kind, part in parts if kind == "loss" for form in part.accepts}
        return forms, {(kind, trait) for kind, part in parts for trait in ("", part.role, *part.needs)}

    tried = [entry for entry in ENTRIES if label_of(entry) in FEW or kind_of(entry) in ALL_OF]
    assert traits(tried) == traits(ENTRIES)


@pytest.mark.parametrize("kind", KINDS)
def test_there_are_twelve_checks_and_more_for_every_kind(kind):
    assert 12 <= minimum(kind) <= len(checks_of(kind))
    assert any(kind_of(entry) == kind for entry in ENTRIES)
