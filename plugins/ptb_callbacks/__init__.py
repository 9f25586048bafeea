"""The built-in callbacks: they act while a run trains, and are used only where a configuration names them."""

from collections.abc import Iterable

from ptb import Component, hookimpl


@hookimpl
def ptb_provide_callbacks() -> Iterable[Component]:
    """Observers only look; actors change the training, and their state is in its checkpoints."""
    return [
        Component(
            "best-checkpoint",
            "ptb_callbacks.best_checkpoint:BestCheckpoint",
            summary="Keeps the checkpoint with the best value of any figure, under a label of its own",
            settings="ptb_callbacks.settings:BestCheckpoint",
            role="observer",
        ),
        Component(
            "ema",
            "ptb_callbacks.ema:Ema",
            summary="Evaluates and saves an exponential moving average of the weights",
            settings="ptb_callbacks.settings:Ema",
            role="actor",
            after=("freeze",),
        ),
        Component(
            "freeze",
            "ptb_callbacks.freeze:Freeze",
            summary="Keeps parameters and batch-norm statistics as they are, for the whole run or its first epochs",
            settings="ptb_callbacks.settings:Freeze",
            role="actor",
        ),
        Component(
            "non-finite-report",
            "ptb_callbacks.non_finite_report:NonFiniteReport",
            summary="Where a loss or gradient is not finite, finds the first module and the samples",
            settings="ptb_callbacks.settings:NonFiniteReport",
            role="observer",
        ),
        Component(
            "micro-batch-on-oom",
            "ptb_callbacks.micro_batch_on_oom:MicroBatchOnOom",
            summary="Where memory runs out, sends a batch through the model in pieces and adds up their gradients",
            settings="ptb_callbacks.settings:MicroBatchOnOom",
            role="actor",
        ),
        Component(
            "weight-histograms",
            "ptb_callbacks.weight_histograms:WeightHistograms",
            summary="Records how weights and gradients are spread after each epoch, for the plot histograms",
            settings="ptb_callbacks.settings:WeightHistograms",
            role="observer",
        ),
    ]
