import pytest
import torch

from ptb import RunConfig
from ptb.config.resolve import resolve
from ptb.runs import speed_probe
from ptb.runs.compose import compose

SMALL = {"model": {"name": "mlp", "hidden": [8]}, "dataset": {"name": "iris"}, "device": "cpu", "threads": 1}


@pytest.fixture
def advice(built_in, monkeypatch):
    """What is said of a run whose step takes so many seconds with one thread, and with two."""

    def said(one, two, probe=False):
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
        seconds = iter([one, two])
        monkeypatch.setattr(speed_probe, "_seconds", lambda step, goes_on: next(seconds))
        return compose(resolve(RunConfig(**SMALL), built_in), probe=probe).advice

    return said


def test_a_long_run_is_told_what_more_threads_would_bring(advice):
    said = advice(3.0, 2.0)
    assert said.startswith("a step takes 1.5 times as long with 1 CPU thread as with 2 on this machine now: threads=2")


@pytest.mark.parametrize(("one", "two"), [(3.0, 2.9), (0.01, 0.001)])
def test_nothing_is_said_of_a_small_gain_or_a_short_run(advice, one, two):
    assert advice(one, two) is None


def test_ptb_check_says_it_of_any_run(advice):
    assert "10.0 times as long" in advice(0.01, 0.001, probe=True)


def test_the_weights_are_those_without_it(built_in, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    config = resolve(RunConfig(**SMALL), built_in)
    plain, probed = (compose(config, probe=probe).trainer.model.state_dict() for probe in (False, True))
    assert all(torch.equal(plain[name], probed[name]) for name in plain)
