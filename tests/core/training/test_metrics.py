"""The figures of a pass do not depend on how its samples came in batches."""

import copy
import math
from itertools import pairwise

import pytest
import torch
import torchmetrics
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ptb.data.batch import Batch, MixedBatch
from ptb.training import metrics as module
from ptb.training.metrics import RunningMetrics
from ptb.training.objective import HIDDEN, Objective

CPU = torch.device("cpu")


class Seen:
    def __init__(self):
        self.reset()

    def update(self, scores, targets):
        self.batches.append(targets.tolist())
        self.sum += float(scores.sum())

    def compute(self):
        return self.sum

    def reset(self):
        self.batches = []
        self.sum = 0.0


class Loss(nn.MSELoss):
    """Leaves out what is negative, and weighs by the targets."""

    def ignored(self, targets):
        return targets < 0

    def denominator(self, targets):
        return targets.clamp(min=0).sum()


def running(metric=None, loss=None):
    objective = Objective(nn.Linear(1, 1), loss or nn.MSELoss(), CPU)
    return RunningMetrics(objective, {"seen": metric} if metric else {})


def batch(*targets, loss=1.0):
    scores = torch.ones(len(targets), 2)
    return scores, Batch(scores, torch.tensor(targets)), torch.tensor(loss)


def test_a_metric_sees_every_sample_once_in_order_and_several_batches_at_once():
    metric = Seen()
    figures = running(metric)
    for number in range(module.HELD_BATCHES + 3):
        figures.add(*batch(number, number))
    assert figures.compute() == {"loss": 1.0, "seen": 4.0 * (module.HELD_BATCHES + 3)}
    assert [len(samples) for samples in metric.batches] == [2 * module.HELD_BATCHES, 6]
    samples = [n for n in range(module.HELD_BATCHES + 3) for _ in range(2)]
    assert [n for samples in metric.batches for n in samples] == samples


def test_large_scores_are_not_kept(monkeypatch):
    monkeypatch.setattr(module, "HELD_VALUES", 8)
    metric = Seen()
    figures = running(metric)
    for _ in range(4):
        figures.add(*batch(1, 2))
    assert [len(samples) for samples in metric.batches] == [4, 4]
    figures.add(*batch(*range(100)))
    assert len(metric.batches) == 3


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.MSELoss(reduction="sum"), Loss()], ids=["mean", "sum", "weighed"])
@given(
    samples=st.lists(st.tuples(st.integers(-1, 3), st.floats(-2, 2, width=32)), min_size=1, max_size=12),
    cuts=st.sets(st.integers(1, 11)),
)
@settings(max_examples=20, deadline=None)
def test_the_figures_of_batches_are_those_of_one(loss, samples, cuts):
    targets = torch.tensor([float(target) for target, _ in samples])
    scores = torch.tensor([score for _, score in samples])
    objective = Objective(nn.Linear(1, 1), loss, CPU)
    weights = targets.clamp(min=0) if isinstance(loss, Loss) else torch.ones(len(targets))
    each = (scores - targets).square()

    def mean_loss(rows):
        total = (weights * each)[rows].sum()
        return total if objective.sums else total / weights[rows].sum().clamp(min=1e-30)

    def figures(cuts):
        ours = RunningMetrics(objective, {"error": torchmetrics.MeanSquaredError()})
        edges = [0, *sorted(cut for cut in cuts if cut < len(samples)), len(samples)]
        for start, end in pairwise(edges):
            rows = slice(start, end)
            ours.add(scores[rows], Batch(scores[rows], targets[rows]), mean_loss(rows))
        return ours.compute()

    kept = targets >= 0 if isinstance(loss, Loss) else targets == targets
    if isinstance(loss, Loss) and not kept.any():
        return
    whole = {
        "loss": float((weights * each).sum() / weights.sum()) if weights.sum() else 0.0,
        "error": float(each[kept].mean()),
    }
    assert figures(cuts) == pytest.approx(whole, rel=1e-5, abs=1e-6)
    assert figures({*range(12)}) == pytest.approx(whole, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("kind", [int, torch.tensor])
def test_a_denominator_is_a_number_or_a_tensor(kind):
    loss = nn.MSELoss()
    loss.denominator = lambda targets: kind(int(targets.sum()))
    figures = running(loss=loss)
    figures.add(*batch(1, 2, loss=1.0))
    figures.add(*batch(0, 1, loss=5.0))
    assert figures.compute() == {"loss": 2.0}


def test_no_samples_have_the_loss_0_and_show_no_metric_anything():
    metric = Seen()
    assert running(metric).compute() == {"loss": 0.0, "seen": 0.0}
    assert metric.batches == []


def test_metrics_do_not_see_what_the_loss_ignores():
    metric = Seen()
    figures = running(metric, loss=Loss())
    figures.add(*batch(0, -1, 2))
    figures.add(*batch(-1))
    figures.compute()
    assert metric.batches == [[0, 2]]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_where_the_loss_is_not_finite_no_metric_is_asked(loss):
    class Strict(Seen):
        def compute(self):
            raise ValueError("not a number")

    figures = running(Strict())
    figures.add(*batch(0, loss=loss))
    assert list(figures.compute()) == ["loss"]


def test_a_metric_may_have_several_figures():
    class Several(Seen):
        def compute(self):
            return {"dice": torch.tensor(0.5), "iou": 0.25}

    assert running(Several()).compute() == {"loss": 0.0, "seen/dice": 0.5, "seen/iou": 0.25}


def test_a_metric_begins_anew():
    metric = Seen()
    metric.update(torch.ones(3), torch.ones(3))
    assert running(metric).compute()["seen"] == 0.0


def test_a_metric_cannot_write_into_what_the_training_holds():
    class Writes(Seen):
        def update(self, scores, targets):
            scores.zero_()
            targets.zero_()

    scores, held, loss = batch(1, 2)
    figures = running(Writes())
    figures.add(scores, held, loss)
    figures.compute()
    assert scores.all()
    assert held.targets.all()


@pytest.mark.parametrize("metric", [Seen, torchmetrics.MeanSquaredError])
def test_the_state_brings_back_what_was_taken_in_and_what_waits(metric):
    def add(figures, start, end):
        for number in range(start, end):
            scores = torch.full((2,), number / 7)
            figures.add(scores, Batch(scores, torch.full((2,), number / 9)), torch.tensor(number / 11))

    whole, first, later = running(metric()), running(metric()), running(metric())
    add(whole, 0, 200)
    add(first, 0, 100)
    later.load_state_dict(first.state_dict())
    add(later, 100, 200)
    assert later.compute() == whole.compute()


# Targets at positions, weights, and trees.


class Ignoring:
    """Leaves out the class 9; ``reduction`` is the mean."""

    def __call__(self, scores, targets):
        return nn.functional.cross_entropy(scores, targets, ignore_index=9)

    def ignored(self, targets):
        return targets == 9


class Kept:
    """Notes all that it gets."""

    def __init__(self):
        self.reset()

    def update(self, scores, targets):
        self.batches.append((scores.tolist(), targets.tolist()))

    def compute(self):
        return 0.0

    def reset(self):
        self.batches = []


def at_positions(loss, *, whole=(), **metrics):
    objective = Objective(nn.Linear(1, 1), loss, CPU, positions=True, whole=frozenset(whole))
    return RunningMetrics(objective, metrics)


def scored(targets):
    """Scores ``[B, 2, L]`` of class targets ``[B, L]``: the place of each and its negative, to know them again."""
    places = torch.arange(float(targets.numel())).view(targets.shape)
    return torch.stack([places, -places], 1)


def test_metrics_get_each_position_as_a_sample_without_those_that_do_not_count():
    metric = Kept()
    figures = at_positions(Ignoring(), kept=metric)
    first, second = torch.tensor([[0, HIDDEN], [9, 1]]), torch.tensor([[1, 0, HIDDEN, HIDDEN, 9]])  # of other lengths
    for targets in (first, second, torch.full((2, 1), HIDDEN)):
        figures.add(scored(targets), Batch(targets, targets), torch.tensor(1.0))
    figures.compute()
    assert metric.batches == [([[0, 0], [3, -3], [0, 0], [1, -1]], [0, 1, 1, 0])]


def test_a_metric_is_not_shown_samples_that_all_do_not_count():
    metric = Kept()
    figures = at_positions(Ignoring(), kept=metric)
    targets = torch.full((2, 3), HIDDEN)
    figures.add(scored(targets), Batch(targets, targets), torch.tensor(0.0))
    assert figures.compute() == {"loss": 0.0, "kept": 0.0}
    assert metric.batches == []


def test_a_metric_that_knows_positions_gets_whole_batches_where_all_that_does_not_count_is_hidden():
    metrics = {"knows": Kept(), "flat": Kept()}
    figures = at_positions(Ignoring(), whole=["knows"], **metrics)
    first, second = torch.tensor([[0, HIDDEN], [9, 1]]), torch.tensor([[1, 9]])
    for targets in (first, second):
        figures.add(scored(targets), Batch(targets, targets), torch.tensor(1.0))
    figures.compute()
    ((scores, targets),) = metrics["knows"].batches
    assert targets == [[0, HIDDEN], [HIDDEN, 1], [1, HIDDEN]]
    assert scores == torch.cat([scored(first), scored(second)]).tolist()
    assert [targets for _, targets in metrics["flat"].batches] == [[0, 1, 1]]
    assert (first[1, 0], second[0, 1]) == (9, 9)  # of the batch, which is not changed


def test_whole_batches_of_other_lengths_come_one_by_one():
    metric = Kept()
    figures = at_positions(Ignoring(), whole=["kept"], kept=metric)
    for length in (2, 3):
        targets = torch.zeros(1, length, dtype=torch.int64)
        figures.add(scored(targets), Batch(targets, targets), torch.tensor(1.0))
    figures.compute()
    assert [targets for _, targets in metric.batches] == [[[0, 0]], [[0, 0, 0]]]


def test_the_loss_counts_each_position_once():
    figures = at_positions(nn.CrossEntropyLoss())
    for targets, loss in (([[0, 1, HIDDEN]], 1.0), ([[HIDDEN, HIDDEN, 0]], 4.0)):
        targets = torch.tensor(targets)
        figures.add(scored(targets), Batch(targets, targets), torch.tensor(loss))
    assert figures.compute() == {"loss": 2.0}


def test_the_loss_counts_samples_by_their_weights_and_metrics_each_as_one():
    metric = Seen()
    figures = running(metric, nn.MSELoss(reduction="none"))
    for weight, loss in ((3.0, 1.0), (1.0, 5.0)):
        scores = torch.ones(1, 2)
        figures.add(scores, Batch(scores, torch.zeros(1), torch.tensor([weight])), torch.tensor(loss))
    assert figures.compute() == {"loss": 2.0, "seen": 4.0}


def test_reconstructed_trees_reach_the_metrics_as_trees():
    class Trees(Kept):
        def update(self, scores, targets):
            self.batches.append({name: each.tolist() for name, each in targets.items()})

    metric = Trees()
    figures = running(metric)
    for number in range(2):
        inputs = {"inputs": torch.full((1, 2), float(number)), "table": torch.tensor([number])}
        figures.add(torch.zeros(1, 2), Batch(inputs, inputs), torch.tensor(1.0))
    figures.compute()
    assert metric.batches == [{"inputs": [[0.0, 0.0], [1.0, 1.0]], "table": [0, 1]}]


def test_what_waits_comes_back_with_its_weights():
    first, later = running(Seen(), nn.MSELoss(reduction="none")), running(Seen(), nn.MSELoss(reduction="none"))
    scores = torch.ones(2, 2)
    first.add(scores, Batch(scores, torch.zeros(2), torch.tensor([1.0, 2.0])), torch.tensor(1.0))
    later.load_state_dict(copy.deepcopy(first.state_dict()))
    for figures in (first, later):
        figures.add(scores, Batch(scores, torch.zeros(2), torch.tensor([4.0, 5.0])), torch.tensor(2.0))
    assert later.compute() == first.compute() == {"loss": 1.75, "seen": 8.0}


def test_metrics_see_the_classes_of_mixed_samples_and_the_loss_their_probabilities():
    seen = Seen()
    metrics = running(seen, nn.CrossEntropyLoss())
    probabilities = torch.tensor([[0.3, 0.7], [0.9, 0.1]])
    mixed = MixedBatch.of_classes(Batch(torch.rand(2, 3), probabilities), torch.tensor([0, 1]))
    metrics.add(torch.rand(2, 2), mixed, torch.tensor(0.5))
    again = running(seen, nn.CrossEntropyLoss())
    again.load_state_dict(metrics.state_dict())
    assert again.compute()["loss"] == 0.5
    assert seen.batches == [[0, 1]]
    assert mixed.map(lambda tensor: tensor[:1]).classes.tolist() == [0]
    assert mixed.map(lambda tensor: tensor[:1]).targets.tolist() == probabilities[:1].tolist()
