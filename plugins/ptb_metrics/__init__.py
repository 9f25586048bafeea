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
            summary="Part of the samples whose class has the highest score",
            settings="ptb_metrics.settings:Accuracy",
            accepts=("class",),
        ),
    ]
