"""Trackers: observers that send what a run records to TensorBoard, MLflow or Weights & Biases, and ``ptb sync``."""

from collections.abc import Iterable

from ptb import Command, Component, hookimpl


@hookimpl
def ptb_provide_callbacks() -> Iterable[Component]:
    """They look at the files of a run only, from a process of their own."""
    return [
        Component(
            "tensorboard",
            "ptb_trackers.observer:TensorBoard",
            summary="Writes the figures, settings and result of a run as TensorBoard event files",
            settings="ptb_trackers.settings:TensorBoard",
            requires=("tensorboard>=2.16",),
            extra="tensorboard",
            role="observer",
        ),
        Component(
            "mlflow",
            "ptb_trackers.observer:Mlflow",
            summary="Sends the figures, settings and result of a run to an MLflow server",
            settings="ptb_trackers.settings:Mlflow",
            requires=("mlflow-skinny>=3.3",),
            extra="mlflow",
            role="observer",
        ),
        Component(
            "wandb",
            "ptb_trackers.observer:Wandb",
            summary="Sends the figures, settings and result of a run to Weights & Biases, or writes them for later",
            settings="ptb_trackers.settings:Wandb",
            requires=("wandb>=0.28",),
            extra="wandb",
            role="observer",
        ),
    ]


@hookimpl
def ptb_provide_commands() -> Iterable[Command]:
    """The commands of this package."""
    return [Command("sync", "ptb_trackers.command:sync", "Send what the trackers of a run do not have yet.")]
