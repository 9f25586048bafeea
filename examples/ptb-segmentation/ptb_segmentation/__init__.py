"""Discs and squares in noisy pictures, to be found pixel by pixel: ``ptb run --model unet --dataset shapes``."""

from ptb import Component, hookimpl


@hookimpl
def ptb_provide_datasets() -> list[Component]:
    """The one component of this package."""
    return [Component("shapes", "ptb_segmentation.shapes:shapes", summary="Discs and squares, a class at each pixel")]
