"""The observers that `ptb run` and `ptb resume` add to a run by themselves: they are no part of its configuration.

A run is the same with and without them, and so is its ``config.toml``: whoever repeats it need not have them installed.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from ptb.errors import listing

if TYPE_CHECKING:
    from ptb.registry.registry import Registry
    from ptb.runs.compose import ComposedRun

report_option = click.option(
    "--report/--no-report",
    "reports",
    default=True,
    envvar="PTB_REPORT",
    help="At the end, let the observers that are on by default write about the run; PTB_REPORT=0 is --no-report.",
)


def with_default_observers(composed: "ComposedRun", registry: "Registry") -> "ComposedRun":
    """Add them; those that the configuration has already, or whose dependencies are missing, are left out.

    What is missing is said in one line, with the command that installs it.
    """
    from ptb.config.resolve import ComponentConfig

    chosen = {component.entry.id for component in composed.config.callbacks.values()}
    hints = [composed.advice] if composed.advice else []
    for entry in registry.defaults("callback"):
        if entry.id in chosen or entry.component.role != "observer":
            continue
        if missing := entry.missing():
            hints.append(f"no {entry.name}: it needs {listing(missing)}: {entry.remedy()} (or --no-report)")
            continue
        observer = ComponentConfig(entry, entry.settings_model()()).build()
        composed.trainer.callbacks.observers.components[entry.name] = observer
    return replace(composed, advice="\n".join(hints) or None)
