"""Every form of data and of outputs: what fits trains, stops and goes on to the same weights; the rest is refused."""

import pytest
import torch

from ptb import IncompatibleError, RunConfig
from ptb.config.resolve import resolve
from ptb.runs.compose import compose
from ptb.runs.overrides import resume_config
from ptb.runs.start import resume_run, start_run
from ptb.storage.run_directory import RunDirectory

PLUGIN = """
    from ptb import Component, hookimpl

    MODELS = ("Any", "Several", "NoScores", "Termless", "Flat", "Wide", "Misshapen")
    LOSSES = ("Mean", "Each", "TakesOutputs", "OfTheBatch", "SaySo", "Alone", "Double", "Odd", "Weighing")

    @hookimpl
    def ptb_provide_datasets():
        return [Component("formed", "formed_parts:formed")]

    @hookimpl
    def ptb_provide_models():
        return [Component(name.lower(), f"formed_parts:{name}") for name in MODELS]

    @hookimpl
    def ptb_provide_losses():
        return [Component(name.lower(), f"formed_parts:{name}") for name in LOSSES]

    @hookimpl
    def ptb_provide_metrics():
        return [Component("seen", "formed_parts:Seen", accepts=("class", "multilabel", "real", "none"))]
"""
PARTS = """
    import torch
    from torch import nn
    from torch.utils.data import IterableDataset, StackDataset, TensorDataset, get_worker_info
    from ptb import DataBundle, DataSpec, InputSpec

    SIZE = 14

    class Stream(IterableDataset):
        def __init__(self, inputs, targets): self.inputs, self.targets, self.epoch = inputs, targets, 0
        def set_epoch(self, epoch): self.epoch = epoch
        def __len__(self): return len(self.targets)
        def __iter__(self):
            info = get_worker_info()
            worker, workers = (info.id, info.num_workers) if info else (0, 1)
            for number in range(worker, len(self), workers):
                noise = torch.randn(3) / 10
                yield self.inputs[(number + self.epoch) % len(self)] + noise, int(self.targets[number])

    class Lengths:
        def __init__(self, size): self.size = size
        def __len__(self): return self.size
        def __getitem__(self, number):
            length = 1 + number % 5
            return torch.arange(length) % 3 * 1.0, torch.arange(length) % 2

    def padded(samples):
        inputs, targets = zip(*samples)
        pad = nn.utils.rnn.pad_sequence
        return pad(inputs, batch_first=True), pad(targets, batch_first=True, padding_value=-100)

    def jitter(inputs, targets, rng):
        if isinstance(inputs, dict):
            return {**inputs, "inputs": inputs["inputs"] + rng.normal(3) / 10}, targets
        return inputs + rng.normal(*inputs.shape[1:]) / 10, targets

    def formed(*, form: str = "plain", weights: str = ""):
        drawn = torch.Generator().manual_seed(1)
        inputs = torch.randn(SIZE, 3, generator=drawn)
        classes = (inputs.sum(1) > 0).long()
        spec = {"input_shape": (3,), "inputs": "vector", "target": "class", "output_size": 2}
        weighted = (torch.rand(SIZE, generator=drawn),)
        split = TensorDataset(inputs, classes)
        if form == "stream":
            return DataBundle(DataSpec(**spec), Stream(inputs, classes), Stream(inputs, classes), augment=jitter)
        if form == "lengths":
            spec |= {"input_shape": (5,), "positions": (5,)}
            return DataBundle(DataSpec(**spec), Lengths(SIZE), Lengths(5), collate=padded, augment=jitter)
        if form == "multilabel":
            spec["target"] = "multilabel"
            split = TensorDataset(inputs, (inputs[:, :2] > 0).float())
        if form == "positions":
            spec["positions"] = (3,)
            split = TensorDataset(inputs, torch.where(inputs.abs() < 0.3, -100, (inputs > 0).long()))
        if form == "curves":
            spec |= {"target": "real", "positions": (3,)}
            split = TensorDataset(inputs, torch.stack([inputs, -inputs], 1))
        if form == "none":
            spec["target"] = "none"
            split = TensorDataset(inputs)
        if form == "fields":
            spec["fields"] = {"table": InputSpec((2,)), "length": InputSpec(())}
            table = StackDataset(inputs=inputs, table=inputs[:, :2] * 2, length=inputs[:, 0])
            split = StackDataset(table, classes)
        train, val = split, split
        if weights:
            parts = split.datasets if isinstance(split, StackDataset) else split.tensors
            heavy = StackDataset(*parts, *weighted)
            train, val = (heavy if each in weights else split for each in ("train", "val"))
        return DataBundle(DataSpec(**spec), train, val, augment=jitter)

    class Any(nn.Module):
        def __init__(self, spec):
            super().__init__()
            self.spec, self.size = spec, spec.output_size
            self.each = bool(spec.positions)
            width = 1 if self.each else sum([3, *[2, 1][: len(spec.fields)]])
            self.hidden, self.dropout, self.last = nn.Linear(width, 4), nn.Dropout(0.2), nn.Linear(4, self.size)

        def scores(self, inputs):
            if isinstance(inputs, dict):
                inputs = torch.cat([inputs["inputs"], inputs["table"], inputs["length"][:, None]], 1)
            inputs = inputs[..., None] if self.each else inputs
            scores = self.last(self.dropout(self.hidden(inputs).tanh()))
            return scores.movedim(-1, 1) if self.each else scores

        forward = scores

    class Several(Any):
        def forward(self, inputs):
            scores = self.scores(inputs)
            return {"scores": scores, "loss": self.last.weight.square().sum(), "kept": scores.square(), "note": "text"}

    class NoScores(Any):
        def forward(self, inputs): return {"logits": self.scores(inputs)}

    class Termless(Any):
        def forward(self, inputs): return {"scores": self.scores(inputs), "loss": None}

    class Flat(Any):
        def forward(self, inputs): return self.scores(inputs).flatten(1)

    class Wide(Any):
        def __init__(self, spec): super().__init__(spec.with_output(spec.output_size + 1))

    class Misshapen(Any):
        def forward(self, inputs): return self.scores(inputs)[..., :-1]

    def fitting(spec, scores, targets, reduction):
        if spec.target == "class":
            return nn.functional.cross_entropy(scores, targets, reduction=reduction)
        targets = targets[..., :2] if spec.target == "none" else targets
        return nn.functional.mse_loss(scores, targets, reduction=reduction)

    class Mean:
        "Gives the mean alone, whatever it is asked for."
        def __init__(self, spec): self.spec = spec
        def __call__(self, scores, targets): return fitting(self.spec, scores, targets, "mean")

    class Each(Mean):
        "Can give one value a sample."
        def __init__(self, spec):
            super().__init__(spec)
            self.reduction = "mean"
        def __call__(self, scores, targets): return fitting(self.spec, scores, targets, self.reduction)

    class TakesOutputs(Mean):
        def __call__(self, scores, targets, *, outputs):
            return fitting(self.spec, scores, targets, "mean") + outputs["kept"].mean()

    class OfTheBatch(Mean):
        def __call__(self, scores, targets): return scores.std() + super().__call__(scores, targets)

    class SaySo(Mean):
        couples_samples = True

    class Alone(Mean):
        couples_samples = True
        def __call__(self, scores, targets):
            if len(scores) < 2:
                raise ValueError("a sample alone has no pair")
            return super().__call__(scores, targets)

    class Odd(Alone):
        couples_samples = False

    class Double(Mean):
        "Wants twice as many scores, and says what they predict."
        def __init__(self, spec):
            super().__init__(spec)
            self.output_size = 2 * spec.output_size
        def predictions(self, scores): return scores[:, ::2]
        def __call__(self, scores, targets):
            return super().__call__(self.predictions(scores), targets) + scores.square().mean()

    class Weighing(nn.Module):
        "Has a parameter of its own."
        def __init__(self, spec):
            super().__init__()
            self.spec, self.scale = spec, nn.Parameter(torch.ones(()))
        def forward(self, scores, targets): return fitting(self.spec, scores * self.scale, targets, "mean")

    class Seen:
        def __init__(self, spec): self.reset()
        def update(self, scores, targets): self.total += float(scores.double().sum()); self.count += len(scores)
        def compute(self): return {"mean": self.total / max(self.count, 1), "count": self.count}
        def reset(self): self.total, self.count = 0.0, 0
"""


@pytest.fixture
def registry(site):
    site.add("ptb-formed", PLUGIN, module="ptb_formed")
    site.write("formed_parts.py", PARTS)
    return site.registry()


@pytest.fixture
def made(registry):
    """Composes a run on a form of data."""

    def build(form="plain", model="any", loss="mean", weights="", metrics=("seen",), **sections):
        base = {
            "dataset": {"name": "formed", "form": form, "weights": weights},
            "model": {"name": model},
            "loss": {"name": loss},
            "metrics": {name: {} for name in metrics},
            "optimizer": {"name": "adam", "lr": 0.01},
            "loader": {"batch_size": 4},
            "trainer": {"epochs": 2, "eval_steps": 3},
            "device": "cpu",
        }
        return compose(resolve(RunConfig(**{**base, **sections}), registry))

    return build


ACCUMULATE = {"trainer": {"epochs": 2, "accumulate": 2}}
RUNS = {
    "plain": {},
    "multilabel": {"form": "multilabel"},
    "positions": {"form": "positions"},
    "curves": {"form": "curves"},
    "none": {"form": "none"},
    "fields": {"form": "fields"},
    "fields-host": {"form": "fields", "loader": {"batch_size": 4, "placement": "host"}},
    "fields-workers": {"form": "fields", "loader": {"batch_size": 4, "placement": "workers", "num_workers": 1}},
    "fields-weights": {"form": "fields", "weights": "train", "loss": "each", **ACCUMULATE},
    "weights": {"weights": "train val", "loss": "each", **ACCUMULATE},
    "weights-positions": {"form": "positions", "weights": "train val", "loss": "each"},
    "weights-val": {"weights": "val", "loss": "each"},
    "lengths": {"form": "lengths"},
    "lengths-workers": {"form": "lengths", "loader": {"batch_size": 4, "num_workers": 2}, **ACCUMULATE},
    "stream": {"form": "stream", "loader": {"batch_size": 4, "num_workers": 0}},
    "stream-workers": {"form": "stream", "loader": {"batch_size": 4, "num_workers": 2, "drop_last": True}},
    "outputs": {"model": "several", "loss": "takesoutputs", "form": "multilabel"},
    "outputs-accumulate": {"model": "several", **ACCUMULATE},
    "double": {"loss": "double", "form": "multilabel", **ACCUMULATE},
    "loss-parameters": {"loss": "weighing"},
}


RARE = ("curves", "fields-host", "lengths", "outputs-accumulate", "stream", "weights-positions", "weights-val")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.matrix] if name in RARE else []) for name in RUNS]
)
def test_a_run_on_each_form_that_is_stopped_goes_on_to_the_same_weights(made, registry, tmp_path, name):
    whole = start_run(made(**RUNS[name]), tmp_path / "whole")
    assert whole.status == "finished"
    stop = 2 if RUNS[name].get("trainer") else 5  # inside the first epoch, or the second
    assert start_run(made(**RUNS[name]), tmp_path / "part", stop_after=stop).status == "interrupted"
    part = RunDirectory.open(tmp_path / "part")
    resumed = resume_run(compose(resolve(resume_config(part), registry)), part)
    assert (resumed.status, resumed.step) == ("finished", whole.step)
    assert resumed.weights_sha256 == whole.weights_sha256
    timed = "samples_per_second"
    assert [row for row in resumed.metrics.items() if timed not in row] == [*whole.metrics.items()]
    assert (tmp_path / "part/metrics.jsonl").read_text().count("\n") == (
        (tmp_path / "whole/metrics.jsonl").read_text().count("\n")
    )


@pytest.mark.parametrize(("form", "count"), [("plain", 14), ("positions", None), ("none", 14), ("stream", 14)])
def test_metrics_see_every_sample_or_position_that_counts(made, form, count):
    composed = made(form, loader={"batch_size": 4})
    if count is None:
        count = int((composed.bundle.val.tensors[1] >= 0).sum())
        assert 14 < count < 3 * 14
    figures = composed.trainer.evaluate("val")
    assert figures["seen/count"] == count


def test_the_mean_loss_of_an_evaluation_is_weighted(made):
    composed = made("fields", weights="train val", loss="each")
    objective = composed.trainer.objective
    batch = composed.trainer.eval_loaders["val"].first_batch(14)
    objective.model.eval()
    with torch.no_grad():
        each = torch.nn.functional.cross_entropy(objective.model(batch.inputs), batch.targets, reduction="none")
    wanted = float((each * batch.weights).sum() / batch.weights.sum())
    assert composed.trainer.evaluate("val")["loss"] == pytest.approx(wanted, rel=1e-5)
    assert wanted != pytest.approx(float(each.mean()), rel=1e-3)


OF_SAMPLES = (
    "is not made of the losses of its samples, so gradients cannot be accumulated, and batches cannot be cut: leave"
)
HAVE_WEIGHTS = "gives one value for a batch, and the samples of data set 'formed' have weights: choose a loss"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"model": "noscores"},
            "'noscores' returns a dict of logits; what the loss takes must be in it under 'sco",
        ),
        ({"model": "termless"}, "the term 'loss' of model 'termless' cannot be added: .*NoneType"),
        ({"model": "wide"}, r"must give scores of shape \(2, 2\) for data set 'formed', it gives \(2, 3\)"),
        ({"model": "flat", "form": "positions"}, r"scores of shape \(2, 2, 3\) .*, it gives \(2, 6\)"),
        ({"model": "misshapen", "form": "positions"}, r"scores of shape \(2, 2, 3\) .*, it gives \(2, 2, 2\)"),
        ({"model": "misshapen", "form": "lengths"}, r"scores of shape \(2, 2, 2\) .*, it gives \(2, 2, 1\)"),
        ({"model": "wide", "loss": "double"}, r"must give scores of shape \(2, 4\) .*, it gives \(2, 5\)"),
        ({"loss": "takesoutputs"}, "loss 'takesoutputs' cannot take scores"),
        ({"loss": "ofthebatch", **ACCUMULATE}, f"by loss 'ofthebatch' {OF_SAMPLES}"),
        ({"loss": "sayso", **ACCUMULATE}, f"by loss 'sayso' {OF_SAMPLES}"),
        ({"loss": "alone", **ACCUMULATE}, f"by loss 'alone' {OF_SAMPLES}"),
        ({"loss": "odd", **ACCUMULATE}, f"by loss 'odd' {OF_SAMPLES}"),
        ({"weights": "train"}, f"loss 'mean' {HAVE_WEIGHTS}"),
        ({"weights": "val"}, f"loss 'mean' {HAVE_WEIGHTS}"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_the_first_step(made, changes, told):
    with pytest.raises(IncompatibleError, match=told) as error:
        made(**changes)
    assert error.value.exit_code == 3


@pytest.mark.parametrize("loss", ["ofthebatch", "sayso", "alone"])
def test_a_loss_that_couples_samples_trains_on_whole_batches(made, loss):
    assert made(loss=loss).trainer.fit().step == 8


@pytest.mark.parametrize("weights", ["", "val"])
def test_a_loss_gives_one_value_a_sample_only_where_samples_have_weights(made, weights):
    assert made(loss="each", weights=weights).trainer.objective.loss.reduction == ("none" if weights else "mean")
