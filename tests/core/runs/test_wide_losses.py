"""Losses that take other scores than the targets have: ArcFace against a plain loop, and how scores are read back."""

import importlib

import pytest
import torch

from ptb import IncompatibleError, RunConfig, train

PLUGIN = """
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_datasets():
        return [Component("corners", "faces_parts:corners")]

    @hookimpl
    def ptb_provide_models():
        return [Component("embedder", "faces_parts:Embedder")]

    @hookimpl
    def ptb_provide_losses():
        names = {"arcface": "ArcFace", "triplets": "triplets", "narrow": "Narrow"}
        return [Component(name, f"faces_parts:{target}", accepts=("class",)) for name, target in names.items()]
"""
PARTS = """
    import torch
    from torch import nn
    from torch.nn import functional as F
    from torch.utils.data import TensorDataset
    from ptb import DataBundle, DataSpec

    def corners():
        inputs = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
        targets = inputs[:, :3].argmax(1)
        spec = DataSpec((4,), "vector", "class", 3)
        return DataBundle(spec, TensorDataset(inputs[:44], targets[:44]), TensorDataset(inputs[44:], targets[44:]))

    class Embedder(nn.Sequential):
        def __init__(self, spec):
            super().__init__(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, spec.output_size))
            generator = torch.Generator().manual_seed(1)
            for parameter in self.parameters():
                parameter.data.normal_(std=0.5, generator=generator)

    class Cosine(nn.Module):
        def forward(self, scores, weight):
            return F.linear(F.normalize(scores), F.normalize(weight))

    class ArcFace(nn.Module):
        # Deng et al., 2019, arXiv:1801.07698
        def __init__(self, spec, *, embedding: int = 8, margin: float = 0.3, scale: float = 8.0):
            super().__init__()
            self.output_size, self.margin, self.scale = embedding, margin, scale
            self.cosine = Cosine()  # a module that gets a parameter, as in pytorch-metric-learning
            generator = torch.Generator().manual_seed(2)
            self.weight = nn.Parameter(torch.randn(spec.output_size, embedding, generator=generator))

        def forward(self, scores, targets):
            cosines = self.cosine(scores, self.weight)
            moved = (cosines.clamp(-1 + 1e-6, 1 - 1e-6).acos() + self.margin).cos()
            own = F.one_hot(targets, cosines.shape[1]).bool()
            return F.cross_entropy(self.scale * torch.where(own, moved, cosines), targets)

        def predictions(self, scores):
            return self.scale * self.cosine(scores, self.weight)

    class Narrow(ArcFace):
        def predictions(self, scores):
            return super().predictions(scores)[:, :2]

    def triplets(spec):
        def loss(scores, targets):
            return F.triplet_margin_loss(scores, scores.roll(1, 0), scores.roll(2, 0))
        loss.output_size, loss.couples_samples = 8, True
        return loss
"""
EPOCHS, BATCH, LR = 3, 10, 0.02


@pytest.fixture
def run(site, tmp_path):
    """Trains the embedder with a loss, without shuffling."""
    site.add("ptb-faces", PLUGIN, module="ptb_faces")
    site.write("faces_parts.py", PARTS)
    registry = site.registry()

    def run(loss, **sections):
        config = {
            "dataset": {"name": "corners"},
            "model": {"name": "embedder"},
            "loss": {"name": loss},
            "optimizer": {"name": "adam", "lr": LR},
            "scheduler": {"name": "constant"},
            "loader": {"batch_size": BATCH, "shuffle": False},
            "trainer": {"epochs": EPOCHS},
        }
        return train(RunConfig(**config, **sections), registry=registry, output=tmp_path / "run")

    return run


def test_arcface_trains_model_and_loss_as_a_plain_loop_does(run):
    result = run("arcface")
    parts = importlib.import_module("faces_parts")
    bundle = parts.corners()
    loss = parts.ArcFace(bundle.spec)
    model = parts.Embedder(bundle.spec.with_output(loss.output_size))
    start = loss.weight.detach().clone()
    optimizer = torch.optim.Adam([*model.parameters(), *loss.parameters()], lr=LR)
    inputs, targets = bundle.train.tensors
    for _ in range(EPOCHS):
        for x, y in zip(inputs.split(BATCH), targets.split(BATCH), strict=True):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
    assert (loss.weight - start).abs().min() > 1e-3  # the loss learns too
    for name, parameter in result.model.named_parameters():
        torch.testing.assert_close(parameter, model.get_parameter(name), rtol=0, atol=1e-6)
    inputs, targets = bundle.val.tensors
    with torch.no_grad():
        scores = model(inputs)
        assert result.metrics["val/loss"] == pytest.approx(loss(scores, targets).item(), abs=1e-6)
        correct = (loss.predictions(scores).argmax(1) == targets).float().mean().item()
    assert result.metrics["val/accuracy"] == pytest.approx(correct)


def test_predictions_of_another_width_than_the_targets_are_refused(run):
    told = r"predictions\(\) of loss 'narrow' must give 3 scores for a target of data set 'corners', it gives 2"
    with pytest.raises(IncompatibleError, match=told):
        run("narrow")


def test_metrics_of_scores_that_nothing_reads_back_are_warned_of(run):
    told = r"loss 'triplets' takes 8 scores for 3, and has no predictions\(scores\) .*: accuracy get them as they are"
    with pytest.warns(UserWarning, match=told):
        run("triplets")
