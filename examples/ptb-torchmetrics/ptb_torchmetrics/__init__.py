"""Metrics of torchmetrics, by name: strings only, torchmetrics and torch are imported when a run uses one of them."""

from collections.abc import Iterable

from ptb import Component, hookimpl

CLASSES = ("class", "binary")
CURVES = (*CLASSES, "similarity")

LOWER = ("calibration-error", "kl-divergence")  # is better; of all others higher is

# Module, name (that of the function in it), settings, target kinds, summary.
METRICS: dict[str, dict[str, tuple[str, tuple[str, ...], str]]] = {
    "classification": {
        "auroc": ("Curve", CURVES, "Area under the ROC curve: how well the scores rank"),
        "average-precision": ("Curve", CURVES, "Area under the precision-recall curve: how well few positives rank"),
        "f1": ("ByClass", CLASSES, "Harmonic mean of precision and recall"),
        "precision": ("ByClass", CLASSES, "Part of the samples taken for a class that belong to it"),
        "recall": ("ByClass", CLASSES, "Part of the samples of a class that are taken for it"),
        "specificity": ("ByClass", CLASSES, "Part of the samples of other classes that are not taken for it"),
        "jaccard": ("ByClass", CLASSES, "Intersection over union of a class's true and predicted samples"),
        "calibration-error": ("CalibrationError", CLASSES, "How far the probabilities are from what comes true"),
        "cohen-kappa": ("CohenKappa", CLASSES, "Agreement beyond what chance gives"),
        "matthews-corrcoef": ("NoSettings", CLASSES, "Correlation of the predicted and the true classes"),
    },
    "regression": {
        "r2": ("Outputs", ("real",), "1 is perfect, 0 as good as predicting the mean of the targets"),
        "explained-variance": ("Outputs", ("real",), "As r2, but an error that is everywhere the same costs nothing"),
        "pearson": ("NoSettings", ("real",), "Linear correlation of predictions and targets"),
        "spearman": ("NoSettings", ("real",), "Correlation of their ranks"),
        "concordance": ("NoSettings", ("real",), "Linear correlation, less for another mean or spread (Lin, 1989)"),
    },
    "distribution": {
        "kl-divergence": ("NoSettings", ("distribution",), "From the true to the predicted distribution, in nats"),
    },
}


@hookimpl
def ptb_provide_metrics() -> Iterable[Component]:
    """One component for each line of the table."""
    return [
        Component(
            name,
            f"ptb_torchmetrics.{module}:{name.replace('-', '_')}",
            summary=summary,
            settings=f"ptb_torchmetrics.settings:{settings}",
            requires=("torchmetrics>=1.6",),  # pip installs it; where it was told not to, `ptb list` says so
            accepts=accepts,
            better="lower" if name in LOWER else "higher",
        )
        for module, metrics in METRICS.items()
        for name, (settings, accepts, summary) in metrics.items()
    ]
