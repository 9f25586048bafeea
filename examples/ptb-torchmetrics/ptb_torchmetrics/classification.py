"""Metrics of classes, of binary targets, and of pairs that are alike or not.

torchmetrics takes scores for probabilities when all of a batch lie in [0, 1], and for logits when not. Logits may lie
there by chance, so it is given probabilities, always.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
import torchmetrics
from torch import Tensor

from ptb import DataSpec
from ptb_torchmetrics.adapter import Adapter, exact
from ptb_torchmetrics.settings import Average, CurveAverage, Norm, Weights


def auroc(spec: DataSpec, *, average: CurveAverage | None = None, thresholds: int | None = None) -> Adapter:
    """Area under the ROC curve: of pairs of a positive and a negative, the part in which the positive scores higher."""
    return _by_class(spec, torchmetrics.AUROC, average, thresholds=thresholds)


def average_precision(spec: DataSpec, *, average: CurveAverage | None = None, thresholds: int | None = None) -> Adapter:
    """Area under the precision-recall curve, as the sum of its steps."""
    return _by_class(spec, torchmetrics.AveragePrecision, average, thresholds=thresholds)


def f1(spec: DataSpec, *, average: Average | None = None) -> Adapter:
    """``2 TP / (2 TP + FP + FN)``."""
    return _by_class(spec, torchmetrics.F1Score, average)


def precision(spec: DataSpec, *, average: Average | None = None) -> Adapter:
    """``TP / (TP + FP)``."""
    return _by_class(spec, torchmetrics.Precision, average)


def recall(spec: DataSpec, *, average: Average | None = None) -> Adapter:
    """``TP / (TP + FN)``; its macro average is the balanced accuracy."""
    return _by_class(spec, torchmetrics.Recall, average)


def specificity(spec: DataSpec, *, average: Average | None = None) -> Adapter:
    """``TN / (TN + FP)``."""
    return _by_class(spec, torchmetrics.Specificity, average)


def jaccard(spec: DataSpec, *, average: Average | None = None) -> Adapter:
    """``TP / (TP + FP + FN)``."""
    return _by_class(spec, torchmetrics.JaccardIndex, average)


def calibration_error(spec: DataSpec, *, bins: int = 15, norm: Norm = "l1") -> Adapter:
    """Over bins of probability, how far its mean is from the part of samples in which it came true.

    The probability is that of the predicted class, for a binary target that of class 1.
    """
    return _adapted(spec, torchmetrics.CalibrationError, n_bins=bins, norm=norm)


def cohen_kappa(spec: DataSpec, *, weights: Weights | None = None) -> Adapter:
    """Cohen's kappa: 1 is full agreement, 0 as much as chance gives."""
    return _adapted(spec, torchmetrics.CohenKappa, weights=weights)


def matthews_corrcoef(spec: DataSpec) -> Adapter:
    """Matthews' correlation coefficient in [-1, 1]."""
    return _adapted(spec, torchmetrics.MatthewsCorrCoef)


def _adapted(spec: DataSpec, metric: Any, **settings: Any) -> Adapter:
    if spec.target == "class":
        built = metric(task="multiclass", num_classes=spec.output_size, validate_args=False, **settings)
        return Adapter(built, partial(_classes, spec))
    return Adapter(metric(task="binary", validate_args=False, **settings), partial(_binary, spec))


def _by_class(spec: DataSpec, metric: Any, average: str | None, **settings: Any) -> Adapter:
    """A metric that has a figure for each class; without ``average``, a binary target has that of class 1."""
    if spec.target == "class":
        return _adapted(spec, metric, average=average or "macro", **settings)
    if average is None:
        return _adapted(spec, metric, **settings)
    built = metric(task="multiclass", num_classes=2, average=average, validate_args=False, **settings)
    return Adapter(built, partial(_two_classes, spec))


def _classes(spec: DataSpec, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities ``[N, C]`` and classes ``[N]`` of the samples whose target is a class; the loss ignores others."""
    counted = (targets >= 0) & (targets < spec.output_size)
    return exact(scores[counted]).softmax(dim=1), targets[counted]


def _binary(spec: DataSpec, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities of class 1 ``[B]``, for pairs their cosine brought to [0, 1], and 0 or 1 ``[B]``."""
    if spec.target == "similarity":
        first, second = exact(scores).unbind(dim=1)
        cosine = F.cosine_similarity(first, second)
        return ((1 + cosine) / 2).clamp(0, 1), (targets > 0).long()  # rounding may have left the range
    return exact(scores[:, 0]).sigmoid(), targets[:, 0].long()


def _two_classes(spec: DataSpec, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The same as probabilities of both classes ``[B, 2]`` and classes ``[B]``."""
    one, true = _binary(spec, scores, targets)
    return torch.stack((1 - one, one), dim=1), true
