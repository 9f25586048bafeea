"""The part of each character in an arithmetic expression: ``ptb run --model rnn --dataset expressions``."""

from ptb import Component, hookimpl


@hookimpl
def ptb_provide_datasets() -> list[Component]:
    """The one component of this package."""
    return [Component("expressions", "ptb_tagger.expressions:expressions", summary="Tags of characters, any length")]
