"""Two inputs for one model: ``ptb run --model text-and-table --dataset docstrings``."""

from ptb import Component, hookimpl


@hookimpl
def ptb_provide_datasets() -> list[Component]:
    """A text and a row of numbers for each sample."""
    return [Component("docstrings", "ptb_text_and_table.parts:docstrings", summary="Text and form of docstrings")]


@hookimpl
def ptb_provide_models() -> list[Component]:
    """A model of two inputs."""
    return [Component("text-and-table", "ptb_text_and_table.parts:TextAndTable", summary="Words beside numbers")]
