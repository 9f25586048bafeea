import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import TensorDataset

import ptb
from ptb import Component, DataBundle, DataSpec, PluginError, Preprocessor, RunConfig, hookimpl
from ptb.storage.codec import State, decode

PRICES = 250_000 + 80_000 * torch.linspace(-1, 1, 40)[:, None]
CONFIG = {"model": {"name": "linear"}, "dataset": {"name": "prices"}, "trainer": {"epochs": 1}}


class Scaling(Preprocessor):
    def __init__(self):
        self.means = None


class Odd(Scaling):
    def __init__(self):
        self.opened = object()


def prices(*, preprocessor: str = "Scaling", standardize: bool = True):
    mean, std = float(PRICES.mean()), float(PRICES.std())
    units = {"target_mean": (mean,), "target_std": (std,)} if standardize else {}
    spec = DataSpec((1,), "vector", "real", 1, **units)
    targets = (PRICES - mean) / std if standardize else PRICES
    split = TensorDataset(torch.zeros(40, 1), targets)
    made = globals()[preprocessor]()
    if preprocessor == "Scaling":
        made.means = torch.tensor([mean])
    return DataBundle(spec, split, split, preprocessor=made, notes=("prices in crowns", "made up"))


class Local:
    @hookimpl
    def ptb_provide_datasets(self):
        return [Component("prices", f"{__name__}:prices")]


@pytest.fixture
def registry():
    return ptb.load_registry(plugins=[Local()])


@pytest.fixture
def done(registry, tmp_path):
    metrics = {"mae": {}, "rmse": {}, "r2": {}}
    return ptb.train(RunConfig(**CONFIG, metrics=metrics), registry=registry, output=tmp_path / "run")


def test_the_preprocessor_is_in_the_run_with_its_hashes(done):
    files = {name: (done.output / name).read_bytes() for name in ("preprocessor.json", "preprocessor.safetensors")}
    manifest = json.loads((done.output / "manifest.json").read_text())
    assert manifest["preprocessor"] == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    values = json.loads(files["preprocessor.json"])
    assert values["target"].endswith(":Scaling")
    assert values["spec"]["target_mean"] == [float(PRICES.mean())]
    state = decode(State(values["state"], load_file(done.output / "preprocessor.safetensors")))
    assert state == {"means": torch.tensor([PRICES.mean()])}


def test_metrics_of_real_targets_are_in_their_own_units(done):
    with torch.no_grad():
        predicted = done.model(torch.zeros(40, 1)) * PRICES.std() + PRICES.mean()
    error = (predicted - PRICES).abs().mean()
    assert error > 1000
    assert done.metrics["val/mae"] == pytest.approx(float(error), rel=1e-5)
    assert done.metrics["val/rmse"] == pytest.approx(float((predicted - PRICES).square().mean().sqrt()), rel=1e-5)
    assert done.metrics["train/mae"] > 1000
    assert done.metrics["val/loss"] < 100  # of the standardised targets, which were minimised


def test_the_notes_of_the_data_are_in_the_log(done):
    assert "data: prices in crowns; made up" in (done.output / "log.txt").read_text()


def test_a_preprocessor_that_cannot_be_saved_stops_the_run_before_it_begins(registry, tmp_path):
    config = RunConfig(**CONFIG | {"dataset": {"name": "prices", "preprocessor": "Odd"}})
    with pytest.raises(PluginError, match=r"Odd of .*prices.* cannot be saved: .*opened is a"):
        ptb.train(config, registry=registry, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_preprocessor_that_is_gone_is_written_again_with_the_manifest(done, registry):
    before = (done.output / "preprocessor.json").read_bytes()
    for name in ("preprocessor.json", "manifest.json", "summary.json"):
        (done.output / name).unlink()
    for path in (done.output / "checkpoints").iterdir():
        path.unlink()
    (done.output / "metrics.jsonl").unlink()
    ptb.resume(done.output, registry=registry)
    assert (done.output / "preprocessor.json").read_bytes() == before
    assert "preprocessor" in json.loads((done.output / "manifest.json").read_text())
