"""The built-in learning-rate schedulers; each is stepped once per optimizer step."""

from collections.abc import Iterable

from ptb import Component, hookimpl


@hookimpl
def ptb_provide_schedulers() -> Iterable[Component]:
    """How the learning rate moves over a run; each can warm up first."""
    return [
        Component(
            "constant",
            "ptb_schedulers.constant:constant",
            summary="The learning rate stays as it is",
            settings="ptb_schedulers.settings:Constant",
        ),
        Component(
            "cosine",
            "ptb_schedulers.cosine:cosine",
            summary="Falls along half a cosine from the learning rate to its minimum at the last step",
            settings="ptb_schedulers.settings:Cosine",
            default_for=("*",),
        ),
        Component(
            "exponential",
            "ptb_schedulers.exponential:exponential",
            summary="Falls by the same factor each step, to a given part of the learning rate at the last",
            settings="ptb_schedulers.settings:Exponential",
        ),
        Component(
            "step",
            "ptb_schedulers.step:step",
            summary="Falls by a factor at regular intervals, given in parts of the run or in optimizer steps",
            settings="ptb_schedulers.settings:Step",
        ),
        Component(
            "multi-step",
            "ptb_schedulers.step:multi_step",
            summary="Falls by a factor at chosen points, given in parts of the run or in optimizer steps",
            settings="ptb_schedulers.settings:MultiStep",
        ),
        Component(
            "cosine-restarts",
            "ptb_schedulers.cosine_restarts:cosine_restarts",
            summary="Falls along half a cosine, then starts again: periods in parts of the run or in optimizer steps",
            settings="ptb_schedulers.settings:CosineRestarts",
        ),
        Component(
            "plateau",
            "ptb_schedulers.plateau:plateau",
            summary="Falls by a factor when evaluations do not make the monitored figure better any more",
            settings="ptb_schedulers.settings:Plateau",
        ),
        Component(
            "one-cycle",
            "ptb_schedulers.one_cycle:one_cycle",
            summary="Climbs to a high learning rate and falls to almost none, momentum the other way: for short runs",
            settings="ptb_schedulers.settings:OneCycle",
        ),
    ]
