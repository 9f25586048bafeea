"""The hooks that a plugin may implement. Each takes nothing and returns an iterable of ``Component``."""

from collections.abc import Iterable

import pluggy

from ptb.registry.component import Component

PROJECT = "ptb"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def ptb_provide_datasets() -> Iterable[Component]:
    """Data sets: ``target(**settings)`` returns a ``DataBundle``."""
    return ()


@hookspec
def ptb_provide_models() -> Iterable[Component]:
    """Models: ``target(spec, **settings)`` returns a module from ``[B, *input_shape]`` to ``[B, output_size]``."""
    return ()


@hookspec
def ptb_provide_initializers() -> Iterable[Component]:
    """Initializers: ``target(module, **settings)`` changes the parameters in place, under ``no_grad``."""
    return ()


@hookspec
def ptb_provide_losses() -> Iterable[Component]:
    """Losses: ``target(spec, **settings)`` returns a callable from ``(scores, targets)`` to a scalar tensor.

    One whose mean is not over the samples of the batch has ``denominator(targets)``, by what it divides.
    """
    return ()


@hookspec
def ptb_provide_optimizers() -> Iterable[Component]:
    """Optimizers: ``target(params, **settings)`` returns a ``torch.optim.Optimizer``."""
    return ()


@hookspec
def ptb_provide_schedulers() -> Iterable[Component]:
    """Schedulers: ``target(optimizer, total_steps, **settings)`` returns an object stepped once per optimizer step."""
    return ()


@hookspec
def ptb_provide_metrics() -> Iterable[Component]:
    """Metrics: ``target(spec, **settings)`` returns an object with ``update``, ``compute`` and ``reset``."""
    return ()
