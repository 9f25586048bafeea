"""Metrics of numbers; of targets with several dimensions, the mean of theirs."""

import warnings

import torchmetrics
from torch import Tensor

from ptb import DataSpec
from ptb_torchmetrics.adapter import Adapter, exact
from ptb_torchmetrics.settings import Multioutput


def r2(spec: DataSpec, *, multioutput: Multioutput = "uniform_average") -> Adapter:
    """1 minus the squared error over the squared distance from the mean; 0 is no better than the mean."""
    return _adapted(torchmetrics.R2Score(multioutput=multioutput))


def explained_variance(spec: DataSpec, *, multioutput: Multioutput = "uniform_average") -> Adapter:
    """1 minus the variance of the error over that of the targets."""
    return _adapted(torchmetrics.ExplainedVariance(multioutput=multioutput))


def pearson(spec: DataSpec) -> Adapter:
    """Pearson's correlation coefficient in [-1, 1]."""
    return _adapted(torchmetrics.PearsonCorrCoef(num_outputs=spec.output_size))


def spearman(spec: DataSpec) -> Adapter:
    """Spearman's rank correlation in [-1, 1]; it keeps every prediction in memory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it would say so at every run
        return _adapted(torchmetrics.SpearmanCorrCoef(num_outputs=spec.output_size))


def concordance(spec: DataSpec) -> Adapter:
    """Lin's concordance correlation coefficient in [-1, 1]: the correlation, less for another mean or spread."""
    return _adapted(torchmetrics.ConcordanceCorrCoef(num_outputs=spec.output_size))


def _adapted(metric: torchmetrics.Metric) -> Adapter:
    return Adapter(metric, _numbers, least=2)  # one sample has no variance


def _numbers(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Predictions and targets ``[B, D]``."""
    return exact(scores), exact(targets)
