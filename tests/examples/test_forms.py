"""The examples of forms of data: each trains to a figure that a predictor which ignores its inputs does not reach."""

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import torch

from ptb import RunConfig, load_registry, train

EXAMPLES = Path(__file__).parents[2] / "examples"
LINES = 60


def background(bundle):
    """Mean IoU of calling every pixel background."""
    masks = bundle.test.tensors[1]
    return (masks == 0).sum().item() / (masks >= 0).sum().item() / bundle.spec.output_size


def all_labels(bundle):
    """Macro F1 of finding every label everywhere, which beats finding none."""
    shares = bundle.test.tensors[1].mean(0)
    return (2 * shares / (1 + shares)).mean().item()


def most_frequent_tag(bundle):
    """Accuracy of the most frequent tag."""
    return torch.cat([tags for _, tags in bundle.test]).bincount().max().item() / sum(len(x) for x, _ in bundle.test)


def constant_quantiles(bundle):
    """Quantile loss of the quantiles of the training targets."""
    levels = torch.tensor([0.1, 0.5, 0.9])
    error = bundle.test.tensors[1] - bundle.train.tensors[1].quantile(levels)
    return torch.maximum(levels * error, (levels - 1) * error).mean().item()


def mean_picture(bundle):
    """Mean squared error of the mean of the training pictures."""
    return (bundle.test.tensors[0] - bundle.train.tensors[0].mean(0)).square().mean().item()


def most_frequent_package(bundle):
    """Accuracy of the most frequent class."""
    share = torch.stack([target for _, target in bundle.test]).mean().item()
    return max(share, 1 - share)


ADAM = {"name": "adam", "lr": 0.005}
CASES = {
    "ptb-segmentation": (
        {"model": {"name": "unet", "width": 8, "depth": 3}, "dataset": {"name": "shapes"}, "optimizer": ADAM},
        ("test/mean-iou", background, 0.7),
    ),
    "ptb-multilabel": (
        {"model": {"name": "cnn"}, "dataset": {"name": "digit-strips"}, "optimizer": ADAM},
        ("test/f1", all_labels, 0.85),
    ),
    "ptb-tagger": (
        {"model": {"name": "rnn"}, "dataset": {"name": "expressions"}, "optimizer": ADAM},
        ("test/accuracy", most_frequent_tag, 0.97),
    ),
    "ptb-quantiles": (
        {"model": {"name": "mlp"}, "dataset": {"name": "waves"}, "loss": {"name": "quantile"}, "optimizer": ADAM},
        ("test/loss", constant_quantiles, 0.14),
    ),
    "ptb-autoencoder": (
        {"model": {"name": "autoencoder"}, "dataset": {"name": "unlabelled-digits"}, "optimizer": ADAM},
        ("test/loss", mean_picture, 0.04),
    ),
    "ptb-text-and-table": (
        {"model": {"name": "text-and-table"}, "dataset": {"name": "docstrings"}, "optimizer": ADAM},
        ("test/accuracy", most_frequent_package, 0.85),
    ),
}
EPOCHS = {"ptb-segmentation": 12, "ptb-text-and-table": 20}


@pytest.mark.parametrize("name", CASES)
def test_the_example_learns_what_its_inputs_say(name, tmp_path, monkeypatch):
    config, (figure, trivial, reached) = CASES[name]
    monkeypatch.syspath_prepend(EXAMPLES / name)
    project = tomllib.loads((EXAMPLES / name / "pyproject.toml").read_text())["project"]
    (module,) = project["entry-points"]["ptb"].values()
    registry = load_registry(plugins=[import_module(module)])
    run = RunConfig(**config, trainer={"epochs": EPOCHS.get(name, 6)})
    result = train(run, registry=registry, output=tmp_path / "run")

    alone = trivial(registry.get("dataset", config["dataset"]["name"]).load()())
    value = result.metrics[figure]
    better = (lambda one, other: one < other) if figure.endswith("loss") else (lambda one, other: one > other)
    assert better(reached, alone), f"{reached} is no better than {alone}, which needs no inputs"
    assert better(value, reached), value


@pytest.mark.parametrize("name", CASES)
def test_the_example_is_short_and_its_hooks_import_no_torch(name):
    files = list((EXAMPLES / name).rglob("*.py"))
    assert sum(len(file.read_text().splitlines()) for file in files) < LINES
    module = next(file.parent.name for file in files if file.name == "__init__.py")
    code = f"import sys, {module}; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=EXAMPLES / name, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_example_was_left_out():
    forms = {path.parent.name for path in EXAMPLES.glob("ptb-*/pyproject.toml")}
    assert forms - {*CASES} == {"ptb-plugin-example", "ptb-torchmetrics"}
