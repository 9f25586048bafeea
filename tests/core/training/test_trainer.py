import gc
import math
import random
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from ptb import InterruptedRunError, NumericalError
from ptb.data.loader import BatchLoader
from ptb.data.sources import place
from ptb.training.objective import Parts
from ptb.training.trainer import Recipe, Training, evaluate, sample_losses

CPU = torch.device("cpu")


class MeanScore:
    """A metric that remembers how it was called."""

    def __init__(self):
        self.calls, self.sum, self.count = [], 0.0, 0

    def update(self, scores, targets):
        self.calls.append((torch.is_inference(scores), scores.requires_grad))
        self.sum, self.count = self.sum + scores.sum().item(), self.count + len(targets)

    def compute(self):
        return torch.tensor(self.sum / self.count)

    def reset(self):
        self.sum, self.count = 0.0, 0


class Notes:
    """A watcher that writes everything down."""

    def __init__(self, stop_at=None):
        self.rows, self.saved, self.events, self.lines, self.replays = [], [], [], [], []
        self.stop_at, self.steps = stop_at, 0

    def epoch_started(self, epoch, steps, taken):
        self.events.append(("epoch", epoch, steps, taken))

    def step_ended(self):
        self.steps += 1

    def row(self, row):
        self.rows.append(row)
        self.events.append((row.split, row.step))

    def line(self, text):
        self.lines.append(text)

    def save(self, training):
        totals = training.totals
        self.saved.append((totals.step, totals.epoch, totals.best_step))
        self.events.append(("save", totals.step))

    def save_replay(self, state, step, group, samples, finding):
        self.replays.append((step, samples, finding))
        return "replay-file"

    def stop_signal(self):
        return 15 if self.steps == self.stop_at else None


def parts(model=None, optimizer=None, loss=None, size=10, batch_size=4, **options):
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(size, 3, generator=generator), torch.randint(2, (size,), generator=generator)
    data = TensorDataset(inputs, options.pop("targets", targets))
    source = place({"train": data}, CPU)["train"]
    torch.manual_seed(1)
    model = model or nn.Linear(3, 2)
    optimizer = optimizer or torch.optim.SGD
    optimizer = optimizer(model.parameters(), lr=0.1)
    return Parts(
        model=model,
        loss=loss or nn.CrossEntropyLoss(),
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9),
        train=BatchLoader(source, batch_size=batch_size, seed=0, shuffle=True),
        evaluation={
            name: BatchLoader(source, batch_size=batch_size) for name in options.pop("splits", ("val", "test"))
        },
        train_metrics={"score": MeanScore()},
        eval_metrics={"score": MeanScore()},
        device=CPU,
        **options,
    )


def fit(ours, recipe, watcher):
    training = Training(ours, recipe, watcher)
    training.run()
    return training.totals


def test_the_loop_does_what_a_loop_by_hand_does():
    ours = parts()
    fit(ours, Recipe(epochs=3), Notes())
    by_hand = parts()
    losses = []
    for epoch in (1, 2, 3):
        for inputs, targets in by_hand.train.epoch(epoch):
            by_hand.optimizer.zero_grad()
            loss = by_hand.loss(by_hand.model(inputs), targets)
            loss.backward()
            by_hand.optimizer.step()
            by_hand.scheduler.step()
            losses.append(loss.item() * len(targets))
    for one, other in zip(ours.model.parameters(), by_hand.model.parameters(), strict=True):
        assert torch.equal(one, other)
    notes = Notes()
    fit(parts(), Recipe(epochs=3), notes)
    trained = [row.values["loss"] for row in notes.rows if row.split == "train"]
    assert trained == pytest.approx([sum(losses[i : i + 3]) / 10 for i in (0, 3, 6)], rel=1e-6)


@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
def test_a_closure_optimizer_runs_in_the_same_loop(line_search):
    def lbfgs(parameters, lr):
        return torch.optim.LBFGS(parameters, lr, line_search_fn=line_search)

    ours = parts(optimizer=lbfgs, closure=True)
    fit(ours, Recipe(epochs=2), Notes())
    by_hand = parts(optimizer=lbfgs)
    for epoch in (1, 2):
        for inputs, targets in by_hand.train.epoch(epoch):

            def closure(inputs=inputs, targets=targets):
                by_hand.optimizer.zero_grad()
                loss = by_hand.loss(by_hand.model(inputs), targets)
                loss.backward()
                return loss

            by_hand.optimizer.step(closure)
            by_hand.scheduler.step()
    assert torch.equal(ours.model.weight, by_hand.model.weight)


def test_rows_come_once_for_each_step_and_split_and_the_test_split_last():
    notes = Notes()
    totals = fit(parts(), Recipe(epochs=3, eval_every=2), notes)
    assert [(row.split, row.step, row.epoch) for row in notes.rows] == [
        ("train", 3, 1),
        ("train", 6, 2),
        ("val", 6, 2),
        ("train", 9, 3),
        ("val", 9, 3),
        ("test", 9, 3),
    ]
    assert (totals.step, totals.epoch, totals.samples) == (9, 3, 30)
    assert set(totals.metrics) == {
        f"{split}/{label}" for split in ("train", "val", "test") for label in ("loss", "score")
    }


def test_a_row_tells_the_learning_rate_that_its_step_used():
    notes = Notes()
    fit(parts(), Recipe(epochs=1), notes)
    assert notes.rows[0].lr == pytest.approx(0.1 * 0.9**2)


@pytest.mark.parametrize(
    ("every", "steps"), [(0, [3, 6]), (2, [2, 3, 4, 6]), (1, [1, 2, 3, 4, 5, 6]), (3, [3, 6]), (100, [3, 6])]
)
def test_checkpoints_come_when_asked_for_when_best_and_at_the_end(every, steps):
    notes = Notes()
    fit(parts(), Recipe(epochs=2, checkpoint_every=every), notes)
    assert [step for step, _, _ in notes.saved] == steps
    assert notes.saved[-1][2] == 6


def test_without_a_validation_split_there_is_no_best():
    notes = Notes()
    totals = fit(parts(splits=()), Recipe(epochs=2), notes)
    assert totals.best_step is None
    assert {row.split for row in notes.rows} == {"train"}


def test_the_model_trains_in_train_mode_and_is_judged_in_eval_mode_under_inference_mode():
    modes = []

    class Spy(nn.Linear):
        def forward(self, inputs):
            modes.append((self.training, torch.is_inference_mode_enabled(), torch.is_grad_enabled()))
            return super().forward(inputs)

    ours = parts(model=Spy(3, 2))
    fit(ours, Recipe(epochs=2), Notes())
    assert modes == ([(True, False, True)] * 3 + [(False, True, False)] * 3) * 2 + [(False, True, False)] * 3
    assert set(ours.eval_metrics["score"].calls) == {(True, False)}
    assert set(ours.train_metrics["score"].calls) == {(False, False)}


class Rude(nn.Module):
    """SampleGenerator random numbers, counts and moves a buffer whenever it is called, and changes with all of them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(7)
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
        self.register_buffer("seen", torch.zeros(()), persistent=False)
        self.calls = 0
        self.own = torch.Generator().manual_seed(1)

    def forward(self, inputs):
        self.calls += 1
        self.seen += 1
        noise = torch.rand(1) + torch.rand(1, generator=self.own) + random.random() + np.random.rand()
        return self.layers(inputs) * (1 + 0.1 * self.seen + 0.01 * self.calls + 0.1 * noise)


CADENCES = [
    Recipe(4),
    Recipe(4, eval_every=3),
    Recipe(4, eval_every=0),
    Recipe(4, eval_steps=1),
    Recipe(4, eval_every=0, eval_steps=2),
    Recipe(4, checkpoint_every=1),
]


@pytest.mark.parametrize("cadence", CADENCES, ids=str)
def test_neither_evaluation_nor_saving_changes_the_weights(cadence):
    plain, other = parts(model=Rude(), splits=(), size=12), parts(model=Rude(), size=12)
    for ours, how in ((plain, Recipe(4)), (other, cadence)):
        torch.manual_seed(3)
        random.seed(3)
        np.random.seed(3)
        fit(ours, how, Notes())
    assert other.model.calls == plain.model.calls == 12
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(tensor, other.model.state_dict()[name]), name


def test_the_mean_weighs_each_sample_alike():
    ours = parts(batch_size=4)
    values = evaluate(ours, ours.evaluation["val"])
    inputs, targets = ours.evaluation["val"].probe(10)
    assert values["loss"] == pytest.approx(ours.loss(ours.model(inputs), targets).item(), rel=1e-6)


def test_a_loss_that_is_not_finite_stops_before_the_step_after_it_was_logged():
    notes = Notes()

    def loss(scores, targets):
        return nn.functional.cross_entropy(scores, targets) * (math.nan if notes.steps >= 4 else 1)

    ours, other = parts(loss=loss), parts()
    with pytest.raises(NumericalError, match="the loss is nan at step 5") as error:
        fit(ours, Recipe(epochs=3), notes)
    assert "optimizer.lr" in str(error.value)
    assert "ptb replay replay-file" in str(error.value)
    assert [step for step, _, _ in notes.saved] == [3]
    assert (notes.rows[-1].split, notes.rows[-1].step, notes.rows[-1].epoch) == ("train", 5, 2)
    assert math.isnan(notes.rows[-1].values["loss"])
    Training(other, Recipe(epochs=3), Notes()).run(until=4)
    assert torch.equal(ours.model.weight, other.model.weight)


@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_signal_stops_after_the_step_and_saves(step):
    notes = Notes(stop_at=step)
    with pytest.raises(InterruptedRunError) as error:
        fit(parts(), Recipe(epochs=3), notes)
    assert error.value.exit_code == 143
    assert notes.steps == notes.saved[-1][0] == step


def test_pairs_go_through_the_model_half_by_half():
    ours = parts(pairs=True)
    pairs = torch.randn(5, 2, 3)
    assert ours.forward(pairs).shape == (5, 2, 2)
    torch.testing.assert_close(ours.forward(pairs)[:, 1], ours.model(pairs[:, 1]))


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_step_reads_one_value_back_from_the_device(monkeypatch, clip_norm):
    """Each of these would make a GPU wait; they are counted over two epochs of one step and of forty."""
    counts = {}
    for batch_size in (100, 1):
        reads = 0

        def counted(original):
            def read(*arguments):
                nonlocal reads
                reads += 1
                return original(*arguments)

            return read

        ours = parts(size=40, batch_size=batch_size)
        ours.train_metrics.clear()
        ours.eval_metrics.clear()
        Training(ours, Recipe(epochs=2), Notes()).run(until=1)  # the first step looks at all that a step changes
        with monkeypatch.context() as patch:
            for name in ("item", "__float__", "__int__", "__bool__", "tolist", "cpu", "numpy"):
                patch.setattr(torch.Tensor, name, counted(getattr(torch.Tensor, name)))
            fit(ours, Recipe(epochs=2, clip_norm=clip_norm), Notes())
        counts[batch_size] = reads
    assert counts[1] - counts[100] == 80 - 2


@pytest.mark.parametrize("size", [8, 10, 11])
def test_accumulated_batches_train_as_one_batch_of_their_size(size):
    small, large = parts(size=size, batch_size=2), parts(size=size, batch_size=6)
    notes = Notes(), Notes()
    fit(small, Recipe(epochs=3, accumulate=3), notes[0])
    fit(large, Recipe(epochs=3), notes[1])
    torch.testing.assert_close(small.model.weight, large.model.weight, rtol=1e-5, atol=1e-6)
    one, other = ([(row.step, row.split) for row in each.rows] for each in notes)
    assert one == other
    for row, twin in zip(notes[0].rows, notes[1].rows, strict=True):
        assert row.values["loss"] == pytest.approx(twin.values["loss"], rel=1e-4)


class Weighed:
    """Class weights and an ignored class: its mean is not one over samples."""

    weight = torch.tensor([1.0, 5.0])

    def __call__(self, scores, targets):
        total = nn.functional.cross_entropy(scores, targets, self.weight, reduction="sum", ignore_index=-1)
        return total / self.denominator(targets).clamp(min=1e-30)

    def denominator(self, targets):
        return (self.weight[targets.clamp(min=0)] * (targets >= 0)).sum()


def weighed(size=12, batch_size=4):
    targets = torch.arange(size) % 2
    targets[: size // 3] = -1  # at small batch sizes a batch of ignored samples only
    return parts(loss=Weighed(), denominator=Weighed().denominator, batch_size=batch_size, targets=targets, size=size)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_the_mean_of_a_weighed_loss_is_the_same_at_every_batch_size(batch_size):
    whole, small = weighed(batch_size=12), weighed(batch_size=batch_size)
    wanted = evaluate(whole, whole.evaluation["val"])["loss"]
    ((inputs, targets),) = whole.evaluation["val"].epoch()
    assert wanted == pytest.approx(whole.loss(whole.model(inputs), targets).item(), rel=1e-6)
    assert evaluate(small, small.evaluation["val"])["loss"] == pytest.approx(wanted, rel=1e-6)


def test_accumulated_batches_of_a_weighed_loss_train_as_one_batch():
    small, large = weighed(size=12, batch_size=2), weighed(size=12, batch_size=6)  # with batches of ignored samples
    for each in (small, large):
        each.train.shuffle = False
    notes = Notes(), Notes()
    fit(small, Recipe(epochs=3, accumulate=3), notes[0])
    fit(large, Recipe(epochs=3), notes[1])
    torch.testing.assert_close(small.model.weight, large.model.weight, rtol=1e-5, atol=1e-6)
    for row, twin in zip(notes[0].rows, notes[1].rows, strict=True):
        assert row.values["loss"] == pytest.approx(twin.values["loss"], rel=1e-4)


def test_a_loss_that_adds_up_is_not_weighed_again():
    ours = parts(batch_size=4, loss=nn.CrossEntropyLoss(reduction="sum"), summed=True)
    mean = parts(batch_size=4)
    assert evaluate(ours, ours.evaluation["val"])["loss"] == pytest.approx(
        evaluate(mean, mean.evaluation["val"])["loss"], rel=1e-6
    )
    by_hand = parts(batch_size=4, loss=nn.CrossEntropyLoss(reduction="sum"))
    fit(ours, Recipe(epochs=1), Notes())
    for inputs, targets in by_hand.train.epoch(1):
        by_hand.optimizer.zero_grad()
        by_hand.loss(by_hand.model(inputs), targets).backward()
        by_hand.optimizer.step()
        by_hand.scheduler.step()
    assert torch.equal(ours.model.weight, by_hand.model.weight)


def test_of_a_loss_for_each_sample_the_mean_drives_the_step():
    each, mean = parts(loss=nn.CrossEntropyLoss(reduction="none")), parts()
    assert sample_losses(mean, mean.evaluation["val"]) is None
    losses = sample_losses(each, each.evaluation["val"])
    assert losses.shape == (10,)
    assert float(losses.mean()) == pytest.approx(evaluate(each, each.evaluation["val"])["loss"], rel=1e-6)
    fit(each, Recipe(epochs=2), Notes())
    fit(mean, Recipe(epochs=2), Notes())
    torch.testing.assert_close(each.model.weight, mean.model.weight)


def test_gradients_are_scaled_down_to_the_norm_that_is_allowed():
    def norms(clip_norm):
        ours, seen = parts(), []

        def spy(*_):
            seen.append(float(nn.utils.get_total_norm([p.grad for p in ours.model.parameters()])))

        ours.optimizer.register_step_pre_hook(spy)
        fit(ours, Recipe(epochs=2, clip_norm=clip_norm), Notes())
        return seen

    free = norms(None)
    limit = sorted(free)[2]
    assert max(norms(limit)) <= limit * 1.0001 < max(free)
    assert norms(1e9) == free


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_lower_precision_computes_in_that_type_and_trains(dtype):
    seen = set()

    class Spy(nn.Linear):
        def forward(self, inputs):
            scores = super().forward(inputs)
            seen.add(scores.dtype)
            return scores

    ours = parts(model=Spy(3, 2), autocast=dtype)
    before = evaluate(ours, ours.evaluation["val"])["loss"]
    fit(ours, Recipe(epochs=20), Notes())
    assert evaluate(ours, ours.evaluation["val"])["loss"] < before
    assert seen == {dtype}
    assert ours.model.weight.dtype == torch.float32


def test_a_metric_that_raises_on_what_is_not_finite_does_not_hide_the_loss():
    class Strict(MeanScore):
        def compute(self):
            raise ValueError("NaN")

    ours = parts(loss=lambda scores, _: scores.sum() * math.nan)
    ours.train_metrics["strict"] = Strict()
    notes = Notes()
    with pytest.raises(NumericalError):
        fit(ours, Recipe(epochs=1), notes)
    assert list(notes.rows[0].values) == ["loss"]


class Large(torch.autograd.Function):
    """Multiplies the gradients, so that they overflow fp16 until their scale has come down."""

    factor = 1.0

    @staticmethod
    def forward(_, values):
        return values.clone()

    @staticmethod
    def backward(_, gradients):
        return gradients * Large.factor


class Overflowing(nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs.half()) if inputs.dtype == torch.float16 else Large.apply(super().forward(inputs))


def test_fp16_steps_whose_gradients_overflow_are_skipped_counted_and_leave_the_schedule_alone():
    ours = parts(model=Overflowing(3, 2), autocast=torch.float16)
    Large.factor = 4.0
    totals = fit(ours, Recipe(epochs=10), Notes())
    assert 0 < totals.skipped < totals.step == 30
    assert ours.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.9 ** (30 - totals.skipped))


@pytest.mark.parametrize(("epochs", "said"), [(1, "no step could be taken"), (20, "even when they are not scaled up")])
def test_a_training_all_of_whose_steps_are_skipped_is_not_called_finished(epochs, said):
    ours = parts(model=Overflowing(3, 2), autocast=torch.float16)
    before = ours.model.weight.clone()
    Large.factor = math.inf
    with pytest.raises(NumericalError, match=said):
        fit(ours, Recipe(epochs=epochs), Notes())
    assert torch.equal(ours.model.weight, before)


def test_training_ends_when_patience_does_and_the_test_split_is_still_measured():
    notes = Notes()
    ours = parts()
    ours.optimizer.param_groups[0]["lr"] = 0.0
    ours.scheduler.base_lrs = [0.0]
    totals = fit(ours, Recipe(epochs=50, patience=3), notes)
    assert totals.epoch == 4
    assert notes.rows[-1].split == "test"
    assert notes.saved[-1][0] == totals.step
    assert totals.best_step == 3


def test_a_scheduler_is_told_of_optimizer_steps_not_of_batches():
    notes = Notes()
    fit(parts(size=10, batch_size=2), Recipe(epochs=1, accumulate=2), notes)
    assert notes.steps == 3
    assert notes.events[0] == ("epoch", 1, 3, 0)


def test_a_validation_loss_that_is_not_finite_stops_and_is_not_saved():
    notes = Notes()

    def loss(scores, targets):
        return nn.functional.cross_entropy(scores, targets) * (1 if torch.is_grad_enabled() else math.inf)

    with pytest.raises(NumericalError, match="the validation loss is inf after step 3"):
        fit(parts(loss=loss), Recipe(epochs=3), notes)
    assert notes.saved == []


def test_a_checkpoint_inside_an_epoch_is_not_saved_with_a_loss_that_is_not_finite():
    notes = Notes()

    def loss(scores, targets):
        return nn.functional.cross_entropy(scores, targets) * (math.nan if notes.steps >= 1 else 1)

    with pytest.raises(NumericalError):
        fit(parts(loss=loss), Recipe(epochs=3, checkpoint_every=1), notes)
    assert [step for step, _, _ in notes.saved] == [1]


def test_no_step_calls_a_hook_a_registry_or_a_config(monkeypatch):
    import pluggy

    def called(*arguments, **options):
        raise AssertionError("not while training")

    ours = parts(size=40, batch_size=4)
    with monkeypatch.context() as patch:  # pytest itself calls hooks
        patch.setattr(pluggy.HookCaller, "__call__", called)
        patch.setattr("ptb.registry.registry.Registry.get", called)
        fit(ours, Recipe(epochs=2), Notes())


def test_steps_leave_nothing_behind(monkeypatch):
    """Python objects that live after a step, counted over many steps: none but those of the rows."""

    def objects(epochs):
        ours, notes = parts(size=64, batch_size=1), Notes()
        gc.collect()
        before = len(gc.get_objects())
        fit(ours, Recipe(epochs=epochs), notes)
        gc.collect()
        return len(gc.get_objects()) - before

    objects(1)
    assert objects(4) - objects(2) < 64  # 128 more steps


def test_the_collector_is_off_in_steps_and_on_again_after_them():
    inside = []

    class Watching(Notes):
        def step_ended(self):
            inside.append(gc.isenabled())
            super().step_ended()

    fit(parts(), Recipe(epochs=1), Watching())
    assert inside
    assert not any(inside)
    assert gc.isenabled()
    with pytest.raises(InterruptedRunError):
        fit(parts(), Recipe(epochs=1), Notes(stop_at=1))
    assert gc.isenabled()
    gc.disable()
    try:
        fit(parts(), Recipe(epochs=1), Notes())
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_cycles_made_in_a_step_do_not_pile_up():
    alive = weakref.WeakSet()

    class Cyclic(nn.Linear):
        def forward(self, inputs):
            thing = type("Thing", (), {})()
            thing.itself = thing
            alive.add(thing)
            return super().forward(inputs)

    class Watching(Notes):
        most = 0

        def step_ended(self):
            self.most = max(self.most, len(alive))
            super().step_ended()

    notes = Watching()
    fit(parts(model=Cyclic(3, 2), size=300, batch_size=1), Recipe(epochs=1), notes)
    assert notes.most <= 65


def test_an_optimizer_with_a_zero_grad_of_its_own_is_asked():
    calls = []

    class Own(torch.optim.SGD):
        def zero_grad(self, set_to_none=True):
            calls.append(set_to_none)
            super().zero_grad(set_to_none)

    fit(parts(optimizer=Own), Recipe(epochs=1), Notes())
    assert calls == [True] * 3
