import json
import math

import numpy as np
import pytest
import torch

import ptb
from ptb import NumericalError, RunConfig, StorageError
from ptb.runs.compose import compose
from ptb.runs.replay import load_replay, replay, replay_config
from ptb.runs.run import go_on
from ptb.storage.checkpoint import find_checkpoints, load_checkpoint, save_checkpoint
from ptb.storage.codec import State
from ptb.storage.run_directory import RunDirectory

FAULTY = """
    from typing import Literal
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_models():
        return [Component("faulty", "ptb_faulty:Faulty")]

    def __getattr__(name):  # torch is imported with the model
        import random
        import torch
        from torch import nn

        class Spoilt(torch.autograd.Function):
            @staticmethod
            def forward(context, values):
                return values.clone()

            @staticmethod
            def backward(context, gradients):
                return gradients * float("nan")

        class Faulty(nn.Module):
            def __init__(self, spec, *, at: int = 7, where: Literal["output", "gradient", "chance"] = "output",
                         hidden: int = 8):
                super().__init__()
                self.first, self.last = nn.Linear(spec.input_shape[0], hidden), nn.Linear(hidden, spec.output_size)
                self.norm, self.drop = nn.BatchNorm1d(hidden), nn.Dropout(0.5)
                self.at, self.where = at, where
                self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

            def forward(self, inputs):
                hidden = self.norm(self.first(inputs))
                if self.training:
                    self.steps += 1
                    if self.where == "chance" and self.steps >= self.at:  # about every third step
                        hidden = torch.where(torch.rand(()) + random.random() < 0.7, float("nan"), hidden)
                    elif self.steps == self.at:
                        hidden = Spoilt.apply(hidden) if self.where == "gradient" else hidden / 0
                return self.last(self.drop(hidden))

        if name == "Faulty":
            return Faulty
        raise AttributeError(name)
    """


def config(where="output", **sections):
    return RunConfig(
        **{
            "model": {"name": "faulty", "where": where},
            "dataset": {"name": "iris"},
            "trainer": {"epochs": 2},
            "loader": {"batch_size": 8},
            "device": "cpu",
            "threads": 1,
            **sections,
        }
    )


@pytest.fixture
def registry(site):
    site.add("ptb-faulty", FAULTY)
    return site.registry()


def failed(registry, output, **changes):
    """The replay file of a run that cannot go on, and what it said."""
    with pytest.raises(NumericalError) as error:
        ptb.train(config(**changes), registry=registry, output=output)
    (path,) = output.glob("replay-*.safetensors")
    assert f"`ptb replay {path}`" in str(error.value)
    return path, str(error.value)


WAYS = {
    "plain": {},
    "clipped": {"trainer": {"epochs": 2, "clip_norm": 1.0}},
    "accumulated": {"trainer": {"epochs": 2, "accumulate": 2}},
    "lbfgs": {"optimizer": {"name": "lbfgs", "max_iter": 1}},
    "fp16": {"trainer": {"epochs": 2, "precision": "fp16"}},
    "workers": {"loader": {"batch_size": 8, "tier": "workers", "num_workers": 2}},
}


@pytest.mark.parametrize("where", ["output", "gradient", "chance"])
@pytest.mark.parametrize("way", WAYS)
def test_a_replay_finds_what_the_run_found(registry, tmp_path, way, where):
    if (way, where) == ("fp16", "gradient"):
        pytest.skip("gradients that overflow are the business of the scaler")
    path, message = failed(registry, tmp_path / "run", where=where, **WAYS[way])
    saved = load_replay(path)
    found = replay(saved, compose(replay_config(saved), registry))
    assert found.again
    assert message.startswith(found.told(saved.step))
    assert saved.facts["finding"] == found.told(saved.step)
    assert repr(found) == repr(replay(saved, compose(replay_config(saved), registry)))


def test_all_files_of_the_run_tell_it(registry, tmp_path):
    _, message = failed(registry, tmp_path / "run")
    assert message.startswith("the loss is nan at step 7: the first output that is not finite is that of ")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert (rows[-1]["step"], rows[-1]["split"], rows[-1]["values"]) == (7, "train", {"loss": "nan"})
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], summary["step"]) == ("failed", 6)
    assert "the loss is nan at step 7" in summary["reason"]
    assert summary["metrics"]["train/loss"] == "nan"
    assert "train loss nan" in (tmp_path / "run" / "log.txt").read_text()


@pytest.mark.parametrize("every", [0, 1])
def test_the_newest_checkpoint_is_finite_and_loads(registry, tmp_path, every):
    with pytest.raises(NumericalError):
        ptb.train(config(trainer={"epochs": 2, "checkpoint_every": every}), registry=registry, output=tmp_path / "run")
    checkpoints = find_checkpoints(tmp_path / "run" / "checkpoints")
    assert max(checkpoints) == (6 if every else 0)
    for path in checkpoints.values():
        tensors = load_checkpoint(path).state.tensors.values()
        assert all(torch.isfinite(tensor).all() for tensor in tensors if tensor.is_floating_point())


def test_a_run_that_goes_on_fails_at_the_same_step(registry, tmp_path):
    failed(registry, tmp_path / "run")
    run = RunDirectory.open(tmp_path / "run")
    with pytest.raises(NumericalError, match="the loss is nan at step 7"):
        go_on(compose(run.resume_config(), registry), run)
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert [(row["step"], row["split"]) for row in rows] == [(7, "train")]


def test_the_global_random_state_stays_as_it_was(registry, tmp_path):
    path, _ = failed(registry, tmp_path / "run")
    before = torch.get_rng_state()
    saved = load_replay(path)
    replay(saved, compose(replay_config(saved), registry))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_checkpoint_is_no_replay_file(registry, tmp_path):
    failed(registry, tmp_path / "run")
    for path in find_checkpoints(tmp_path / "run" / "checkpoints").values():
        with pytest.raises(StorageError, match="is no replay file"):
            load_replay(path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda node, facts: node["training"].pop("model"),
        lambda node, facts: node.pop("training"),
        lambda node, facts: node.pop("samples"),
        lambda node, facts: node.update(batches=3),
        lambda node, facts: node.update(batches=[[{":tensor": "nowhere"}]]),
        lambda node, facts: facts.pop("loss"),
        lambda node, facts: facts.update(loss="much"),
        lambda node, facts: node["training"].pop("most"),
    ],
    ids=["no-model", "no-training", "no-samples", "number", "no-tensor", "no-loss", "text", "no-size"],
)
def test_a_file_of_the_right_hash_that_makes_no_sense_is_refused(registry, tmp_path, spoil):
    path, _ = failed(registry, tmp_path / "run")
    saved = load_replay(path)
    spoil(saved.state.node, saved.facts)
    changed = save_checkpoint(tmp_path, 7, State(saved.state.node, saved.state.tensors), saved.facts, kind="replay")
    again = load_replay(changed)
    with pytest.raises(StorageError, match="does not fit the components of its run"):
        replay(again, compose(replay_config(again), registry))


def test_another_model_is_refused(registry, tmp_path):
    path, _ = failed(registry, tmp_path / "run")
    saved = load_replay(path)
    changed = replay_config(saved)
    changed.values["model"]["hidden"] = 9
    with pytest.raises(StorageError, match="does not fit the components of its run"):
        replay(saved, compose(changed, registry))


def test_one_spoilt_sample_in_data_too_large_to_look_through_is_named(registry, tmp_path, monkeypatch):
    monkeypatch.setattr("ptb.runs.preflight._check_values", lambda *_: True)  # looks at a part of large data
    inputs = np.random.RandomState(0).randn(60, 3).astype(np.float32)
    np.save(tmp_path / "inputs.npy", inputs)
    np.save(tmp_path / "targets.npy", np.arange(60) % 3)
    dataset = {"name": "arrays", "inputs": str(tmp_path / "inputs.npy"), "targets": str(tmp_path / "targets.npy")}
    (sample,) = compose(config(dataset=dataset, model={"name": "mlp"}), registry).parts.train.source.take(
        torch.tensor([5])
    )[0]
    inputs[(inputs == sample.numpy()).all(1), 1] = math.nan
    np.save(tmp_path / "inputs.npy", inputs)
    path, message = failed(registry, tmp_path / "run", dataset=dataset, model={"name": "mlp"})
    assert "the inputs are not finite (samples 5)" in message
    saved = load_replay(path)
    assert replay(saved, compose(replay_config(saved), registry)).samples == (5,)
