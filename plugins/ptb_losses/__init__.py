"""The built-in losses."""

from collections.abc import Iterable

from ptb import Component, hookimpl


@hookimpl
def ptb_provide_losses() -> Iterable[Component]:
    """What training makes small."""
    return [
        Component(
            "bce",
            "ptb_losses.bce:BCE",
            summary="For yes or no, on the sigmoid of the scores; bce-with-logits is safer",
            settings="ptb_losses.settings:BCE",
            accepts=("binary",),
        ),
        Component(
            "bce-with-logits",
            "ptb_losses.bce:BCEWithLogits",
            summary="For yes or no, on logits",
            settings="ptb_losses.settings:BCEWithLogits",
            accepts=("binary", "multilabel"),
            default_for=("binary", "multilabel"),
        ),
        Component(
            "cross-entropy",
            "ptb_losses.cross_entropy:CrossEntropy",
            summary="For one class out of several, on logits",
            settings="ptb_losses.settings:CrossEntropy",
            accepts=("class", "class+positions"),
            default_for=("class", "class+positions"),
        ),
        Component(
            "mse",
            "ptb_losses.regression:MSE",
            summary="For numbers: the squared error, which large errors dominate",
            settings="ptb_losses.settings:MSE",
            accepts=("real", "none"),
            default_for=("real", "none"),
        ),
        Component(
            "l1",
            "ptb_losses.regression:L1",
            summary="For numbers with outliers: the absolute error",
            settings="ptb_losses.settings:L1",
            accepts=("real",),
        ),
        Component(
            "smooth-l1",
            "ptb_losses.regression:SmoothL1",
            summary="For numbers: squared for small errors, absolute for large ones",
            settings="ptb_losses.settings:SmoothL1",
            accepts=("real",),
        ),
        Component(
            "kl-div",
            "ptb_losses.kl_div:KLDiv",
            summary="For a distribution over classes, on logits",
            settings="ptb_losses.settings:KLDiv",
            accepts=("distribution",),
            default_for=("distribution",),
        ),
        Component(
            "cosine-embedding",
            "ptb_losses.cosine_embedding:CosineEmbedding",
            summary="For pairs that are alike or not: the angle between their embeddings",
            settings="ptb_losses.settings:CosineEmbedding",
            accepts=("similarity",),
            default_for=("similarity",),
        ),
    ]
