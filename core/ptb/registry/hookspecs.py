"""The hooks that a plugin may implement. Each takes nothing and returns an iterable of records."""

# A hook spec is its signature and one sentence.
# mypy: disable-error-code="empty-body"
from collections.abc import Iterable

import pluggy

from ptb.registry.component import Command, Component

PROJECT = "ptb"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def ptb_provide_datasets() -> Iterable[Component]:
    """Data sets: ``target(**settings)`` returns a ``DataBundle``."""


@hookspec
def ptb_provide_models() -> Iterable[Component]:
    """Models: ``target(spec, **settings)`` returns a module from ``[B, *input_shape]`` to ``[B, output_size]``."""


@hookspec
def ptb_provide_initializers() -> Iterable[Component]:
    """Initializers: ``target(module, **settings)`` changes the parameters in place, under ``no_grad``."""


@hookspec
def ptb_provide_losses() -> Iterable[Component]:
    """Losses: ``target(spec, **settings)`` returns a callable from ``(scores, targets)`` to the loss of the batch."""


@hookspec
def ptb_provide_optimizers() -> Iterable[Component]:
    """Optimizers: ``target(params, **settings)`` returns an object with the methods of ``torch.optim.Optimizer``."""


@hookspec
def ptb_provide_schedulers() -> Iterable[Component]:
    """Schedulers: ``target(optimizer, total_steps, **settings)`` returns an object stepped once per optimizer step."""


@hookspec
def ptb_provide_metrics() -> Iterable[Component]:
    """Metrics: ``target(spec, **settings)`` returns an object with ``update``, ``compute`` and ``reset``.

    It may have ``interval() -> (low, high)``, the 95 % confidence interval of a mean over samples, or None.
    """


@hookspec
def ptb_provide_callbacks() -> Iterable[Component]:
    """Callbacks: ``target(**settings)`` returns an object with any of the methods of ``ptb.Callback``."""


@hookspec
def ptb_provide_plots() -> Iterable[Component]:
    """Plots: ``target(records, **settings)`` draws ``RunRecord``s as a matplotlib ``Figure`` or a pyecharts chart."""


@hookspec
def ptb_provide_commands() -> Iterable[Command]:
    """Commands of ``ptb``: each target is a ``click.Command``, imported when somebody uses it."""
