"""The trial step before a training leaves no trace: what the first batch sets is set by the first batch of the run."""

import pytest
import torch

from ptb import IncompatibleError, RunConfig
from ptb.config.resolve import resolve
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

    class Draws(Base):
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
        return compose(resolve(RunConfig(**{**base, "model": {"name": model}, **sections}), registry)).trainer

    return build


def first_forward(trainer):
    inputs = next(iter(trainer.train_loader.epoch(1))).inputs
    trainer.objective.forward(inputs)
    return inputs


def test_a_model_that_sets_itself_up_from_its_first_batch_does_so_in_the_run(marked):
    trainer = marked("flag")
    assert not trainer.model.ready
    assert trainer.model.scale.item() == 1
    inputs = first_forward(trainer)
    assert trainer.model.scale.item() == inputs.std().item()


@pytest.mark.parametrize("name", ["missing", "buffer"])
def test_what_the_trial_adds_to_a_model_is_taken_away(marked, name):
    trainer = marked(name)
    assert not hasattr(trainer.model, "mean")
    inputs = first_forward(trainer)
    assert torch.equal(trainer.model.mean, inputs.mean(0))


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
    assert marked("counts").objective.loss.calls == 0
    assert not vars(marked("counts", loss={"name": "eager"}).objective.loss)


def test_a_metric_is_as_before_even_where_its_reset_forgets_nothing(marked):
    assert marked("counts").eval_metrics["updates"].sizes == []


def test_a_trial_that_fails_leaves_no_trace_for_the_next_one(marked):
    trainer = marked("contiguous", dataset={"name": "squares"})
    assert trainer.model.conv.weight.is_contiguous()
    assert (trainer.model.calls, trainer.objective.loss.calls, trainer.eval_metrics["updates"].sizes) == (0, 0, [])


@pytest.mark.parametrize(("name", "made"), [("replaces", "body.bias"), ("outgrows", "head.weight, head.bias")])
def test_parameters_that_no_optimizer_would_train_are_refused(marked, name, made):
    with pytest.raises(
        IncompatibleError, match=rf"model '{name}' makes parameters in its forward pass \({made}\), which no"
    ):
        marked(name)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"model": "norm"},
            "cannot train on a batch of one sample, and with .*=8 the last one of 33 samples has one: .*drop_last=true",
        ),
        ({"model": "norm", "loader": {"batch_size": 1}}, "and with loader.batch_size=1 the last one of 33 samples"),
        ({"model": "boom"}, "model 'boom' with loss 'cross-entropy' cannot be trained: RuntimeError: only in training"),
        ({"loss": {"name": "detached"}}, "cannot be trained: RuntimeError: element 0 of tensors does not require grad"),
        ({"loss": {"name": "refuses"}}, "loss 'refuses' does not fit data set 'odd': 2 weights for 3 classes"),
        ({"initializer": {"name": "picky"}}, "initializer 'picky' does not fit model 'plain': fits weights of 3 to 5"),
        ({"scheduler": {"name": "short"}}, "scheduler 'short' does not fit a run of 100 optimizer steps: .*has 100"),
        (
            {"optimizer": {"name": "sparse-only"}},
            "optimizer 'sparse-only' cannot take a step on model 'plain': .* does not support dense gradients",
        ),
        (
            {"kind": "tokens", "model": "sparse", "optimizer": {"name": "plain-adam"}},
            "optimizer 'plain-adam' cannot take a step .*; the gradients of model 'sparse' are sparse: leave weight",
        ),
        (
            {
                "kind": "tokens",
                "model": "sparse",
                "optimizer": {"name": "sparse-only"},
                "trainer": {"clip_norm": 1.0},
            },
            "model 'sparse' with .* cannot be trained: .*; the gradients of .* are sparse: .* trainer.clip_norm out",
        ),
    ],
)
def test_parts_that_cannot_be_trained_are_refused_before_the_first_step(odd, changes, told):
    with pytest.raises(IncompatibleError, match=told) as error:
        odd(**changes)
    assert error.value.exit_code == 3


def test_a_parameter_without_a_gradient_is_told(odd):
    with pytest.warns(UserWarning, match=r"model 'idle': no gradient reaches spare\.weight, spare\.bias") as told:
        odd(model="idle")
    assert len(told) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"listed": True},
        {"kind": "binary"},
        {"model": "norm", "loader": {"batch_size": 8, "drop_last": True}},
        {"model": "norm", "loader": {"batch_size": 11}},
        {"model": "frozen"},
        {"kind": "tokens", "model": "sparse", "optimizer": {"name": "sparse-only"}},
        {"kind": "tokens", "model": "sparse", "optimizer": {"name": "sgd"}},
        {"size": 1},
    ],
    ids=str,
)
def test_the_preflight_lets_pass_what_trains_and_changes_nothing(odd, changes):
    trainer = odd(**changes).trainer
    assert not trainer.optimizer.state
    assert trainer.model.training
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    for batch in trainer.train_loader.epoch(1):
        trainer.train_step([batch])


def test_the_operations_of_a_step_are_counted(built_in, monkeypatch):
    counted = []
    monkeypatch.setattr("ptb.runs.compose._threads", lambda operations, shards: counted.append(operations) or 1)
    config = RunConfig(model={"name": "mlp", "hidden": [7]}, dataset={"size": 8}, loader={"batch_size": 5})
    compose(resolve(config, built_in))
    forward, of_weights, of_hidden = (2 * 5 * each for each in (64 * 7 + 7 * 10, 64 * 7 + 7 * 10, 7 * 10))
    assert counted == [forward + of_weights + of_hidden]


@pytest.mark.parametrize("gives", ["None", "'high'", "torch.ones(3)", "{'a': 'x'}"])
def test_a_metric_that_gives_no_number_is_refused_before_the_first_step(site, gives):
    site.add("ptb-marked", PLUGIN, module="ptb_marked")
    site.write("marked_parts.py", PARTS.replace("return float(sum(self.sizes))", f"return {gives}"))
    sections = {"dataset": {"name": "line"}, "loss": {"name": "marked"}, "metrics": {"updates": {}}}
    partial = resolve(RunConfig(**sections, model={"name": "flag"}, device="cpu"), site.registry())
    with pytest.raises(IncompatibleError, match=r"compute\(\) must give a number, or a dict of numbers, it gives "):
        compose(partial)
