"""``ptb report`` and the observer ``report``: a run as one page that opens from a disk, without a network."""

from collections.abc import Iterable

from ptb import Command, Component, hookimpl


@hookimpl
def ptb_provide_commands() -> Iterable[Command]:
    """The commands of this package."""
    return [Command("report", "ptb_report.command:report", "Write a page about runs: figures, curves, mistakes.")]


@hookimpl
def ptb_provide_callbacks() -> Iterable[Component]:
    """The callbacks of this package."""
    return [
        Component(
            "report",
            "ptb_report.observer:ReportWriter",
            summary="Writes report.html at the end of the run: figures, curves, confusion matrix, worst mistakes",
            settings="ptb_report.settings:Report",
            requires=("pyecharts>=2", "jinja2>=3.1"),
            extra="report",
            role="observer",
            default_for="*",
        )
    ]
