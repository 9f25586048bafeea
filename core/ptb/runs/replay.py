"""A step that could not be taken, in a file: the run's configuration, the state before the step, and its batches."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from ptb.config.layers import RunConfig
from ptb.device import cpu_threads
from ptb.errors import StorageError, one_line
from ptb.runs.compose import ComposedRun, explain_oom
from ptb.seeding import preserve_rng_state
from ptb.storage.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ptb.storage.codec import DecodeError, Decoder, Encoder, State
from ptb.training.nonfinite import Finding, find
from ptb.training.stepping import Group
from ptb.training.trainer import Recipe, Training


def save_replay(
    folder: Path,
    config: Mapping[str, Any],
    state: State,
    step: int,
    group: Group,
    samples: Sequence[Tensor],
    finding: Finding,
) -> Path:
    """Writes ``replay-<step>-<hash>.safetensors``, of the form of a checkpoint.

    Args:
        folder: where it goes.
        config: the resolved configuration of the run.
        state: of the training before the step.
        step: the step that could not be taken.
        group: its batches, as the model saw them.
        samples: the numbers of their samples in the training split.
        finding: what was found on them.

    Raises:
        StorageError: the file cannot be written.
    """
    writer = Encoder()
    batches = writer.node([list(batch) for batch in group], "batches")
    numbers = writer.node(list(samples), "samples")
    node = {"config": dict(config), "training": state.node, "batches": batches, "samples": numbers}
    facts = {"finding": finding.told(step), "loss": repr(finding.loss)}
    return save_checkpoint(folder, step, State(node, state.tensors | writer.tensors), facts, kind="replay")


def load_replay(path: Path) -> Checkpoint:
    """Reads such a file; the configuration of its run is ``replay_config`` of what is returned.

    Raises:
        StorageError: the file is damaged, or is none that ``save_replay`` wrote.
    """
    saved = load_checkpoint(path)
    if not isinstance(saved.state.node, dict) or not isinstance(saved.state.node.get("config"), dict):
        raise StorageError(f"{path} is no replay file: a run writes replay-STEP-HASH.safetensors")
    return saved


def replay_config(saved: Checkpoint) -> RunConfig:
    """The configuration of the run whose step was saved."""
    return RunConfig(**saved.state.node["config"])


def replay(saved: Checkpoint, composed: ComposedRun) -> Finding:
    """Tries a saved step again, and tells what is found; nothing is trained or written.

    Args:
        saved: what ``load_replay`` returned.
        composed: what ``compose`` made of its configuration.

    Raises:
        StorageError: the file does not fit the components.
        ResourceError: memory runs out.
    """
    plan, parts = composed.plan, composed.parts
    with closing(parts), preserve_rng_state(), cpu_threads(plan.run.threads), explain_oom(plan, False):
        nobody = cast(Any, None)  # nothing is trained
        training = Training(parts, Recipe(epochs=plan.trainer.epochs), nobody)
        try:
            node, reader = saved.state.node, Decoder(saved.state.tensors, parts.device)
            training.load_state(State(node["training"], saved.state.tensors))
            group = [(inputs, targets) for inputs, targets in reader.value(node["batches"])]
            samples = reader.value(node["samples"])
            loss, most = float(saved.facts["loss"]), node["training"]["most"]
        except (DecodeError, LookupError, TypeError, ValueError) as error:
            raise StorageError(f"{saved.path} does not fit the components of its run: {one_line(error)}") from error
        parts.model.train()
        return find(parts, group, samples, loss, most)
