"""What the README promises, measured on the real data."""

from pathlib import Path
from statistics import mean

import pytest

import ptb

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, pytest.param(5, marks=pytest.mark.matrix)])
def test_lenet_learns_the_digits_with_the_defaults(built_in, tmp_path, seeds):
    accuracies = []
    for seed in range(seeds):
        config = ptb.RunConfig(model={"name": "lenet"}, seed=seed, device="cpu")
        result = ptb.train(config, registry=built_in, output=tmp_path / str(seed))
        assert result.parameters == 61_706
        accuracies.append(result.metrics["test/accuracy"])
    assert mean(accuracies) >= 0.965, accuracies
    assert min(accuracies) >= 0.95, accuracies


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_lenet_learns_fashion_mnist_in_two_epochs(built_in, tmp_path):
    config = ptb.RunConfig(model={"name": "lenet"}, dataset={"name": "fashion-mnist"}, trainer={"epochs": 2})
    result = ptb.train(config, registry=built_in, output=tmp_path / "run")
    assert result.metrics["test/accuracy"] >= 0.84
