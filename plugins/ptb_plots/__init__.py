"""The built-in plots: what a run has recorded, as figures of matplotlib and seaborn and charts of pyecharts."""

from collections.abc import Iterable

from ptb import Component, hookimpl

MATPLOTLIB = ("matplotlib>=3.9",)


@hookimpl
def ptb_provide_plots() -> Iterable[Component]:
    """They read run directories; none trains, and none asks a network."""
    return [
        Component(
            "curves",
            "ptb_plots.curves:curves",
            summary="Loss and metrics over the training, for one run or several",
            settings="ptb_plots.settings:Curves",
            requires=MATPLOTLIB,
            extra="plots",
            needs=("history",),
        ),
    ]
