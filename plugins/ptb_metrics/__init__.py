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
            summary="Macro F1; in detail each class and the confusion matrix",
            settings="ptb_metrics.settings:ClassReport",
            accepts=("class", "binary"),
            better="higher",
        ),
    ]
