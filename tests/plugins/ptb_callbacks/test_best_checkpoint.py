import copy
import math
import warnings

import pytest

from ptb.training.snapshot import restore_snapshot, take_snapshot
from ptb_callbacks.best_checkpoint import BestCheckpoint


class Scripted:
    """A metric that has a given value at each step."""

    def __init__(self, trainer, values):
        self.trainer = trainer
        self.values = values

    def __deepcopy__(self, memo):
        return self

    def update(self, scores, targets):
        pass

    def compute(self):
        return self.values[self.trainer.state.step - 1]

    def reset(self):
        pass


def evaluated(make, values, **options):
    """A training whose evaluations, one a step, give these values; and its observer."""
    observer = BestCheckpoint(**{"monitor": "val/score", "mode": "max"} | options)
    trainer = make(observers={"second": observer}, batch_size=37, accumulate=1, epochs=len(values))
    trainer.eval_metrics["score"] = Scripted(trainer, values)
    return trainer, observer


@pytest.mark.parametrize(
    ("values", "mode", "step"),
    [
        ([1.0, 3.0, 2.0], "max", 2),
        ([3.0, 1.0, 2.0], "min", 2),
        ([1.0, 2.0, 2.0], "max", 2),  # the first of equals
        ([math.nan, 1.0, math.nan], "max", 2),
        ([math.nan, 1.0, math.nan], "min", 2),
        ([0.0, -1.0, -2.0], "max", 1),
    ],
)
def test_it_keeps_the_best_under_its_label(make, values, mode, step):
    trainer, _ = evaluated(make, values, mode=mode)
    trainer.fit()
    assert trainer.state.labels["val-score"] == step


def test_without_a_number_there_is_none(make):
    trainer, _ = evaluated(make, [math.nan] * 3)
    trainer.fit()
    assert "val-score" not in trainer.state.labels


@pytest.mark.parametrize("stop", [1, 3])
def test_it_goes_on_with_its_best_value(make, stop):
    values = [1.0, 3.0, 2.0, 2.5, 3.0]
    first, _ = evaluated(make, values)
    first.fit(stop_after=stop)
    saved = copy.deepcopy(take_snapshot(first))
    second, observer = evaluated(make, values)
    restore_snapshot(second, saved)
    second.fit()
    assert second.state.labels["val-score"] == 2
    assert observer.value == 3.0


def test_the_label_is_the_figure_s_unless_there_is_another():
    assert BestCheckpoint(monitor="val/report/recall_macro", mode="max").label == "val-report-recall-macro"
    assert BestCheckpoint(monitor="val/loss", mode="min", label="Steady").label == "Steady"


def test_it_stands_beside_the_core_s_own_best(make):
    trainer, _ = evaluated(make, [1.0, 3.0, 2.0])
    trainer.fit()
    assert trainer.state.labels["best"] == trainer.state.best_step == 3
    assert trainer.state.labels["val-score"] == 2


def test_a_figure_that_nothing_reports_is_said_at_once_with_those_that_are(make):
    trainer, _ = evaluated(make, [1.0, 2.0], monitor="val/accuracy")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit()
    assert [str(each.message).partition("ConfigError: ")[2].partition(";")[0] for each in caught] == [
        "best-checkpoint: nothing reports val/accuracy"
    ]
    assert "reported are val/loss, val/score" in str(caught[0].message)
    assert "val-accuracy" not in trainer.state.labels


def test_a_split_that_is_never_evaluated_is_said_at_the_end(make):
    trainer, _ = evaluated(make, [1.0, 2.0], monitor="holdout/loss")
    with pytest.warns(
        UserWarning, match="nothing reported holdout/loss; reported were train/loss, val/loss, val/score"
    ):
        trainer.fit()
