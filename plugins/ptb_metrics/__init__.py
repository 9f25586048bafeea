"""The built-in metrics."""

from collections.abc import Iterable

from ptb import Component, hookimpl


@hookimpl
def ptb_provide_metrics() -> Iterable[Component]:
    """Figures by which people judge a model."""
    return [
        Component(
            "accuracy",
            "ptb_metrics.accuracy:Accuracy",
            summary="Part of the samples whose class is told right",
            settings="ptb_metrics.settings:Accuracy",
            accepts=("class", "binary"),
            default_for=("class", "class+positions", "binary"),
            better="higher",
        ),
        Component(
            "top-k",
            "ptb_metrics.top_k:TopK",
            summary="Part of the samples whose class is among the k highest scores",
            settings="ptb_metrics.settings:TopK",
            accepts=("class",),
            better="higher",
        ),
        Component(
            "mae",
            "ptb_metrics.regression:MAE",
            summary="Mean absolute error, in the units of the targets",
            settings="ptb_metrics.settings:MAE",
            accepts=("real",),
            default_for=("real",),
            better="lower",
        ),
        Component(
            "rmse",
            "ptb_metrics.regression:RMSE",
            summary="Root of the mean squared error, in the units of the targets",
            settings="ptb_metrics.settings:RMSE",
            accepts=("real",),
            default_for=("real",),
            better="lower",
        ),
        Component(
            "class-report",
            "ptb_metrics.class_report:ClassReport",
            summary="Macro F1 of the classes that occur; in detail each class and the confusion matrix",
            settings="ptb_metrics.settings:ClassReport",
            accepts=("class", "binary"),
            better="higher",
        ),
        Component(
            "precision",
            "ptb_metrics.precision:Precision",
            summary="Of what is predicted as a class or label, the part that is right",
            settings="ptb_metrics.settings:Precision",
            accepts=("class", "binary", "multilabel"),
            better="higher",
        ),
        Component(
            "recall",
            "ptb_metrics.recall:Recall",
            summary="Of the samples of a class or label, the part that is found",
            settings="ptb_metrics.settings:Recall",
            accepts=("class", "binary", "multilabel"),
            better="higher",
        ),
        Component(
            "f1",
            "ptb_metrics.f1:F1",
            summary="Precision and recall in one number, their harmonic mean",
            settings="ptb_metrics.settings:F1",
            accepts=("class", "binary", "multilabel"),
            default_for=("multilabel",),
            better="higher",
        ),
        Component(
            "roc-auc",
            "ptb_metrics.roc_auc:RocAuc",
            summary="How well the scores rank: area under the ROC curve, from all of them",
            settings="ptb_metrics.settings:RocAuc",
            accepts=("class", "binary", "multilabel"),
            better="higher",
        ),
        Component(
            "r2",
            "ptb_metrics.r2:R2",
            summary="Part of the variation of the targets that is explained",
            settings="ptb_metrics.settings:R2",
            accepts=("real",),
            better="higher",
        ),
        Component(
            "mean-iou",
            "ptb_metrics.mean_iou:MeanIoU",
            summary="Overlap of what is predicted as a class and what is one, the mean over classes",
            settings="ptb_metrics.settings:MeanIoU",
            accepts=("class",),
            default_for=("class+positions",),
            better="higher",
        ),
        Component(
            "balanced-accuracy",
            "ptb_metrics.balanced_accuracy:BalancedAccuracy",
            summary="Accuracy in which every class counts the same, frequent or rare",
            settings="ptb_metrics.settings:BalancedAccuracy",
            accepts=("class", "binary"),
            better="higher",
        ),
    ]
