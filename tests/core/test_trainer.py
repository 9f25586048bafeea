import math

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from ptb import Interrupted, NumericalError
from ptb.batches import Batches
from ptb.trainer import Recipe, Parts, Totals, evaluate, fit

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
        self.rows, self.saved, self.events, self.stop_at, self.steps = [], [], [], stop_at, 0

    def epoch_started(self, epoch, steps):
        self.events.append(("epoch", epoch, steps))

    def step_ended(self):
        self.steps += 1

    def row(self, row):
        self.rows.append(row)
        self.events.append((row.split, row.step))

    def checkpoint(self, totals):
        self.saved.append((totals.step, totals.epoch, totals.best_step))
        self.events.append(("save", totals.step))

    def stop_signal(self):
        return 15 if self.steps == self.stop_at else None


def parts(model=None, optimizer=None, loss=None, size=10, batch_size=4, **options):
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(size, 3, generator=generator), torch.randint(2, (size,), generator=generator))
    torch.manual_seed(1)
    model = model or nn.Linear(3, 2)
    optimizer = optimizer or torch.optim.SGD
    optimizer = optimizer(model.parameters(), lr=0.1)
    return Parts(
        model=model,
        loss=loss or nn.CrossEntropyLoss(),
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9),
        train=Batches(data, batch_size=batch_size, device=CPU, seed=0),
        evaluation={
            name: Batches(data, batch_size=batch_size, device=CPU) for name in options.pop("splits", ("val", "test"))
        },
        train_metrics={"score": MeanScore()},
        eval_metrics={"score": MeanScore()},
        device=CPU,
        **options,
    )


def test_the_loop_does_what_a_loop_by_hand_does():
    ours = parts()
    fit(ours, Recipe(epochs=3), Notes(), Totals())
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
    fit(parts(), Recipe(epochs=3), notes, Totals())
    trained = [row.values["loss"] for row in notes.rows if row.split == "train"]
    assert trained == pytest.approx([sum(losses[i : i + 3]) / 10 for i in (0, 3, 6)], rel=1e-6)


def test_a_closure_optimizer_runs_in_the_same_loop():
    ours = parts(optimizer=torch.optim.LBFGS, closure=True)
    fit(ours, Recipe(epochs=2), Notes(), Totals())
    by_hand = parts(optimizer=torch.optim.LBFGS)
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
    totals = Totals()
    fit(parts(), Recipe(epochs=3, eval_every=2), notes, totals)
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
    fit(parts(), Recipe(epochs=1), notes, Totals())
    assert notes.rows[0].lr == pytest.approx(0.1 * 0.9**2)


@pytest.mark.parametrize(
    ("every", "steps"), [(0, [3, 6]), (2, [2, 3, 4, 6]), (1, [1, 2, 3, 4, 5, 6]), (3, [3, 6]), (100, [3, 6])]
)
def test_checkpoints_come_when_asked_for_when_best_and_at_the_end(every, steps):
    notes = Notes()
    fit(parts(), Recipe(epochs=2, checkpoint_every=every), notes, Totals())
    assert [step for step, _, _ in notes.saved] == steps
    assert notes.saved[-1][2] == 6


def test_without_a_validation_split_there_is_no_best():
    notes = Notes()
    totals = Totals()
    fit(parts(splits=()), Recipe(epochs=2), notes, totals)
    assert totals.best_step is None
    assert {row.split for row in notes.rows} == {"train"}


def test_the_model_trains_in_train_mode_and_is_judged_in_eval_mode_under_inference_mode():
    modes = []

    class Spy(nn.Linear):
        def forward(self, inputs):
            modes.append((self.training, torch.is_inference_mode_enabled(), torch.is_grad_enabled()))
            return super().forward(inputs)

    ours = parts(model=Spy(3, 2))
    fit(ours, Recipe(epochs=2), Notes(), Totals())
    assert modes == ([(True, False, True)] * 3 + [(False, True, False)] * 3) * 2 + [(False, True, False)] * 3
    assert set(ours.eval_metrics["score"].calls) == {(True, False)}
    assert set(ours.train_metrics["score"].calls) == {(False, False)}


@pytest.mark.parametrize("cadence", [Recipe(4), Recipe(4, eval_every=3), Recipe(4, checkpoint_every=1)])
def test_neither_evaluation_nor_saving_changes_the_weights(cadence):
    def dropout():
        torch.manual_seed(7)
        return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))

    plain, other = parts(model=dropout(), splits=(), size=12), parts(model=dropout(), size=12)
    for ours, how in ((plain, Recipe(4)), (other, cadence)):
        torch.manual_seed(3)
        fit(ours, how, Notes(), Totals())
    for name, tensor in plain.model.state_dict().items():
        assert torch.equal(tensor, other.model.state_dict()[name]), name


def test_the_mean_weighs_each_sample_alike():
    ours = parts(batch_size=4)
    values = evaluate(ours, ours.evaluation["val"])
    whole = ours.evaluation["val"].source
    assert values["loss"] == pytest.approx(ours.loss(ours.model(whole.inputs), whole.targets).item(), rel=1e-6)


def test_a_loss_that_is_not_finite_stops_after_it_was_logged_and_is_not_saved():
    notes = Notes()

    def loss(scores, targets):
        return nn.functional.cross_entropy(scores, targets) * (math.nan if notes.steps >= 4 else 1)

    with pytest.raises(NumericalError, match="nan in epoch 2") as error:
        fit(parts(loss=loss), Recipe(epochs=3), notes, Totals())
    assert "optimizer.lr" in str(error.value)
    assert [step for step, _, _ in notes.saved] == [3]
    assert math.isnan(notes.rows[-1].values["loss"])


@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_signal_stops_after_the_step_and_saves(step):
    notes = Notes(stop_at=step)
    with pytest.raises(Interrupted) as error:
        fit(parts(), Recipe(epochs=3), notes, Totals())
    assert error.value.exit_code == 143
    assert notes.steps == notes.saved[-1][0] == step


def test_pairs_go_through_the_model_half_by_half():
    ours = parts(pairs=True)
    pairs = torch.randn(5, 2, 3)
    assert ours.forward(pairs).shape == (5, 2, 2)
    torch.testing.assert_close(ours.forward(pairs)[:, 1], ours.model(pairs[:, 1]))


def test_no_step_reads_a_value_back_from_the_device(monkeypatch):
    """Each of these would make a GPU wait; they are counted over two epochs of one step and of many."""
    counts = {}
    for batch_size in (100, 1):
        reads = 0

        def counted(original):
            def read(*arguments):
                nonlocal reads
                reads += 1
                return original(*arguments)

            return read

        with monkeypatch.context() as patch:
            for name in ("item", "__float__", "__int__", "__bool__", "tolist", "cpu", "numpy"):
                patch.setattr(torch.Tensor, name, counted(getattr(torch.Tensor, name)))
            ours = parts(size=40, batch_size=batch_size)
            ours.train_metrics.clear()
            ours.eval_metrics.clear()
            fit(ours, Recipe(epochs=2), Notes(), Totals())
        counts[batch_size] = reads
    assert counts[1] == counts[100] > 0
