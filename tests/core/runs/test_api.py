import pytest
import torch

import ptb
from ptb import ConfigError, RunConfig

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
