"""The built-in optimizers: PyTorch's own, with their options described."""

from collections.abc import Iterable

from ptb import Component, hookimpl


@hookimpl
def ptb_provide_optimizers() -> Iterable[Component]:
    """Rules that turn gradients into steps."""
    return [
        Component(
            "sgd",
            "torch.optim:SGD",
            summary="weight - lr * gradient, with momentum if wanted: needs a tuned learning rate",
            settings="ptb_optimizers.settings:SGD",
        ),
        Component(
            "asgd",
            "torch.optim:ASGD",
            summary="SGD with a falling learning rate; the mean of the weights is kept beside them, not evaluated",
            settings="ptb_optimizers.settings:ASGD",
        ),
        Component(
            "rprop",
            "torch.optim:Rprop",
            summary="Follows the sign of the gradient only: for batches that hold all training samples",
            settings="ptb_optimizers.settings:Rprop",
        ),
        Component(
            "lbfgs",
            "torch.optim:LBFGS",
            summary="Quasi-Newton: for small models and smooth losses on all training samples at once",
            settings="ptb_optimizers.settings:LBFGS",
            needs=("closure",),
        ),
        Component(
            "adagrad",
            "torch.optim:Adagrad",
            summary="Steps scaled by the sum of all squared gradients: for features that are rare",
            settings="ptb_optimizers.settings:Adagrad",
        ),
        Component(
            "adadelta",
            "torch.optim:Adadelta",
            summary="Steps scaled by the ratio of past steps to past gradients: no learning rate to tune",
            settings="ptb_optimizers.settings:Adadelta",
        ),
        Component(
            "rmsprop",
            "torch.optim:RMSprop",
            summary="Steps scaled by a running mean of the squared gradient: common for recurrent networks",
            settings="ptb_optimizers.settings:RMSprop",
        ),
        Component(
            "adam",
            "torch.optim:Adam",
            summary="Steps scaled by running means of the gradient and its square: a good first choice",
            settings="ptb_optimizers.settings:Adam",
            default_for=("*",),
        ),
        Component(
            "adamw",
            "torch.optim:AdamW",
            summary="Adam with weight decay apart from the gradient: the usual choice for transformers",
            settings="ptb_optimizers.settings:AdamW",
        ),
        Component(
            "adamax",
            "torch.optim:Adamax",
            summary="Adam with a running maximum in place of the mean square: steadier where gradients have outliers",
            settings="ptb_optimizers.settings:Adamax",
        ),
        Component(
            "nadam",
            "torch.optim:NAdam",
            summary="Adam with Nesterov momentum: often a little faster than adam",
            settings="ptb_optimizers.settings:NAdam",
        ),
        Component(
            "radam",
            "torch.optim:RAdam",
            summary="Adam that trusts its mean square only once it knows enough: needs no warm-up",
            settings="ptb_optimizers.settings:RAdam",
        ),
        Component(
            "sparse-adam",
            "torch.optim:SparseAdam",
            summary="Adam for large embeddings with sparse gradients: touches only the rows that a batch uses",
            settings="ptb_optimizers.settings:SparseAdam",
            needs=("sparse-gradients",),
        ),
        Component(
            "adafactor",
            "torch.optim:Adafactor",
            summary="Adam that keeps rows and columns of the mean square: for models that hardly fit in memory",
            settings="ptb_optimizers.settings:Adafactor",
        ),
    ]
