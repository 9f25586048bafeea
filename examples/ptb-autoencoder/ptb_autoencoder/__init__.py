"""Pictures without targets: ``ptb run --model autoencoder --dataset unlabelled-digits``."""

from ptb import Component, hookimpl


@hookimpl
def ptb_provide_datasets() -> list[Component]:
    """Inputs only."""
    return [Component("unlabelled-digits", "ptb_autoencoder.parts:unlabelled_digits", summary="Digits without labels")]


@hookimpl
def ptb_provide_models() -> list[Component]:
    """A model whose scores are the inputs again."""
    return [Component("autoencoder", "ptb_autoencoder.parts:Autoencoder", summary="Compresses inputs to a few numbers")]
