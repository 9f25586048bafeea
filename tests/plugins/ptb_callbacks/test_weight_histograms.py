import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import ptb
from ptb_callbacks.weight_histograms import BINS, WeightHistograms


def test_a_line_an_epoch_has_the_weights_and_the_gradients_of_the_run(tmp_path):
    config = {
        "dataset": {"name": "iris"},
        "model": {"name": "linear"},
        "trainer": {"epochs": 3},
        "callbacks": {"weight-histograms": {"every": 2}},
    }
    ptb.train(ptb.RunConfig(**config), output=tmp_path / "with")
    del config["callbacks"]
    ptb.train(ptb.RunConfig(**config), output=tmp_path / "without")
    (line,) = (tmp_path / "with/histograms.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert row["epoch"] == 2
    assert row["weights"].keys() == row["gradients"].keys()
    for found in (*row["weights"].values(), *row["gradients"].values()):
        assert found["low"] < found["high"]
    sums = [
        json.loads((tmp_path / name / "summary.json").read_text())["weights_sha256"] for name in ("with", "without")
    ]
    assert sums[0] == sums[1]


def watched(path, step, epoch=1):
    model = nn.Linear(2, 2, bias=False)
    model.weight.data = torch.tensor([[0.0, 1.0], [2.0, float("inf")]])
    run = None if path is None else SimpleNamespace(path=path)
    return SimpleNamespace(model=model, run=run, state=SimpleNamespace(step=step, epoch=epoch))


def test_the_counts_are_those_of_the_finite_values(tmp_path):
    callback = WeightHistograms()
    callback.on_epoch_end(watched(tmp_path, 5))
    row = json.loads((tmp_path / "histograms.jsonl").read_text())
    counts = row["weights"]["weight"]["counts"]
    assert (len(counts), sum(counts), counts[0], counts[BINS // 2], counts[-1]) == (BINS, 3, 1, 1, 1)
    assert row["gradients"] == {}


def test_steps_that_a_resumed_run_takes_again_are_dropped(tmp_path):
    callback = WeightHistograms()
    for step in (5, 10, 15):
        callback.on_epoch_end(watched(tmp_path, step))
    with (tmp_path / "histograms.jsonl").open("a") as stream:
        stream.write('{"step": 20, "wei')
    callback.on_fit_start(watched(tmp_path, 10))
    assert [json.loads(line)["step"] for line in (tmp_path / "histograms.jsonl").read_text().splitlines()] == [5, 10]


@pytest.mark.parametrize("event", ["on_fit_start", "on_epoch_end"])
def test_a_run_without_a_directory_records_nothing(event):
    getattr(WeightHistograms(), event)(watched(None, 5))
