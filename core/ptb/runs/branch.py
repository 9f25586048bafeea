"""Goes on with a run in a directory of its own: more epochs, another learning rate, another patience."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ptb.distributed.place import place
from ptb.errors import ConfigError, listing
from ptb.runs import manifest, preprocessing
from ptb.runs.compose import ComposedRun
from ptb.runs.recorder import Progress, Recorder
from ptb.runs.result import RunResult
from ptb.runs.start import fit, keep_plugin_files, recording
from ptb.runs.together import check_alike, follow
from ptb.storage import atomic
from ptb.storage.checkpoint import Checkpoint, find_checkpoints, load_checkpoint, resolve_checkpoint, save_checkpoint
from ptb.storage.run_directory import RunDirectory, check_output, read_json, write_json
from ptb.training.state import component_state, load_component_state
from ptb.training.trainer import Trainer

OF_SCHEDULE = ("scheduler.", "optimizer.lr", "trainer.epochs", "trainer.max_steps", "trainer.accumulate")


def continue_run(
    composed: ComposedRun,
    parent: RunDirectory,
    named: str | None,
    changed: list[str],
    output: Path | None,
    progress: Progress | None = None,
    *,
    stop_after: int | None = None,
    labels: Mapping[str, Any] | None = None,
) -> RunResult:
    """Train on from a checkpoint of ``parent``, ``"last"`` where none is named, in a new directory.

    Optimizer, counters and random streams are those of the checkpoint, ``changed`` keys win over them. A schedule of
    another length is that of the new total from its beginning, stepped forward to here.
    """
    if not place().speaks:
        return follow(composed, stop_after)
    check_alike(composed)
    config = composed.config
    checkpoint = load_checkpoint(resolve_checkpoint(parent.checkpoints, named or "last"))
    saved = checkpoint.decode()
    reached = saved["train_state"]
    most = config.trainer.max_steps
    if reached["epoch"] >= config.trainer.epochs or (most and checkpoint.step >= most):
        raise ConfigError(
            f"{parent.path} is at its end, step {checkpoint.step} in epoch {reached['epoch']}: give it more --epochs "
            f"than {config.trainer.epochs}" + (f" and more trainer.max_steps than {most}" if most else "")
        )
    if "trainer.accumulate" in changed and reached["epoch_step"]:
        raise ConfigError(
            f"trainer.accumulate cannot change inside an epoch, and {parent.path} is in step {reached['epoch_step']} "
            "of one; name a checkpoint at the end of an epoch"
        )
    files = preprocessing.encoded(composed)
    run = RunDirectory.create(output, config.model.entry.name, config.dataset.entry.name)
    with recording(composed, run, progress) as recorder:
        check_output(run.path)
        then, now = read_json(parent.manifest), manifest.describe(composed)
        about = {"path": str(parent.path), "run": then.get("run"), "step": checkpoint.step, "changed": changed}
        kept = preprocessing.write(run, files)
        # Before the config, which makes it a run: one without a parent would be trained from the beginning.
        write_json(run.manifest, now | kept | {"run": recorder.id, "parent": about, **(labels or {})})
        run.write_config(config.as_config())
        keep_plugin_files(composed, run)
        for text in manifest.changes(then, now):
            warnings.warn(f"{text}: the run may not go on as its parent would", stacklevel=2)
        _copy(parent, run, recorder, checkpoint, int(reached["rows_logged"]))
        trainer = composed.trainer
        said = _restore(recorder, checkpoint, changed, {*saved["callbacks"]} - {*trainer.callbacks.components()})
        recorder.save(trainer)
        recorder.started = True
        recorder.line(composed.summary_line())
        recorder.line(f"run directory: {run.path}")
        recorder.line(
            f"continues {parent.path} after step {checkpoint.step}, epoch {trainer.state.epoch} of "
            f"{trainer.settings.epochs}{said}"
        )
        return fit(recorder, stop_after, resumes=True)


def _copy(parent: RunDirectory, run: RunDirectory, recorder: Recorder, checkpoint: Checkpoint, rows: int) -> None:
    """Take over the rows up to the checkpoint, and the checkpoints that its labels name."""
    lines = parent.rows().splitlines(keepends=True)[:rows]
    atomic.write_atomically(run.metrics, b"".join(lines))
    there = find_checkpoints(parent.checkpoints)
    for step in {*checkpoint.metadata.get("labels", {}).values()} - {checkpoint.step}:
        if step in there:
            labelled = load_checkpoint(there[step])
            save_checkpoint(run.checkpoints, step, labelled.decode(), labelled.metadata | {"run": recorder.id})


def _restore(recorder: Recorder, checkpoint: Checkpoint, changed: list[str], gone: set[str]) -> str:
    """Put training where the checkpoint was, with what has changed; what that means for the schedule, as text."""
    trainer = recorder.trainer
    optimizer, scheduler = trainer.optimizer, trainer.scheduler
    waits = hasattr(scheduler, "on_evaluation")
    reschedules = not waits and any(key.startswith(OF_SCHEDULE) for key in changed)
    fresh = [dict(group) for group in optimizer.param_groups]
    if reschedules:
        _step_forward(trainer, checkpoint.step)
    ahead = [dict(group) for group in optimizer.param_groups]
    stepped = component_state(scheduler) if reschedules else None
    # What a callback keeps of its settings is in its state where it has no state_dict: those that have changed win.
    given = [
        (callback, key, value)
        for label, callback in trainer.callbacks.components().items()
        for key, value in getattr(callback, "__dict__", {}).items()
        if f"callbacks.{label}.{key.lstrip('_')}" in changed
    ]
    recorder.restore_from(checkpoint, gone, exact=False)
    for callback, key, value in given:
        setattr(callback, key, value)
    before = _rates(optimizer.param_groups)
    asked = {key.removeprefix("optimizer.") for key in changed if key.startswith("optimizer.")}
    for group, new, moved in zip(optimizer.param_groups, fresh, ahead, strict=True):
        scheduled = {key for key in group if key in new and not _same(new[key], moved.get(key))}
        if reschedules:
            group.update({key: moved[key] for key in scheduled | ({"lr", "initial_lr"} & moved.keys())})
        group.update({key: new[key] for key in asked if key in new and not (reschedules and key == "lr")})
    if stepped is not None:
        load_component_state(scheduler, stepped)
    state = trainer.state
    state.stopped_early = False
    if {"trainer.monitor", "trainer.mode"} & set(changed):
        state.best_step, state.best_value, state.evals_since_best = None, float("nan"), 0
        state.labels.pop("best", None)
    after = _rates(optimizer.param_groups)
    return f"; the learning rate goes on at {after}" + (f", it was {before}" if after != before else "")


def _step_forward(trainer: Trainer, steps: int) -> None:
    """Walk a new scheduler to where the run is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of steps of a scheduler without those of its optimizer
        for _ in range(steps):
            trainer.scheduler.step()


def _rates(groups: list[dict[str, Any]]) -> str:
    rates = dict.fromkeys(f"{float(group['lr']):.4g}" for group in groups if "lr" in group)
    return listing([*rates]) or "none"


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, list) or bool(one is other) or (not isinstance(one, Tensor) and bool(one == other))
