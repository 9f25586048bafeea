import json
import re
import subprocess
import sys

import pytest

import ptb
from ptb import RunConfig, RunRecord, StorageError
from ptb.config.resolve import resolve
from ptb.runs import model_card
from ptb.runs.compose import compose
from ptb.runs.start import start_run
from ptb.storage.run_directory import RunDirectory

MLP = {"model": {"name": "mlp", "hidden": [16]}, "dataset": {"size": 8}, "trainer": {"epochs": 2}}


@pytest.fixture(scope="module")
def run(tmp_path_factory, built_in):
    output = tmp_path_factory.mktemp("runs") / "one"
    ptb.train(RunConfig(**MLP), registry=built_in, output=output)
    return output


def numbers(card):
    """The figures by their name, as the tables show them."""
    found = {}
    table = re.search(r"^\| {2}\| (.*) \|\n\| ---.*\n((?:\|.*\n)+)", card, re.M)
    for line in table[2].splitlines():
        label, *values = line[2:-2].split(" | ")
        found |= {f"{split}/{label}": each for split, each in zip(table[1].split(" | "), values, strict=True)}
    return found


def test_every_figure_is_that_of_the_summary(run):
    card, summary = (run / "MODEL_CARD.md").read_text(), json.loads((run / "summary.json").read_text())
    shown = {re.sub(r", step \d+/", "/", key): value for key, value in numbers(card).items()}
    assert shown == {key: json.dumps(value) for key, value in summary["metrics"].items()}
    low, high = summary["intervals"]["test/accuracy"]
    assert f"test/accuracy: 95 % interval from {low} to {high}." in card
    assert low < summary["metrics"]["test/accuracy"] < high
    for key in ("parameters", "weights_sha256", "train_seconds", "samples_per_second"):
        assert f"| {key} | {summary[key]} |" in card


def test_beside_each_split_stands_the_step_of_its_weights(tmp_path, built_in):
    first_is_best = {"epochs": 2, "monitor": "val/loss", "mode": "max"}
    done = ptb.train(RunConfig(**MLP | {"trainer": first_is_best}), registry=built_in, output=tmp_path / "run")
    assert (done.step, done.test_step) == (80, 40)
    assert "|  | train, step 80 | val, step 80 | test, step 40 |" in (done.output / "MODEL_CARD.md").read_text()


def test_it_has_the_data_the_settings_and_what_was_used(run):
    card, manifest = (run / "MODEL_CARD.md").read_text(), json.loads((run / "manifest.json").read_text())
    assert card.startswith("# mlp on digits\n\nStatus: finished after 2 epochs, 80 steps; the best step is 80. ")
    assert manifest["dataset_sha256"] in card
    assert manifest["data"]["samples"] == {"train": 1257, "val": 270, "test": 270}
    assert manifest["data"]["input_shape"] == [1, 8, 8]
    for number, count in enumerate(manifest["data"]["class_counts"]):
        assert f"| {number} | {number} | {count} |" in card
    assert sum(manifest["data"]["class_counts"]) == 1257
    for line in (run / "config.toml").read_text().splitlines():
        assert f"    {line}".rstrip() + "\n" in card
    for each in manifest["plugins"]:
        assert not each["used"] or f"| {each['section']} | {each['id']} | {each['version']} |" in card


def test_its_commands_are_those_of_ptb(run):
    card = (run / "MODEL_CARD.md").read_text()
    commands = re.findall(r"^    ptb (\w+) \.", card, re.M)
    assert commands == ["predict", "eval", "export"]


def test_a_run_without_a_preprocessor_has_no_prediction(run):
    record = RunRecord(run)
    del record.manifest["preprocessor"]
    card = model_card.text(record)
    assert "The data set digits saves no preprocessor" in card
    assert "ptb predict ." not in card


def test_a_run_that_continues_another_names_it(run):
    record = RunRecord(run)
    record.manifest["parent"] = {"path": "runs/parent", "run": "ab", "step": 40, "changed": ["trainer.epochs"]}
    assert "; it continues runs/parent after step 40. Written by ptb" in model_card.text(record)


def test_names_cannot_break_the_page(run):
    record = RunRecord(run)
    record.manifest["name"] = "a\n# b | <script>"
    record.manifest["data"]["class_names"] = [f"| `{number}`\n" for number in range(10)]
    record.summary["reason"] = "it *broke*"
    card = model_card.text(record)
    assert card.startswith("# a \\# b \\| \\<script\\>\n")
    assert "(it \\*broke\\*)" in card
    assert "\n| 3 | \\| \\`3\\` |" in card


def test_a_run_that_goes_on_has_no_card_and_one_that_was_stopped_says_so(tmp_path, built_in):
    config = RunConfig(**MLP | {"trainer": {"epochs": 1}})
    run = RunDirectory(tmp_path / "run")
    start_run(compose(resolve(config, built_in)), run.path, stop_after=3)
    assert "Status: interrupted after 0 epochs, 3 steps (stopped after step 3, as asked)." in run.card.read_text()
    run.remove_summary()
    assert not run.card.exists()
    ptb.resume(run.path, registry=built_in)
    assert "Status: finished after 1 epochs" in run.card.read_text()


def test_a_manifest_of_which_no_card_can_be_made_is_damaged(tmp_path, built_in):
    config = RunConfig(**MLP | {"trainer": {"epochs": 1}})
    run = RunDirectory(tmp_path / "run")
    start_run(compose(resolve(config, built_in)), run.path, stop_after=3)
    run.manifest.write_text(json.dumps(json.loads(run.manifest.read_text()) | {"plugins": 5}))
    with pytest.raises(StorageError, match=r"manifest\.json is damaged, and the model card cannot be made of it: Type"):
        ptb.resume(run.path, registry=built_in)
    assert json.loads(run.summary.read_text())["status"] == "failed"


def test_it_is_written_without_torch(run):
    code = (
        "import sys; from ptb import RunRecord; from ptb.runs import model_card; "
        f"model_card.text(RunRecord({str(run)!r})); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
