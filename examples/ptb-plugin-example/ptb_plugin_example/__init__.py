"""A model and a loss for ptb: names and strings only, the modules behind them are imported when a run uses them."""

from collections.abc import Iterable

from ptb import Component, hookimpl


@hookimpl
def ptb_provide_models() -> Iterable[Component]:
    """One network; it names no settings model, so its options are read from ``TinyCNN``'s parameters."""
    return [
        Component("tiny-cnn", "ptb_plugin_example.cnn:TinyCNN", summary="Two convolutions for pictures of any size"),
    ]


@hookimpl
def ptb_provide_losses() -> Iterable[Component]:
    """One loss; it names a settings model, so ``ptb show loss focal-loss`` imports no torch."""
    return [
        Component(
            "focal-loss",
            "ptb_plugin_example.focal:FocalLoss",
            summary="Cross-entropy that looks away from the samples that are easy (Lin et al., 2017)",
            settings="ptb_plugin_example.settings:FocalLoss",
            accepts=("class",),
        ),
    ]
