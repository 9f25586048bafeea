"""Which digits are in a strip of three: ``ptb run --model cnn --dataset digit-strips``."""

from ptb import Component, hookimpl


@hookimpl
def ptb_provide_datasets() -> list[Component]:
    """The one component of this package."""
    return [Component("digit-strips", "ptb_multilabel.strips:strips", summary="Which digits are in a strip of three")]
