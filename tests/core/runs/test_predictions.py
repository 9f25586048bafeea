"""What is recorded of the samples of a split, and that recording it changes nothing."""

import base64
import json

import cv2
import numpy as np
import pytest
import torch

import ptb
from ptb import ConfigError, RunConfig, RunRecord
from ptb.runs.predictions import png

OBSERVER = """
    import json
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_callbacks():
        return [Component("look", "ptb_look:Look", role="observer")]

    class Look:
        def on_fit_end(self, trainer):
            summary = json.loads((trainer.run.path / "summary.json").read_text())
            assert summary["status"] == "finished" and "test/loss" in summary["metrics"]
            trainer.run.record_predictions("test")
"""
MLP = {"model": {"name": "mlp", "hidden": [16]}, "trainer": {"epochs": 3, "patience": 1}, "optimizer": {"lr": 0.05}}


@pytest.fixture
def observed(site, tmp_path):
    site.add("ptb_look", OBSERVER)
    registry = site.registry()

    def train(name, **sections):
        return ptb.train(RunConfig(**MLP, **sections), registry=registry, output=tmp_path / name)

    return train


def test_an_observer_records_the_predictions_of_the_best_weights_and_changes_nothing(observed):
    plain, seen = observed("plain"), observed("seen", callbacks={"look": {}})
    assert seen.weights_sha256 == plain.weights_sha256
    assert seen.metrics == plain.metrics
    record = RunRecord(seen.output)
    rows = record.predictions()
    assert {row["step"] for row in rows} == {seen.test_step}
    assert [row["sample"] for row in rows] == list(range(270))
    right = sum(row["truth"] == row["prediction"] for row in rows)
    assert right / 270 == pytest.approx(seen.metrics["test/accuracy"], abs=1e-12)
    assert sum(row["loss"] for row in rows) / 270 == pytest.approx(seen.metrics["test/loss"], rel=1e-5)
    assert all(row[f"probability:{row['prediction']}"] == row["probability"] for row in rows)
    assert rows == [row | {} for row in _evaluated(seen.output)]


def _evaluated(path):
    result = ptb.evaluate(path, samples=True)
    return [{"step": result["step"], "sample": number, **row} for number, row in enumerate(result["samples"])]


def test_what_people_are_shown_are_the_worst_and_the_first_of_each_pair(built_in, tmp_path):
    run = ptb.train(RunConfig(**MLP), registry=built_in, output=tmp_path / "run")
    record = RunRecord(run.output)
    with pytest.raises(ConfigError, match=r"nobody has recorded .*predictions-val\.jsonl; `ptb\.evaluate\("):
        record.predictions("val")
    ptb.evaluate(run.output, split="val", record=True)
    rows, shown = record.predictions("val"), record.samples("val")
    worst = sorted(rows, key=lambda row: -row["loss"])[:25]
    assert {row["sample"] for row in worst} <= shown.keys()
    for truth, prediction in {(row["truth"], row["prediction"]) for row in rows}:
        pair = [row["sample"] for row in rows if (row["truth"], row["prediction"]) == (truth, prediction)]
        assert set(pair[:9]) <= shown.keys()
    picture = base64.b64decode(shown[worst[0]["sample"]]["picture"])
    assert cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_UNCHANGED).shape[:2] == (32, 32)
    assert (run.output / "samples-val.jsonl").stat().st_size <= 300_000


@pytest.mark.parametrize(
    ("dataset", "model", "shown"),
    [("iris", "mlp", "row"), ("diabetes", "linear", "row"), ("digit-pairs", "mlp", "picture")],
)
def test_every_form_of_inputs_is_shown(built_in, tmp_path, dataset, model, shown):
    config = RunConfig(dataset={"name": dataset}, model={"name": model}, trainer={"epochs": 1})
    run = ptb.train(config, registry=built_in, output=tmp_path / "run")
    ptb.evaluate(run.output, record=True)
    samples = RunRecord(run.output).samples()
    assert samples
    assert all(set(each) == {"sample", shown} for each in samples.values())


def test_other_data_are_not_recorded(built_in, tmp_path):
    run = ptb.train(RunConfig(**MLP), registry=built_in, output=tmp_path / "run")
    with pytest.raises(ConfigError, match="not for other data"):
        ptb.evaluate(run.output, ["x.csv"], record=True)


def test_columns_are_those_of_a_split_and_hold_what_json_cannot(built_in, tmp_path):
    run = ptb.train(RunConfig(**MLP), registry=built_in, output=tmp_path / "run")
    file = run.output / "metrics.jsonl"
    row = {"step": 999, "epoch": 9, "split": "val", "values": {"loss": "nan", "new": "inf"}, "lr": None}
    file.write_text(file.read_text() + json.dumps(row) + '\n{"step": 1000, "spl')
    columns = RunRecord(run.output).columns("val")
    assert columns["step"][-1] == 999
    assert columns["loss"][-1] != columns["loss"][-1]
    assert columns["new"] == [None] * (len(columns["step"]) - 1) + [float("inf")]
    assert RunRecord(run.output).columns("nothing") == {"step": [], "epoch": [], "lr": [], "samples_per_second": []}


def test_a_damaged_line_is_left_out_and_those_after_it_are_read(built_in, tmp_path):
    run = ptb.train(RunConfig(**MLP), registry=built_in, output=tmp_path / "run")
    file = run.output / "metrics.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([lines[0], lines[1][:20] + b"\n", *lines[2:]]))
    history = RunRecord(run.output).history
    assert history == [json.loads(line) for place, line in enumerate(lines) if place != 1]


@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 1, 1), (3, 9, 4)])
def test_a_picture_is_the_file_that_others_read(shape):
    picture = torch.randint(0, 256, shape, dtype=torch.uint8)
    read = cv2.imdecode(np.frombuffer(png(picture), np.uint8), cv2.IMREAD_UNCHANGED)
    read = read[:, :, None] if read.ndim == 2 else read[:, :, ::-1]
    assert np.array_equal(read, picture.permute(1, 2, 0).numpy())
