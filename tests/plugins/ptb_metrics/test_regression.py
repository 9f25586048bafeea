import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

from ptb import DataSpec
from ptb_metrics.regression import MAE, RMSE

SPEC = DataSpec((4,), "vector", "real", 3)
both = pytest.mark.parametrize(
    ("metric", "formula"),
    [
        (MAE, lambda x, y: np.abs(x - y).mean()),
        (RMSE, lambda x, y: np.sqrt(((x - y) ** 2).mean())),
    ],
    ids=["mae", "rmse"],
)


def result(metric, scores, targets, size=8):
    for start in range(0, len(scores), size):
        metric.update(torch.tensor(scores[start : start + size]), torch.tensor(targets[start : start + size]))
    return metric.compute()


@both
def test_it_is_the_formula_over_all_values_of_all_batches(metric, formula):
    random = np.random.RandomState(0)
    scores, targets = random.randn(19, 3), random.randn(19, 3)
    assert result(metric(SPEC), scores, targets) == pytest.approx(formula(scores, targets), rel=1e-14)


def test_mae_is_scikit_learn_s():
    scores, targets = np.random.RandomState(0).randn(2, 19, 3)
    assert result(MAE(SPEC), scores, targets) == pytest.approx(mean_absolute_error(targets, scores), rel=1e-14)


def test_rmse_of_one_dimension_is_scikit_learn_s():
    scores, targets = np.random.RandomState(0).randn(2, 19, 1)
    assert result(RMSE(SPEC), scores, targets) == pytest.approx(root_mean_squared_error(targets, scores), rel=1e-14)


@both
def test_many_batches_in_single_precision_add_up_without_loss(metric, formula):
    scores, targets = np.full((4001, 3), 0.1, np.float32), np.zeros((4001, 3), np.float32)
    scores[0] = 30_000
    wanted = formula(scores.astype(np.float64), targets)
    assert result(metric(SPEC), scores, targets, size=4) == pytest.approx(wanted, rel=1e-7)


@both
def test_a_value_that_is_not_a_number_is_not_hidden(metric, formula):
    assert np.isnan(result(metric(SPEC), np.array([[1.0, np.nan, 2.0]]), np.zeros((1, 3))))
