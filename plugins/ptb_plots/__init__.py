"""The built-in plots: what a run has recorded, as figures of matplotlib and seaborn and charts of pyecharts."""

from collections.abc import Iterable

from ptb import Component, hookimpl

MATPLOTLIB = ("matplotlib>=3.9",)
SEABORN = ("matplotlib>=3.9", "seaborn>=0.13.2")
PYECHARTS = ("pyecharts>=2.0.9",)
CLASSES = ("class", "binary")
LABELS = ("class", "binary", "multilabel")


@hookimpl
def ptb_provide_plots() -> Iterable[Component]:
    """They read run directories; none trains, and none asks a network."""
    history, predictions, samples = ("history",), ("predictions",), ("predictions", "samples")
    return [
        _plot("curves", "curves", "Loss and metrics over the training, for one run or several", MATPLOTLIB, history),
        _plot("learning-rate", "learning_rate", "The learning rate over the training", MATPLOTLIB, history),
        _plot("samples", "pictures", "Samples with what is predicted for them", MATPLOTLIB, samples),
        _plot("worst-samples", "pictures", "The samples that cost most", MATPLOTLIB, samples),
        _plot("filters", "filters", "The weights of the first layer as pictures", MATPLOTLIB, ("weights",)),
        _plot("histograms", "histograms", "Weights and gradients of each layer over the training", MATPLOTLIB, history),
        _plot("confusion", "confusion", "Which classes are taken for which others", SEABORN, predictions, CLASSES),
        _plot("per-class", "classes", "Precision and recall of each class", SEABORN, predictions, CLASSES),
        _plot("class-balance", "classes", "The part of each class in each split", SEABORN, predictions, LABELS),
        _plot("features", "table", "How the values of each column of a table are spread", SEABORN),
        _plot("correlations", "table", "Which columns of a table go together", SEABORN),
        _plot("residuals", "real", "Prediction minus truth of real targets", SEABORN, predictions, ("real",)),
        _plot("truth", "real", "Prediction against truth of real targets", SEABORN, predictions, ("real",)),
        _plot("calibration", "probabilities", "How far probabilities can be trusted", SEABORN, predictions, LABELS),
        _plot("roc", "probabilities", "True against false positives for every threshold", SEABORN, predictions, LABELS),
        _plot("precision-recall", "probabilities", "Precision against recall", SEABORN, predictions, LABELS),
        _plot("embedding", "embedding", "Embeddings of pairs in the plane", SEABORN, ("weights",), ("similarity",)),
        _plot("parallel", "parallel", "Settings and figures of many runs", PYECHARTS, ("history", "several-runs")),
    ]


def _plot(
    name: str,
    module: str,
    summary: str,
    requires: tuple[str, ...],
    needs: tuple[str, ...] = (),
    accepts: tuple[str, ...] = (),
) -> Component:
    return Component(
        name,
        f"ptb_plots.{module}:{name.replace('-', '_')}",
        summary,
        f"ptb_plots.settings:{''.join(part.capitalize() for part in name.split('-'))}",
        requires=requires,
        extra="plots",
        accepts=accepts,
        needs=needs,
    )
