"""How uncertain a number is: ``ptb run --model mlp --dataset waves --loss quantile --metric inside``.

Learns the 10%, 50% and 90% quantiles of a number whose spread depends on the input.
"""

from ptb import Component, hookimpl


@hookimpl
def ptb_provide_datasets() -> list[Component]:
    """A number whose spread grows with the input."""
    return [Component("waves", "ptb_quantiles.waves:waves", summary="A wave with more noise to the right")]
