"""Whatever a component raises, wherever it is called first, it is the one that is named; nothing ends unexpectedly."""

import json
import re
import sys
import textwrap
from functools import partial

import pytest
import torch

from ptb import PluginError, PtbError, RunConfig, Sample, StorageError, evaluate, load, resume, train

PLUGIN = """
    from ptb import Component, hookimpl

    def one(target, **facts):
        return [Component("bomb", f"bomb_parts:{target}", **facts)]

    @hookimpl
    def ptb_provide_datasets(): return one("data")

    @hookimpl
    def ptb_provide_models(): return one("Model")

    @hookimpl
    def ptb_provide_losses(): return one("Loss")

    @hookimpl
    def ptb_provide_optimizers(): return one("Optimizer")

    @hookimpl
    def ptb_provide_schedulers(): return one("Scheduler")

    @hookimpl
    def ptb_provide_metrics(): return one("Metric")

    @hookimpl
    def ptb_provide_callbacks(): return one("Actor", role="actor")
"""
PARTS = """
    from contextlib import contextmanager

    import torch
    from torch import nn
    from torch.utils.data import Dataset

    from ptb import DataBundle, DataSpec, Preprocessor

    WHERE, RAISED, AFTER = "", KeyError("boom"), 0
    calls = 0

    def bomb(place):
        global calls
        if place == WHERE:
            calls += 1
            if calls > AFTER:
                raise RAISED

    class Samples(Dataset):
        def __len__(self): bomb("dataset.len"); return 9
        def __getitem__(self, number): return torch.ones(3), torch.tensor([1.0])

    def transform(inputs): bomb("dataset.transform"); return inputs

    class Reader(Preprocessor):
        transform = staticmethod(transform)
        @property
        def input_columns(self): bomb("dataset.input_columns"); return ["a"]
        def state_dict(self): bomb("dataset.state_dict"); return {}
        def decode(self, scores): bomb("dataset.decode"); return super().decode(scores)

    def augment(inputs, targets, rng): bomb("dataset.augment"); return inputs, targets

    def data():
        spec = DataSpec((3,), "vector", "real", 1)
        made = {"transform": transform, "augment": augment, "preprocessor": Reader()}
        return DataBundle(spec, Samples(), Samples(), **made)

    class Model(nn.Linear):
        def __init__(self, spec): super().__init__(3, spec.output_size)
        def forward(self, inputs): bomb("model.forward"); return super().forward(inputs)
        def train(self, mode=True): bomb("model.train"); return super().train(mode)
        def to(self, *args, **options): bomb("model.to"); return super().to(*args, **options)
        def named_parameters(self, *args, **options):
            bomb("model.named_parameters")
            return super().named_parameters(*args, **options)
        def get_extra_state(self): bomb("model.get_extra_state"); return 1
        def set_extra_state(self, state): bomb("model.set_extra_state")

    class Loss(nn.MSELoss):
        def __init__(self, spec): super().__init__()
        @property
        def output_size(self): bomb("loss.output_size"); return 1
        @property
        def takes_probabilities(self): bomb("loss.takes_probabilities"); return False
        def ignored(self, targets): bomb("loss.ignored")
        def denominator(self, targets): bomb("loss.denominator"); return len(targets)
        def predictions(self, scores): bomb("loss.predictions"); return scores
        def state_dict(self, *args, **options): bomb("loss.state_dict"); return {}

    class Optimizer(torch.optim.SGD):
        def __init__(self, params): super().__init__(params, lr=0.1)
        def zero_grad(self, set_to_none=True): bomb("optimizer.zero_grad"); super().zero_grad(set_to_none)
        def state_dict(self): bomb("optimizer.state_dict"); return super().state_dict()
        def load_state_dict(self, state): bomb("optimizer.load_state_dict"); super().load_state_dict(state)
        def train(self): bomb("optimizer.train")
        def eval(self): bomb("optimizer.eval")

    class Stateful:
        def state_dict(self): bomb(f"{self.kind}.state_dict"); return {}
        def load_state_dict(self, state): bomb(f"{self.kind}.load_state_dict")

    class Scheduler(Stateful):
        kind = "scheduler"
        def __init__(self, optimizer, total_steps): ...
        def step(self): bomb("scheduler.step")
        def on_evaluation(self, metrics, *, monitor, better): bomb("scheduler.on_evaluation")

    class Metric(Stateful):
        kind = "metric"
        def __init__(self, spec): ...
        def reset(self): bomb("metric.reset")
        def update(self, scores, targets): bomb("metric.update")
        def compute(self): bomb("metric.compute"); return 1.0

    class Actor(Stateful):
        kind = "callback"
        def on_fit_start(self, trainer): bomb("callback.on_fit_start")
        def on_evaluation(self, trainer, split, metrics): bomb("callback.on_evaluation")
        def on_checkpoint(self, trainer, path): bomb("callback.on_checkpoint")
        @contextmanager
        def evaluation_weights(self, trainer):
            bomb("callback.evaluation_weights")
            yield
            bomb("callback.evaluation_weights_end")
"""
PLACES = {
    "dataset": ["len", "input_columns", "state_dict", "transform", "augment"],
    "model": ["forward", "train", "to", "named_parameters", "get_extra_state", "set_extra_state"],
    "loss": ["output_size", "takes_probabilities", "ignored", "denominator", "predictions", "state_dict"],
    "optimizer": ["zero_grad", "state_dict", "load_state_dict", "train", "eval"],
    "scheduler": ["step", "on_evaluation", "state_dict", "load_state_dict"],
    "metric": ["reset", "update", "compute", "state_dict", "load_state_dict"],
    "callback": [
        "on_fit_start",
        "on_evaluation",
        "on_checkpoint",
        "evaluation_weights",
        "evaluation_weights_end",
        "state_dict",
        "load_state_dict",
    ],
}


@pytest.fixture
def run(site, tmp_path):
    """Trains on nothing but bombs, of which one goes off."""
    site.add("ptb-bomb", textwrap.dedent(PLUGIN) + textwrap.dedent(PARTS), module="bomb_parts")
    registry = site.registry()

    def run(where, raised, after=0):
        vars(sys.modules["bomb_parts"]).update(WHERE=where, RAISED=raised, AFTER=after)
        single = ("dataset", "model", "loss", "optimizer", "scheduler")
        sections = {section: {"name": "bomb"} for section in single} | {
            "metrics": {"bomb": {}},
            "callbacks": {"bomb": {}},
        }
        return train(
            RunConfig(**sections, trainer={"epochs": 1}, device="cpu"), registry=registry, output=tmp_path / "run"
        )

    return run


@pytest.fixture
def elsewhere(run, site, tmp_path):
    """Does something with a finished run while a bomb goes off."""
    run("", None)

    def do(action, where):
        vars(sys.modules["bomb_parts"]).update(WHERE=where, RAISED=KeyError("boom"))
        return action(tmp_path / "run", registry=site.registry())

    return do


def test_the_bombs_train_where_none_goes_off(run):
    assert run("", None).status == "finished"


@pytest.mark.parametrize("place", [f"{kind}.{method}" for kind, methods in PLACES.items() for method in methods])
def test_the_component_that_raises_first_is_named(run, place):
    kind = place.partition(".")[0]
    # What cannot be loaded is only told: the run itself needs no load.
    kinds = PtbError if "load" not in place and "set_extra" not in place else UserWarning
    named = "(data ?set 'bomb'|the train split)" if kind == "dataset" else f"{kind} 'bomb'"
    with pytest.raises(kinds, match=f"{named}.*boom"):
        run(place, KeyError("boom"))


@pytest.mark.parametrize("place", ["model.get_extra_state", "callback.evaluation_weights", "optimizer.eval"])
def test_a_component_that_ends_the_program_whenever_it_is_called_does_not_hide_that(run, place, tmp_path):
    """It is called again for the summary of the run that it has ended."""
    with pytest.raises(PtbError, match=f"{place.partition('.')[0]} 'bomb' .* failed while training: SystemExit: 3"):
        run(place, SystemExit(3), after=3)
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("model.forward", "model 'bomb' (ptb-bomb 1.0) failed on these inputs"),
        ("loss.predictions", "loss 'bomb' (ptb-bomb 1.0) failed on these inputs"),
        ("dataset.transform", "the transform of the run cannot take the inputs"),
        ("dataset.decode", "the preprocessor of the run cannot decode scores"),
        ("model.train", "model 'bomb' (ptb-bomb 1.0): building it failed"),
    ],
)
def test_what_fails_in_a_prediction_is_named(elsewhere, where, text):
    sample = Sample("new", torch.ones(3))
    with pytest.raises(PtbError, match=f"^{re.escape(text)}: KeyError: 'boom'$"):
        elsewhere(lambda run, registry: load(run, registry=registry).predict([sample]), where)


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("dataset.decode", "dataset 'bomb' (ptb-bomb 1.0) failed while it was evaluated"),
        ("metric.compute", "metric 'bomb' cannot take the scores float32 [2, 1] and targets"),
    ],
)
def test_what_fails_in_an_evaluation_is_named(elsewhere, where, text):
    with pytest.raises(PtbError, match=f"^{re.escape(text)}: KeyError: 'boom'$"):
        elsewhere(partial(evaluate, split="val", samples=True), where)


def test_what_cannot_take_its_saved_state_is_named(run, elsewhere, tmp_path):
    (tmp_path / "run" / "summary.json").unlink()
    with pytest.raises(PluginError, match="cannot be resumed exactly: scheduler 'bomb' cannot load its own state"):
        elsewhere(resume, "scheduler.load_state_dict")
    vars(sys.modules["bomb_parts"]).update(calls=0, AFTER=1)  # the trial before the run takes the first
    with pytest.raises(StorageError, match=r"cannot resume from .*: scheduler 'bomb' \(ptb-bomb 1.0\) raised KeyError"):
        elsewhere(resume, "scheduler.load_state_dict")
