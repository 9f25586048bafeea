import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import ptb
from ptb import ConfigError, RunConfig
from ptb.config.resolve import resolve

MLP = {"model": {"name": "mlp", "hidden": [16]}, "dataset": {"size": 8}, "trainer": {"epochs": 1}}


def test_training_from_python_shows_nothing_and_leaves_the_random_state_alone(built_in, tmp_path, capfd):
    before = torch.get_rng_state()
    ptb.train(RunConfig(**MLP), registry=built_in, output=tmp_path / "run")
    assert capfd.readouterr() == ("", "")
    assert "epoch 1/1" in (tmp_path / "run" / "log.txt").read_text()
    assert torch.equal(torch.get_rng_state(), before)


def test_training_something_else_than_a_configuration_says_what_to_write(tmp_path):
    with pytest.raises(TypeError, match=r"takes a ptb\.RunConfig, such as RunConfig\.read\(\['run.toml'\]\), got str$"):
        ptb.train("run.toml", output=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["disable", "require"])
def test_plugins_cannot_be_chosen_for_a_registry_that_is_given(built_in, tmp_path, key):
    config = RunConfig(**MLP, plugins={key: ["ptb-acme"]})
    with pytest.raises(ConfigError, match=r"^plugins: cannot be combined with a registry"):
        ptb.train(config, registry=built_in, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ptb.PtbError, match=r"ptb-acme.*not installed|unknown plugin 'ptb-acme'"):
        ptb.train(config, output=tmp_path / "run")


class Interrupting:
    """A plugin whose callback presses Ctrl-C after the third step."""

    class Press:
        def on_step_end(self, trainer, output):
            if trainer.state.step == 3:
                signal.raise_signal(signal.SIGINT)

    @ptb.hookimpl
    def ptb_provide_callbacks(self):
        return [ptb.Component("press", f"{__name__}:Interrupting.Press", role="observer")]


@pytest.fixture
def interrupting(monkeypatch):
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield ptb.load_registry(only=["pytorch-basics"], plugins=[Interrupting()])
    signal.signal(signal.SIGINT, former)


def test_ctrl_c_saves_the_step_and_the_run_goes_on_as_if_it_had_not_come(interrupting, tmp_path, capfd):
    whole = ptb.train(RunConfig(**MLP), registry=interrupting, output=tmp_path / "whole")
    config = RunConfig(**MLP, callbacks={"press": {}})
    with pytest.raises(ptb.InterruptedRunError, match="stopped by SIGINT after step 3, saved; `ptb resume"):
        ptb.train(config, registry=interrupting, output=tmp_path / "cut")
    assert "stopping after this step, then saving" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    summary = json.loads((tmp_path / "cut" / "summary.json").read_text())
    assert (summary["status"], summary["step"]) == ("interrupted", 3)
    resumed = ptb.resume(tmp_path / "cut", registry=interrupting)
    assert resumed.weights_sha256 == whole.weights_sha256


def test_who_handles_ctrl_c_already_goes_on_doing_so(interrupting, tmp_path):
    pressed = []
    signal.signal(signal.SIGINT, lambda *_: pressed.append(1))
    config = RunConfig(**MLP, callbacks={"press": {}})
    assert ptb.train(config, registry=interrupting, output=tmp_path / "run").status == "finished"
    assert pressed == [1]


def test_a_run_in_another_thread_leaves_the_signals_alone(built_in, tmp_path):
    with ThreadPoolExecutor() as pool:
        done = pool.submit(ptb.train, RunConfig(**MLP), registry=built_in, output=tmp_path / "run", progress=True)
        assert done.result().status == "finished"


def test_progress_is_what_the_command_line_shows(built_in, tmp_path, capfd):
    ptb.train(RunConfig(**MLP), registry=built_in, output=tmp_path / "run", progress=True)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "epoch 1/1  train loss" in shown.err
    ptb.resume(tmp_path / "run", registry=built_in, progress=True)
    assert "nothing is left to train" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("section", "key", "value", "wanted"),
    [
        ("model", "hidden", np.array([16, 8]), [16, 8]),
        ("model", "hidden", [np.int64(16)], [16]),
        ("optimizer", "lr", np.float32(0.5), 0.5),
        ("optimizer", "lr", torch.tensor(0.5), 0.5),
        ("optimizer", "betas", (np.float64(0.5), 0.9), [0.5, 0.9]),
        ("optimizer", "groups", [{"match": "*.bias", "lr": np.float64(0.25)}], [{"match": "*.bias", "lr": 0.25}]),
        ("trainer", "epochs", np.int32(2), 2),
        ("trainer", "compile", np.bool_(False), False),
        ("model", "activation", np.str_("tanh"), "tanh"),
    ],
    ids=str,
)
def test_values_of_numpy_and_torch_are_taken(built_in, section, key, value, wanted):
    asked = {"model": {"name": "mlp"}}
    config = resolve(RunConfig(**(asked | {section: {**asked.get(section, {}), key: value}})), built_in).as_config()
    assert config[section][key] == wanted
    assert type(config[section][key]) is type(wanted)
    assert json.loads(json.dumps(config)) == config


def test_a_path_is_taken_and_its_home_directory_expanded(built_in):
    dataset = {"name": "csv", "path": Path("~/prices.csv"), "target": "y"}
    config = resolve(RunConfig(model={"name": "mlp"}, dataset=dataset), built_in).as_config()
    assert config["dataset"]["path"] == os.path.expanduser("~/prices.csv")
