"""Runs that earlier versions wrote: what was recorded then is what comes out now, but for the last bits."""

import json
import shutil
import tomllib
from pathlib import Path

import pytest

import ptb
from ptb import RunConfig, StorageError
from ptb.config.resolve import resolve
from ptb.runs.run import evaluate_run
from ptb.storage.run_directory import RunDirectory

STORED = Path(__file__).parent
FINISHED = [STORED / "before-0.1", STORED / "0.1.0" / "finished"]


@pytest.fixture(params=FINISHED, ids=lambda path: path.relative_to(STORED).as_posix())
def finished(request, tmp_path):
    return Path(shutil.copytree(request.param, tmp_path / "run"))


def recorded(path):
    return json.loads((path / "summary.json").read_text())["metrics"]


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("checkpoint", ["last", "best"])
def test_a_stored_checkpoint_gives_its_figures(finished, built_in, split, checkpoint):
    run = RunDirectory.open(finished)
    result = evaluate_run(run, run.evaluation_config(), checkpoint=checkpoint, split=split, registry=built_in)
    if split != "train":  # which is measured while the weights change
        assert result["metrics"] == pytest.approx({k: v for k, v in recorded(finished).items() if k.startswith(split)})


def test_a_stored_configuration_is_a_plan_that_says_the_same(finished, built_in):
    written = tomllib.loads((finished / "config.toml").read_text())
    now = resolve(RunConfig.read([finished / "config.toml"]), built_in).as_config()
    for section, values in written.items():
        for key, value in values.items() if isinstance(values, dict) else ():
            assert now[section][key] == value


@pytest.mark.filterwarnings("ignore:.*the run may not end as one that was not stopped")
def test_a_stored_run_that_was_stopped_goes_on_to_the_recorded_figures(built_in, tmp_path):
    stopped = Path(shutil.copytree(STORED / "0.1.0" / "stopped", tmp_path / "run"))
    result = ptb.resume(stopped, registry=built_in)
    assert (result.status, result.step) == ("finished", 10)
    assert result.metrics == pytest.approx(recorded(STORED / "0.1.0" / "finished"), rel=1e-4)


def test_weights_alone_cannot_be_gone_on_from(built_in, tmp_path):
    stored = Path(shutil.copytree(STORED / "before-0.1", tmp_path / "run"))
    told = pytest.warns(UserWarning, match="may not end as")
    with told, pytest.raises(StorageError, match="it holds the weights only"):
        ptb.resume(stored, registry=built_in)
