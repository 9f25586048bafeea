"""The built-in data sets."""

from collections.abc import Iterable

from ptb import Component, hookimpl


@hookimpl
def ptb_provide_datasets() -> Iterable[Component]:
    """Real pictures that need no account and no network."""
    return [
        Component(
            "digits",
            "ptb_datasets.digits:digits",
            summary="1,797 real handwritten digits, shipped with scikit-learn; needs no download",
            settings="ptb_datasets.settings:Digits",
        ),
        Component(
            "fashion-mnist",
            "ptb_datasets.fashion_mnist:fashion_mnist",
            summary="70,000 pictures of clothes, 28x28, 10 classes, from IDX files",
            settings="ptb_datasets.settings:FashionMnist",
        ),
    ]
