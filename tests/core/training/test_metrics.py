import math

import pytest
import torch
from torch import nn

from ptb.data.loader import BatchLoader
from ptb.data.sources import place
from ptb.training import metrics as module
from ptb.training.metrics import RunningMetrics
from ptb.training.objective import Parts

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


def tally(metric=None, **options):
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    source = place({"train": torch.utils.data.TensorDataset(torch.zeros(1, 1), torch.zeros(1))}, CPU)["train"]
    parts = Parts(
        model, nn.MSELoss(), optimizer, None, BatchLoader(source, batch_size=1), {}, {}, {}, device=CPU, **options
    )
    return RunningMetrics(parts, {"seen": metric} if metric else {})


def batch(*targets, loss=1.0):
    return torch.ones(len(targets), 2), torch.tensor(targets), torch.tensor(loss)


def test_a_metric_sees_every_sample_once_in_order_and_several_batches_at_once():
    metric = Seen()
    counted = tally(metric)
    for number in range(module.HELD_BATCHES + 3):
        counted.add(*batch(number, number))
    assert counted.figures() == {"loss": 1.0, "seen": 4.0 * (module.HELD_BATCHES + 3)}
    assert [len(samples) for samples in metric.batches] == [2 * module.HELD_BATCHES, 6]
    assert [n for samples in metric.batches for n in samples] == [
        n for n in range(module.HELD_BATCHES + 3) for _ in range(2)
    ]


def test_large_scores_are_not_kept(monkeypatch):
    monkeypatch.setattr(module, "HELD_VALUES", 8)
    metric = Seen()
    counted = tally(metric)
    for _ in range(4):
        counted.add(*batch(1, 2))
    assert [len(samples) for samples in metric.batches] == [4, 4]
    counted.add(*batch(*range(100)))
    assert len(metric.batches) == 3


def test_the_loss_is_a_mean_over_samples_and_is_asked_for_in_between():
    counted = tally()
    counted.add(*batch(0, 0, 0, loss=1.0))
    assert counted.loss() == 1.0
    counted.add(*batch(0, loss=5.0))
    assert counted.loss() == 2.0
    assert counted.figures() == {"loss": 2.0}


def test_a_loss_that_adds_up_is_divided_by_the_samples():
    counted = tally(summed=True)
    counted.add(*batch(0, 0, 0, loss=3.0))
    counted.add(*batch(0, loss=5.0))
    assert counted.loss() == 2.0


@pytest.mark.parametrize("kind", [int, torch.tensor])
def test_a_denominator_of_the_loss_weighs_its_batches(kind):
    counted = tally(denominator=lambda targets: kind(int(targets.sum())))
    counted.add(*batch(1, 2, loss=1.0))
    counted.add(*batch(0, 1, loss=5.0))
    assert counted.loss() == 2.0


def test_nothing_has_the_loss_0_and_shows_no_metric_anything():
    metric = Seen()
    assert tally(metric).figures() == {"loss": 0.0, "seen": 0.0}
    assert metric.batches == []


def test_metrics_do_not_see_what_the_loss_leaves_out():
    metric = Seen()
    counted = tally(metric, ignored=1)
    counted.add(*batch(0, 1, 2))
    counted.figures()
    assert metric.batches == [[0, 2]]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_where_the_loss_is_not_finite_there_are_no_other_figures(loss):
    counted = tally(Seen())
    counted.add(*batch(0, loss=loss))
    assert list(counted.figures()) == ["loss"]


def test_a_metric_begins_anew():
    metric = Seen()
    metric.update(torch.ones(3), torch.ones(3))
    assert tally(metric).figures()["seen"] == 0.0
