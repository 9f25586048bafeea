"""The whole state of a training as nested dicts of plain values and tensors, and back."""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ptb.seeding import random_state, set_random_state
from ptb.training.optimizers import load_optimizer, optimizer_state
from ptb.training.state import component_state, load_component_state, load_weights

if TYPE_CHECKING:
    from ptb.training.trainer import Trainer


def take_snapshot(trainer: "Trainer") -> dict[str, Any]:
    """All that it takes to resume from here. Tensors are those of the training: copy them before it goes on."""
    calls, callbacks = trainer.calls, trainer.callbacks
    calls.now = "model"
    # Saved as the model are the weights that are evaluated; where training has others, they lie beside them.
    weights, training_weights = dict(trainer.model.state_dict()), None
    if callbacks.change_weights(trainer):
        training_weights = weights
        with callbacks.evaluation_weights(trainer):
            calls.now = "model"
            weights = dict(copy.deepcopy(trainer.model.state_dict()))
    state: dict[str, Any] = {"model": weights, "training_weights": training_weights}
    # A model or an actor may let go of parameters in the middle of a run.
    state["frozen"] = [name for name, each in trainer.model.named_parameters() if not each.requires_grad]
    for section, component in single_components(trainer).items():
        calls.now = section
        state[section] = optimizer_state(component) if section == "optimizer" else component_state(component)
    state["callbacks"] = callbacks.state_dict(trainer)
    state["train_metrics"] = trainer.train_metrics.state_dict()
    calls.now = ""
    return state | {
        "train_state": trainer.state.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "random": random_state(trainer.device),
    }


def restore_snapshot(trainer: "Trainer", state: Mapping[str, Any]) -> None:
    """Put a training where it was; ``trainer.calls.now`` names the component that raises, if one does."""
    calls = trainer.calls
    calls.now = "model"
    load_weights(trainer.model, state["training_weights"] or state["model"])
    for name, parameter in trainer.model.named_parameters():
        parameter.requires_grad_(name not in state["frozen"])
    for section, component in single_components(trainer).items():
        calls.now = section
        if section == "optimizer":
            load_optimizer(trainer.optimizer, state[section])
        else:
            load_component_state(component, state[section])
    for label, callback in trainer.callbacks.components().items():
        # An observer may have been added since.
        if label in state["callbacks"]:
            calls.now = f"callbacks.{label}"
            load_component_state(callback, state["callbacks"][label])
    trainer.train_metrics.load_state_dict(state["train_metrics"])
    calls.now = ""
    trainer.scaler.load_state_dict(state["scaler"])
    trainer.state.load_state_dict(state["train_state"])
    if trainer.state.epoch_step > trainer.epoch_steps:
        raise ValueError(f"{trainer.state.epoch_step} steps of an epoch that has {trainer.epoch_steps}")
    trainer.saved_step = trainer.state.step
    set_random_state(state["random"], trainer.device)


def single_components(trainer: "Trainer") -> dict[str, object]:
    """Those of which a training has one, without the model, by their sections."""
    return {"loss": trainer.objective.loss, "optimizer": trainer.optimizer, "scheduler": trainer.scheduler}
