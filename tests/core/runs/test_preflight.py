"""The trial step before a training leaves no trace: what the first batch sets is set by the first batch of the run."""

import pytest
import torch

from ptb import IncompatibleError, RunConfig
from ptb.runs.compose import compose

PLUGIN = """
    from ptb import Component, hookimpl

    MODELS = ("flag", "missing", "buffer", "counts", "draws", "frozen", "switches",
              "replaces", "outgrows", "keeps", "contiguous")

    @hookimpl
    def ptb_provide_datasets():
        return [Component("line", "marked_parts:line"), Component("squares", "marked_parts:squares")]

    @hookimpl
    def ptb_provide_models():
        return [Component(name, f"marked_parts:{name.capitalize()}") for name in MODELS]

    @hookimpl
    def ptb_provide_losses():
        return [Component("marked", "marked_parts:Marked"), Component("eager", "marked_parts:Eager")]

    @hookimpl
    def ptb_provide_metrics():
        return [Component("updates", "marked_parts:Updates")]
"""
PARTS = """
    import torch
    from torch import nn
    from torch.utils.data import TensorDataset
    from ptb import DataBundle, DataSpec

    def line():
        inputs = torch.linspace(-1, 1, 24).reshape(12, 2)
        return DataBundle(DataSpec((2,), "vector", "real", 1), TensorDataset(inputs, inputs.sum(1, keepdim=True)))

    def squares():
        inputs = torch.linspace(-1, 1, 12 * 18).reshape(12, 2, 3, 3)
        return DataBundle(DataSpec((2, 3, 3), "image", "real", 1), TensorDataset(inputs, inputs[:, 0, 0, :1]))

    class Base(nn.Module):
        def __init__(self, spec):
            super().__init__()
            self.body = nn.Linear(2, 1)

        def forward(self, inputs):
            self.mark(inputs)
            return self.body(inputs)

    class Flag(Base):
        def __init__(self, spec):
            super().__init__(spec)
            self.ready = False
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, inputs):
            if not self.ready:
                with torch.no_grad():
                    self.scale.copy_(inputs.std())
                self.ready = True
            return self.body(inputs) * self.scale

    class Missing(Base):
        def mark(self, inputs):
            if not hasattr(self, "mean"):
                self.mean = inputs.mean(0)

    class Buffer(Base):
        def mark(self, inputs):
            if "mean" not in self._buffers:
                self.register_buffer("mean", inputs.mean(0))

    class Counts(Base):
        def __init__(self, spec):
            super().__init__(spec)
            self.sizes, self.total, self.last = [], torch.zeros(()), None

        def mark(self, inputs):
            self.sizes.append(len(inputs))
            self.total += len(inputs)
            self.last = inputs

    class SampleGenerator(Base):
        def __init__(self, spec):
            super().__init__(spec)
            self.noise = torch.Generator().manual_seed(1)

        def mark(self, inputs):
            torch.rand(1, generator=self.noise)

    class Frozen(Base):
        def __init__(self, spec):
            super().__init__(spec)
            self.norm = nn.BatchNorm1d(2, affine=False).eval()

        def mark(self, inputs): self.norm(inputs)

    class Switches(Base):
        def __init__(self, spec):
            super().__init__(spec)
            self.mark = self.first

        def first(self, inputs): self.mark = self.later
        def later(self, inputs): ...

    class Replaces(Base):
        def mark(self, inputs): self.body.bias = nn.Parameter(inputs.mean().view(1))

    class Outgrows(Base):
        def mark(self, inputs):
            if not hasattr(self, "head"):
                self.head = nn.Linear(1, 1)

        def forward(self, inputs):
            scores = super().forward(inputs)
            return self.head(scores)

    class Record:
        def state_dict(self): return {"file": object()}
        def load_state_dict(self, state): ...

    class Keeps(Base):
        def __init__(self, spec):
            super().__init__(spec)
            self.record = Record()

        def mark(self, inputs): ...

    class Contiguous(nn.Module):  # takes no channels-last, which is tried first
        def __init__(self, spec):
            super().__init__()
            self.conv, self.calls = nn.Conv2d(2, 1, 3), 0

        def forward(self, inputs):
            self.calls += 1
            scores = self.conv(inputs)
            self.conv.weight.view(-1)
            return scores.flatten(1)

    class Marked(nn.MSELoss):
        def __init__(self, spec):
            super().__init__()
            self.calls = 0

        def forward(self, scores, targets):
            self.calls += 1
            return super().forward(scores, targets)

    class Eager:  # no module
        def __init__(self, spec): ...

        def __call__(self, scores, targets):
            self.spread = targets.std()
            return (scores - targets).square()

    class Updates:
        def __init__(self, spec): self.sizes = []
        def update(self, scores, targets): self.sizes.append(len(scores))
        def compute(self): return float(sum(self.sizes))
        def reset(self): ...
"""


@pytest.fixture
def marked(site):
    site.add("ptb-marked", PLUGIN, module="ptb_marked")
    site.write("marked_parts.py", PARTS)
    registry = site.registry()

    def build(model, **sections):
        base = {"dataset": {"name": "line"}, "loss": {"name": "marked"}, "metrics": {"updates": {}}, "device": "cpu"}
        return compose(RunConfig(**{**base, "model": {"name": model}, **sections}), registry).parts

    return build


def first_forward(parts):
    inputs, _ = next(iter(parts.train.epoch(1)))
    parts.forward(inputs)
    return inputs


def test_a_model_that_sets_itself_up_from_its_first_batch_does_so_in_the_run(marked):
    parts = marked("flag")
    assert not parts.model.ready
    assert parts.model.scale.item() == 1
    inputs = first_forward(parts)
    assert parts.model.scale.item() == inputs.std().item()


@pytest.mark.parametrize("name", ["missing", "buffer"])
def test_what_the_trial_adds_to_a_model_is_taken_away(marked, name):
    parts = marked(name)
    assert not hasattr(parts.model, "mean")
    inputs = first_forward(parts)
    assert torch.equal(parts.model.mean, inputs.mean(0))


def test_attributes_of_the_model_are_as_before(marked):
    model = marked("counts").model
    assert (model.sizes, model.total.item(), model.last) == ([], 0, None)


def test_a_method_that_the_first_batch_switches_is_as_before(marked):
    model = marked("switches").model
    assert model.mark == model.first


def test_a_generator_of_the_model_stands_where_it_stood(marked):
    assert torch.equal(marked("draws").model.noise.get_state(), torch.Generator().manual_seed(1).get_state())


def test_a_layer_that_its_model_froze_stays_so(marked):
    model = marked("frozen").model
    assert (model.training, model.norm.training) == (True, False)
    assert not model.norm.running_mean.any()


def test_the_loss_is_as_before(marked):
    assert marked("counts").loss.calls == 0
    assert not vars(marked("counts", loss={"name": "eager"}).loss)


def test_a_metric_is_as_before_even_where_its_reset_forgets_nothing(marked):
    assert marked("counts").eval_metrics["updates"].sizes == []


def test_a_trial_that_fails_leaves_no_trace_for_the_next_one(marked):
    parts = marked("contiguous", dataset={"name": "squares"})
    assert parts.model.conv.weight.is_contiguous()
    assert (parts.model.calls, parts.loss.calls, parts.eval_metrics["updates"].sizes) == (0, 0, [])


@pytest.mark.parametrize(("name", "made"), [("replaces", "body.bias"), ("outgrows", "head.weight, head.bias")])
def test_parameters_that_no_optimizer_would_train_are_refused(marked, name, made):
    with pytest.raises(
        IncompatibleError, match=rf"model '{name}' makes parameters in its forward pass \({made}\), which no"
    ):
        marked(name)


def test_what_no_checkpoint_can_hold_is_told_before_the_run(marked):
    with pytest.raises(IncompatibleError, match=r"cannot be saved.*: model\.record\.file is a builtins\.object"):
        marked("keeps")
