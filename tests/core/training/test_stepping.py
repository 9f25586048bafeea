import math
import random
import re
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from ptb import NumericalError, ResourceError
from ptb.data.loader import BatchLoader
from ptb.data.sources import place
from ptb.seeding import preserve_rng_state, seed_global
from ptb.storage.checkpoint import Checkpoint, differences
from ptb.storage.codec import State
from ptb.training.objective import Parts
from ptb.training.stepping import Before, NotFinite
from ptb.training.trainer import Recipe, Training

CPU = torch.device("cpu")
NAN, INF = math.nan, math.inf


class Notes:
    """A watcher that keeps what matters here; ``armed`` from the step on that is to fail."""

    def __init__(self, fails=None):
        self.fails, self.steps, self.rows, self.lines, self.saved, self.replay = fails, 0, [], [], [], None

    @property
    def armed(self):
        return self.steps + 1 == self.fails

    def epoch_started(self, epoch, steps, taken): ...

    def step_ended(self):
        self.steps += 1

    def row(self, row):
        self.rows.append(row)

    def line(self, text):
        self.lines.append(text)

    def save(self, training):
        self.saved.append(training.state())

    def save_replay(self, state, step, group, samples, finding):
        self.replay = (state, step, group, samples, finding)
        return "file"

    def stop_signal(self): ...


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def lbfgs(parameters):
    return torch.optim.LBFGS(parameters, lr=0.1, max_iter=3)


def parts(model, optimizer=sgd, loss=None, augment=None, size=12, inputs=None, tier="auto", workers=0, **options):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(size, 3, generator=generator)
    targets = torch.randint(2, (size,), generator=generator)
    data = TensorDataset(drawn if inputs is None else inputs, options.pop("targets", targets))
    source = place({"train": data}, CPU, tier, workers)["train"]
    optimizer = optimizer(model.parameters())
    return Parts(
        model=model,
        loss=loss or nn.CrossEntropyLoss(),
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9),
        train=BatchLoader(source, batch_size=options.pop("batch_size", 4), seed=0, shuffle=True, augment=augment),
        evaluation={},
        train_metrics={},
        eval_metrics={},
        device=CPU,
        **options,
    )


class Spoilt(torch.autograd.Function):
    """Changes nothing going forward; going back the gradients are multiplied."""

    @staticmethod
    def forward(context, values, factor):
        context.factor = factor
        return values.clone()

    @staticmethod
    def backward(context, gradients):
        return gradients * context.factor, None


class Body(nn.Module):
    """What may fail, with all that a forward pass can change; ``fault`` tells where when ``notes`` are armed."""

    def __init__(self, notes, fault, value, dtype=torch.float32, norm=False):
        super().__init__()
        self.notes = (lambda: notes,)  # out of the state
        self.fault, self.value = fault, value
        self.first = nn.Linear(3, 8, dtype=dtype)
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.last = nn.Linear(8, 2)
        self.calls = 0
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("replaced", torch.zeros(2), persistent=False)

    def forward(self, inputs):
        armed = self.notes[0]().armed
        self.calls += 1
        self.seen += 1
        self.replaced = self.replaced + random.random() + np.random.rand()
        hidden = self.first(inputs.to(self.first.weight.dtype))
        hidden = hidden.real.float() if hidden.is_complex() else hidden.float()
        if self.fault == "layer" and armed:
            hidden = hidden + torch.tensor([self.value] + [0.0] * (len(hidden) - 1))[:, None]
        if self.fault == "gradient" and armed:
            hidden = Spoilt.apply(hidden, self.value)
        if self.fault == "sqrt" and armed:
            hidden = hidden + (hidden * 0).abs().sqrt()
        return self.last(nn.functional.dropout(self.norm(hidden).tanh(), 0.3))


def body(fault, fails, value=NAN, recipe=None, **options):
    """A training whose step ``fails`` fails, and its notes."""
    torch.manual_seed(1)
    notes = Notes(fails)
    dtype, norm, make = (
        options.pop(key, default) for key, default in (("dtype", torch.float32), ("norm", 0), ("make", None))
    )
    model = make() if make else Body(notes, fault, value, dtype, norm)

    def loss(scores, targets):
        return nn.functional.cross_entropy(scores, targets) * (value if fault == "loss" and notes.armed else 1)

    def augment(inputs, draws):
        if fault == "augment" and notes.armed:
            inputs = inputs.clone()
            inputs[-1, 1] = value
        return inputs

    ours = parts(model, loss=loss, augment=augment, **options)
    return Training(ours, Recipe(epochs=3, **(recipe or {})), notes), notes


def state_of(training):
    """All but how far it has come."""
    state = training.state()
    return State({key: node for key, node in state.node.items() if key != "totals"}, state.tensors)


def lost(one, other):
    return differences(Checkpoint(None, 0, {}, one), Checkpoint(None, 0, {}, other))


WAYS = {
    "plain": {},
    "accumulated": {"recipe": {"accumulate": 3}, "batch_size": 2},
    "clipped": {"recipe": {"clip_norm": 0.5}},
    "lbfgs": {"optimizer": lbfgs, "closure": True},
    "batch-norm": {"norm": True},
    "adam": {"optimizer": torch.optim.Adam},
    "workers": {"tier": "workers", "workers": 2},
    "bf16": {"autocast": torch.bfloat16},
    "fp16": {"autocast": torch.float16},
    "float64-and-float32": {"dtype": torch.float64},
    "complex": {"dtype": torch.complex64},
}


@pytest.mark.parametrize("fails", [1, 5])
@pytest.mark.parametrize("fault", ["layer", "loss", "gradient", "sqrt", "augment"])
@pytest.mark.parametrize("way", WAYS)
def test_a_step_on_what_is_no_number_leaves_everything_as_it_was_before_it(way, fault, fails):
    if way == "fp16" and fault in ("gradient", "sqrt"):
        pytest.skip("gradients that overflow are the business of the scaler")
    value = INF if fault == "loss" else NAN
    fails = min(fails, 4) if way == "accumulated" else fails  # inside of an epoch
    with preserve_rng_state():
        seed_global(0, "train")
        (training, notes) = body(fault, fails, value, **WAYS[way])
        with pytest.raises(NumericalError, match=f"at step {fails}[: ]"):
            training.run()
        after = state_of(training)
        training.parts.close()
        seed_global(0, "train")
        twin, _ = body(fault, None, value, **WAYS[way])
        if fails > 1:
            twin.run(until=fails - 1)
        else:
            twin.parts.model.train()
        before = state_of(twin)
        twin.parts.close()
    assert lost(after, before) == []
    saved, step, group, samples, finding = notes.replay
    assert lost(State({key: saved.node[key] for key in before.node}, saved.tensors), before) == []
    assert step == fails
    assert [len(each) for each in samples] == [len(targets) for _, targets in group]
    assert finding.again
    assert (notes.rows[-1].step, notes.rows[-1].split) == (fails, "train")
    assert math.isfinite(notes.rows[-1].values["loss"]) == (fault in ("gradient", "sqrt"))
    assert all(torch.isfinite(tensor).all() for tensor in before.tensors.values() if tensor.is_floating_point())


def test_that_test_can_fail():
    with preserve_rng_state():
        (training, _), (twin, _) = body("loss", None), body("loss", None)
        seed_global(0, "train")
        training.run(until=2)
        before = state_of(training)
        seed_global(0, "train")
        twin.run(until=2)
        assert lost(before, state_of(twin)) == []
        twin.run(until=3)
        changed = " ".join(lost(before, state_of(twin)))
    for name in ("model.first.weight", "model.seen", "rest", "optimizer.state", "random"):
        assert name in changed, name


class Sparse(nn.Module):
    def __init__(self, notes):
        super().__init__()
        self.table = nn.EmbeddingBag(4, 2, sparse=True, mode="sum")
        self.notes = (lambda: notes,)

    def forward(self, inputs):
        scores = self.table((inputs > 0).long())
        return Spoilt.apply(scores, NAN) if self.notes[0]().armed else scores


@pytest.mark.parametrize("optimizer", [torch.optim.SparseAdam, sgd])
def test_sparse_gradients_are_looked_at(optimizer):
    notes = Notes(3)
    ours = parts(Sparse(notes), optimizer=optimizer)
    with pytest.raises(NumericalError, match=r"the gradients are not finite at step 3: first in that of table\.weight"):
        Training(ours, Recipe(epochs=2), notes).run()
    assert torch.isfinite(ours.model.table.weight).all()
    Training(parts(Sparse(Notes()), optimizer=optimizer), Recipe(epochs=2), Notes()).run()


def test_both_halves_of_a_pair_are_looked_at():
    inputs = torch.randn(12, 2, 3)
    inputs[7, 1, 2] = NAN
    notes = Notes()
    ours = parts(nn.Linear(3, 2), inputs=inputs, pairs=True, loss=lambda scores, _: scores.square().mean())
    with pytest.raises(NumericalError, match=r"the inputs are not finite \(samples 7\)"):
        Training(ours, Recipe(epochs=1), notes).run()


def test_a_norm_of_gradients_that_overflows_is_told_as_that():
    ours = parts(nn.Linear(3, 2), loss=lambda scores, _: Spoilt.apply(scores, 1e30).square().mean())
    with pytest.raises(NumericalError, match="so large that their norm is not"):
        Training(ours, Recipe(epochs=1, clip_norm=1.0), Notes()).run()
    free = parts(nn.Linear(3, 2), loss=lambda scores, _: Spoilt.apply(scores, 1e30).square().mean())
    with pytest.raises(NotFinite):  # without it the numbers are finite, and the step is taken; the next cannot be
        Training(free, Recipe(epochs=1), Notes())._stepper.take([(torch.full((1, 3), INF), torch.zeros(1))], None)


@pytest.mark.filterwarnings("ignore:Seems like")
@pytest.mark.parametrize("optimizer", [sgd, torch.optim.Adam])
@pytest.mark.parametrize("every", [0, 1], ids=["each-epoch", "each-step"])
def test_weights_that_a_step_makes_infinite_are_never_saved(optimizer, every):
    ours, notes = parts(Body(Notes(), None, 0), optimizer=optimizer), Notes()
    ours.optimizer.param_groups[0]["lr"] = 0.5
    ours.optimizer.step = lambda: [each.data.fill_(INF) for each in ours.model.parameters()]
    with pytest.raises(NumericalError, match="learning rate is") as error:
        Training(ours, Recipe(epochs=1, checkpoint_every=every), notes).run()
    assert ("the weights are not finite after step 1" in str(error.value)) == (every == 1)
    assert notes.saved == []


@pytest.mark.parametrize("rate", [INF, NAN])
def test_no_step_is_taken_with_a_learning_rate_that_is_no_number(rate):
    ours, notes = parts(Body(Notes(), None, 0)), Notes()
    before = [each.clone() for each in ours.model.parameters()]
    ours.optimizer.param_groups[0]["lr"] = rate
    with pytest.raises(NumericalError, match=f"the learning rate of step 1 is {rate}, and the step was not taken"):
        Training(ours, Recipe(epochs=1), notes).run()
    assert all(torch.equal(*pair) for pair in zip(ours.model.parameters(), before, strict=True))


class Averaging(nn.Module):
    def __init__(self, mask):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("mask", torch.tensor([0.0, mask]))
        self.register_buffer("largest", torch.zeros(()))
        self.found = 1e25

    def forward(self, inputs):
        if self.training:
            self.largest.copy_(torch.tensor(self.found).square())
        return self.layer(inputs)


def test_a_buffer_that_becomes_infinite_is_not_saved():
    ours, notes = parts(Averaging(-INF)), Notes()
    with pytest.raises(NumericalError, match=r"the weights are not finite after step \d+ \(largest\)"):
        Training(ours, Recipe(epochs=1), notes).run()
    assert notes.saved == []
    ours.model.found = 1.0
    Training(parts(Averaging(-INF)), Recipe(epochs=0), notes).run()


def test_a_model_none_of_whose_trained_parameters_takes_part_is_left_alone():
    model, other = nn.Linear(3, 2), nn.Linear(2, 2)
    ours = parts(model, optimizer=lambda _: sgd(other.parameters()))
    before = other.weight.clone()
    Training(ours, Recipe(epochs=1), Notes()).run()
    assert torch.equal(other.weight, before)


def test_gradients_of_no_values_and_in_any_memory_order_are_taken():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.none = nn.Parameter(torch.empty(0))
            self.across = nn.Parameter(torch.randn(2, 3).t())
            self.unused = nn.Parameter(torch.randn(2))

        def forward(self, inputs):
            return inputs @ self.across + self.none.sum()

    Training(parts(Odd()), Recipe(epochs=1), Notes()).run()


# ---- memory


class Hungry(nn.Module):
    """Has memory for so many samples at once."""

    def __init__(self, most, error=torch.OutOfMemoryError, body=None, told=""):
        super().__init__()
        self.body = body or nn.Linear(3, 2)
        self.limits = (most, lambda: error(told or "CUDA out of memory"))

    def forward(self, inputs):
        scores = self.body(inputs)  # what has happened until then is to be undone
        if self.training and len(inputs) > self.limits[0]:
            raise self.limits[1]()
        return scores


ERRORS = {
    "device": (torch.OutOfMemoryError, "CUDA out of memory"),
    "host": (RuntimeError, "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    "python": (MemoryError, ""),
}


def weights(seed=1, dropout=0.0, norm=False):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(3, 8), nn.BatchNorm1d(8) if norm else nn.Identity(), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 2)
    )


def trained(most, recipe=None, **options):
    """A training to its end with memory for so many samples, the gradients of its steps, and its notes."""
    notes, seen = Notes(), []
    model = Hungry(most, body=options.pop("body", None) or weights(), **options.pop("error", {}))
    ours = parts(model, **options)
    ours.optimizer.register_step_post_hook(
        lambda *_: seen.append([each.grad.clone() for each in model.parameters() if each.grad is not None])
    )
    training = Training(ours, Recipe(epochs=2, on_oom="split", **(recipe or {})), notes)
    training.run()
    return training, seen, notes


class Weighed:
    weight = torch.tensor([1.0, 5.0])

    def __call__(self, scores, targets):
        total = nn.functional.cross_entropy(scores, targets, self.weight, reduction="sum", ignore_index=-1)
        return total / self.denominator(targets).clamp(min=1e-30)

    def denominator(self, targets):
        return (self.weight[targets.clamp(min=0)] * (targets >= 0)).sum()


SPLITS = {
    "plain": {},
    "accumulated": {"recipe": {"accumulate": 2}},
    "clipped": {"recipe": {"clip_norm": 0.1}},
    "weighed": {
        "loss": Weighed(),
        "denominator": Weighed().denominator,
        "targets": torch.tensor([-1] * 5 + [0, 1, 1, 0, 1, 0, 0]),
    },
    "summed": {"loss": nn.CrossEntropyLoss(reduction="sum"), "summed": True},
    "each-sample": {"loss": nn.CrossEntropyLoss(reduction="none")},
    "lbfgs": {"optimizer": lbfgs, "closure": True},
    "adam": {"optimizer": torch.optim.Adam},
    "last-batch-smaller": {"size": 13},
    "odd": {"batch_size": 7},
}


@pytest.mark.parametrize(
    ("way", "most", "error"),
    [*((way, most, "device") for way in SPLITS for most in (1, 3)), ("plain", 2, "host"), ("plain", 2, "python")],
)
def test_split_batches_give_the_gradients_of_whole_ones(way, most, error):
    kind, told = ERRORS[error]
    whole, gradients, notes = trained(100, **SPLITS[way])
    assert notes.lines == []
    split, pieces, notes = trained(most, **SPLITS[way], error={"error": kind, "told": told})
    assert notes.lines
    assert "step 1 on" in notes.lines[0]
    assert len(gradients) == len(pieces)
    near = {"rtol": 1e-2, "atol": 1e-3} if way == "lbfgs" else {"rtol": 1e-4, "atol": 1e-5}  # it multiplies last bits
    for one, other in zip(gradients, pieces, strict=True):
        torch.testing.assert_close(one, other, **near)
    torch.testing.assert_close(whole.parts.model.state_dict(), split.parts.model.state_dict(), **near)
    for row, twin in zip(whole._watcher.rows, notes.rows, strict=True):
        assert row.values["loss"] == pytest.approx(twin.values["loss"], rel=1e-3)


@pytest.mark.parametrize("way", ["plain", "accumulated", "lbfgs", "clipped"])
def test_what_the_failed_attempt_has_drawn_and_counted_is_undone(way):
    """To the last bit as where it was known from the beginning how many samples have room."""
    options = {key: value for key, value in SPLITS[way].items() if key != "recipe"}

    def run(most, known):
        seed_global(0, "train")
        model = Hungry(most, body=weights(dropout=0.5, norm=True))
        ours = parts(model, **options)
        training = Training(ours, Recipe(epochs=2, on_oom="split", **SPLITS[way].get("recipe", {})), Notes())
        training._stepper.most = known
        training.run()
        return state_of(training)

    with preserve_rng_state():
        assert lost(run(2, None), run(2, 2)) == []
        assert lost(run(2, None), run(4, 4)) != []


def test_a_line_tells_of_it_and_what_it_does_to_batch_norm():
    _, _, notes = trained(3)
    assert notes.lines == [
        "out of memory: from step 1 on 2 samples at once go through the model, and their gradients are added up "
        "(trainer.on_oom=split)"
    ]
    _, _, notes = trained(3, body=weights(norm=True))
    assert "batch norm (body.1) sees so many only" in notes.lines[0]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_sample_that_has_no_room_alone_ends_it(batch_size):
    with pytest.raises(ResourceError, match="a single sample") as error:
        trained(0, batch_size=batch_size)
    assert error.value.exit_code == 6


def test_another_error_is_not_taken_for_one_of_memory():
    with pytest.raises(RuntimeError, match="shapes"):
        trained(2, error={"error": RuntimeError, "told": "shapes cannot be multiplied"})


def test_without_split_the_error_ends_it():
    ours = parts(Hungry(2))
    with pytest.raises(torch.OutOfMemoryError):
        Training(ours, Recipe(epochs=1), Notes()).run()


@pytest.mark.parametrize("step", [1, 3, 5])
def test_it_goes_on_exactly_and_does_not_try_again_how_much_has_room(step):
    def fresh():
        ours = parts(Hungry(1, body=weights(dropout=0.5)))
        return Training(ours, Recipe(epochs=2, on_oom="split"), Notes())

    with preserve_rng_state():
        seed_global(0, "train")
        whole = fresh()
        whole.run()
        seed_global(0, "train")
        stopped = fresh()
        stopped.run(until=step)
        state = stopped.state()
        later = fresh()
        later.load_state(state)
        later.run()
        assert later._watcher.lines == []
        assert lost(state_of(later), state_of(whole)) == []


def test_a_step_that_is_no_number_after_a_split_is_told_and_not_out_of_memory():
    notes = Notes(3)
    ours = parts(Hungry(1, body=Body(notes, "layer", NAN)))
    with pytest.raises(NumericalError, match=r"that of body \(Body\)|that of body\.norm \(Identity\)"):
        Training(ours, Recipe(epochs=2, on_oom="split"), notes).run()
    assert notes.replay[-1].again


def test_what_a_pass_changes_is_put_back_from_wherever_it_was():
    model = Body(Notes(), None, 0, norm=True)
    ours = parts(model)
    before = Before(ours)
    model(torch.randn(4, 3))
    before.note((4,))
    generators = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    replaced, kept, calls = model.replaced, [each.clone() for each in model.buffers()], model.calls
    model(torch.randn(4, 3))
    before.learn()
    before.put_back()
    assert model.replaced is replaced
    assert model.calls == calls
    assert all(torch.equal(one, other) for one, other in zip(model.buffers(), kept, strict=True))
    assert random.getstate() == generators[0]
    assert np.random.get_state()[1].tolist() == generators[1]
    assert torch.equal(torch.get_rng_state(), generators[2])


# ---- the real thing

EATER = """
    import resource
    from ptb import Component, hookimpl

    @hookimpl
    def ptb_provide_models():
        return [Component("eater", "ptb_eater:Eater")]

    def __getattr__(name):  # torch is imported with the model
        import torch

        class Eater(torch.nn.Module):
            def __init__(self, spec, *, megabytes: int = 30, room: int = 700, evaluating: bool = False):
                super().__init__()
                self.last = torch.nn.Linear(spec.input_shape[0], spec.output_size)
                self.values, self.room, self.evaluating = megabytes << 18, room << 20, evaluating

            def forward(self, inputs):
                if len(inputs) > 2:  # after what is tried before the training
                    with open("/proc/self/statm") as file:
                        size = int(file.read().split()[0]) * resource.getpagesize()
                    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
                        resource.setrlimit(resource.RLIMIT_AS, (size + self.room, -1))
                eaten = torch.zeros(len(inputs), self.values) if self.training or self.evaluating else inputs
                return self.last(inputs) + 0 * eaten[:, :1]

        if name == "Eater":
            return Eater
        raise AttributeError(name)
    """


def run_eater(ptb, site, *overrides):
    site.add("ptb-eater", EATER)
    dataset = ("--dataset", "random", "dataset.samples=64", "dataset.inputs=vector", "dataset.input_shape=[3]")
    model = ("--model", "eater", "--batch-size", "32", "--epochs", "1", "threads=1", "--output", "out")
    return ptb("run", *dataset, *model, *overrides, site=site.path)


@pytest.mark.skipif(sys.platform != "linux", reason="the size of the process is read from /proc")
def test_a_process_whose_memory_is_limited_says_what_to_try_and_gets_through_with_split(ptb, site, tmp_path):
    done = run_eater(ptb, site)
    assert done.returncode == 6, done.stderr
    assert "out of memory on cpu with loader.batch_size=32; try 16, or trainer.on_oom=split" in done.stderr
    done = ptb("run", "-c", "out/config.toml", "trainer.on_oom=split", "--output", "again", site=site.path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"out of memory: from step 1 on (16|8) samples", (tmp_path / "again" / "log.txt").read_text())


@pytest.mark.skipif(sys.platform != "linux", reason="the size of the process is read from /proc")
def test_an_evaluation_takes_as_many_samples_at_once_as_the_training(ptb, site):
    done = run_eater(ptb, site, "model.evaluating=true", "model.megabytes=60", "trainer.on_oom=split")
    assert done.returncode == 0, done.stderr
    assert "out of memory: from step 1 on 8 samples at once" in done.stderr
    done = ptb("eval", "out", "--split", "train", site=site.path)
    assert done.returncode == 0, done.stderr
