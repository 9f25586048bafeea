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
            summary="For yes or no, or for several labels, on logits",
            settings="ptb_losses.settings:BCEWithLogits",
            accepts=("binary", "multilabel"),
            default_for=("binary", "multilabel"),
        ),
        Component(
            "cross-entropy",
            "ptb_losses.cross_entropy:CrossEntropy",
            summary="For one class out of several, a sample or a position, on logits",
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
            accepts=("real", "none"),
        ),
        Component(
            "smooth-l1",
            "ptb_losses.regression:SmoothL1",
            summary="For numbers: squared for small errors, absolute for large ones",
            settings="ptb_losses.settings:SmoothL1",
            accepts=("real", "none"),
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
        Component(
            "focal",
            "ptb_losses.focal:Focal",
            summary="For rare classes or labels: cross-entropy that counts less what is predicted well",
            settings="ptb_losses.settings:Focal",
            accepts=("class", "class+positions", "binary", "multilabel"),
        ),
        Component(
            "dice",
            "ptb_losses.dice:Dice",
            summary="For small things in large pictures: the overlap of what is predicted and what is there",
            settings="ptb_losses.settings:Dice",
            accepts=("class+positions",),
        ),
        Component(
            "quantile",
            "ptb_losses.quantile:Quantile",
            summary="For numbers and how sure they are: quantiles of the target, 0.1, 0.5 and 0.9 or others",
            settings="ptb_losses.settings:Quantile",
            accepts=("real",),
        ),
        Component(
            "gaussian-nll",
            "ptb_losses.gaussian_nll:GaussianNLL",
            summary="For numbers and how sure they are: the mean and the variance of a normal distribution",
            settings="ptb_losses.settings:GaussianNLL",
            accepts=("real",),
        ),
    ]
