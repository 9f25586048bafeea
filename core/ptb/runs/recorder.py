"""Writes the run directory while a run trains: rows, log, checkpoints, summary."""

import copy
import hashlib
import secrets
import shlex
import warnings
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from ptb.errors import ConfigError, PluginError, StorageError, count, listing, one_line
from ptb.runs import model_card
from ptb.runs.blame import explaining
from ptb.runs.compose import ComposedRun
from ptb.runs.predictions import RunView
from ptb.runs.record import RunRecord
from ptb.runs.result import RunResult, figures
from ptb.runs.state_check import drop_unsavable
from ptb.runs.together import measure_test
from ptb.storage import atomic
from ptb.storage.checkpoint import (
    Checkpoint,
    differences,
    load_checkpoint,
    prune_checkpoints,
    resolve_checkpoint,
    save_checkpoint,
)
from ptb.storage.codec import DecodeError, EncodeError, encode
from ptb.storage.digest import weights_sha256
from ptb.storage.run_directory import RunDirectory, finite, write_json
from ptb.training.evaluation import MetricsRow
from ptb.training.protocols import IntervalMetric
from ptb.training.snapshot import restore_snapshot, take_snapshot
from ptb.training.state import load_weights, model_state
from ptb.training.trainer import Trainer


class Progress(Protocol):
    """Shows a run to people. It may also have any of the events of callbacks, and gets the training itself."""

    def line(self, text: str) -> None:
        """Something worth a line."""


class Recorder:
    """A callback of the core, and the one that saves."""

    def __init__(self, run: RunDirectory, composed: ComposedRun, progress: Progress | None) -> None:
        self.id = secrets.token_hex(8)  # of the run; its checkpoints carry it
        self.result: RunResult | None = None  # of a run that has come to its end
        self.started = False  # until then, the summary of an earlier process is still true
        self.run = run
        self.composed = composed
        self.trainer = composed.trainer
        self._progress = progress
        self._rows = hashlib.sha256()  # of metrics.jsonl
        self._epoch_rows: list[MetricsRow] = []
        self._test_step: int | None = None
        self._intervals: dict[str, list[float]] = {}
        self._reported = set(composed.lost_state)  # sections whose state is not saved
        recorders = [self] if progress is None else [self, progress]
        self.trainer.callbacks.attach(recorders, self.save)
        self.trainer.run = RunView(run, composed)

    def on_row(self, trainer: Trainer, row: MetricsRow) -> None:
        """Write it; those of an epoch are shown beside each other at its end."""
        facts = {"step": row.step, "epoch": row.epoch, "split": row.split, "values": row.values, "lr": row.lr}
        if row.samples_per_second is not None:
            facts["samples_per_second"] = row.samples_per_second
        self._rows.update(self.run.append_row(facts))
        self._epoch_rows.append(row)
        if trainer.state.epoch_step:
            self._show_rows(f"step {row.step}  ")

    def on_epoch_end(self, trainer: Trainer) -> None:
        """One line an epoch."""
        self._show_rows()

    def on_fit_end(self, trainer: Trainer) -> None:
        """Measure the test split with the best weights, or the last ones where there is no best, and write the summary.

        Observers come after this: to them the run directory is whole.
        """
        if "test" in trainer.eval_loaders:
            self._measure_test(trainer)
        if trainer.state.stopped_early:
            monitor, patience = trainer.settings.monitor, trainer.settings.patience
            waited = 0 < patience <= trainer.state.evals_since_best
            why = f"{count(patience, 'evaluation')} without a better {monitor}" if waited else "as a callback asked"
            self.line(f"stopped early: {why}")
        self.result = self.finish("finished")

    def save(self, trainer: Trainer) -> Path:
        """Save a checkpoint, then delete those that are not kept."""
        state = trainer.state
        self.run.sync_rows()
        metadata = {
            "run": self.id,
            "epoch": state.epoch,
            "labels": dict(state.labels),
            "rows_sha256": self._rows.hexdigest(),
            "config": self.composed.config.as_config(),
            "observers": list(trainer.callbacks.observers.components),
        }
        try:
            path = save_checkpoint(self.run.checkpoints, state.step, self._snapshot(), metadata)
        except EncodeError as error:
            raise PluginError(f"the run cannot be saved: {error}") from error
        prune_checkpoints(self.run.checkpoints, trainer.settings.keep_last)
        return path

    def restore_from(self, checkpoint: Checkpoint, dropped: Collection[str] = (), exact: bool = True) -> None:
        """Put training and rows where they were when the checkpoint was saved; ``dropped`` callbacks begin anew.

        With ``exact``, what the checkpoint holds must be what the training has then.
        """
        trainer = self.trainer
        try:
            state = checkpoint.decode(trainer.device)
            there = {*trainer.callbacks.components(), *checkpoint.metadata.get("observers", ())}
            _drop_states(state["callbacks"], there, dropped, checkpoint.path)
            restore_snapshot(trainer, state)
            if trainer.state.step != checkpoint.step:
                raise DecodeError(f"it is the state of step {trainer.state.step}")
            again = encode(self._snapshot())
        except (ConfigError, StorageError):
            raise
        except (Exception, SystemExit) as error:  # a component may raise anything on the state of another one
            component = self.composed.config.components().get(trainer.calls.now)
            who = f"{component.entry} raised " if component else ""
            raise StorageError(f"cannot resume from {checkpoint.path}: {who}{one_line(error)}") from error
        # Observers may come and go, and callbacks whose state is dropped begin anew.
        found = differences(checkpoint.state, again) if exact else []
        lost = [each for each in found if not each.startswith("callbacks")]
        if lost and not dropped:
            message = f"{checkpoint.path} cannot be restored exactly: {listing(lost, 3)}"
            warnings.warn(f"{message}: the run will not end as if it had not been stopped", stacklevel=2)
        whole = self.run.truncate_rows(trainer.state.rows_logged)
        self._rows.update(self.run.rows())
        if not whole or self._rows.hexdigest() != checkpoint.metadata.get("rows_sha256"):
            how = "has other rows than" if whole else "has lost rows that were there"
            warnings.warn(f"{self.run.metrics} {how} at step {checkpoint.step}: it was changed since", stacklevel=2)
        if not exact:
            return
        how = "nothing is left to train" if trainer.is_over else "resumed"
        longer = f"; `ptb run --continue {self.run.path} --epochs N` trains longer" if trainer.is_over else ""
        self.line(f"{how} after step {checkpoint.step}, from {checkpoint.path.name}{longer}")

    def finish(self, status: str, reason: str = "") -> RunResult:
        """Write the summary."""
        self._show_rows()
        trainer, state = self.trainer, self.trainer.state
        if state.skipped_steps:
            skipped = f"{state.skipped_steps} of {count(state.step, 'step')} were skipped"
            self.line(f"{skipped}: their fp16 gradients overflowed")
        with trainer.callbacks.evaluation_weights(trainer):
            trainer.calls.now = "model"
            weights = weights_sha256(model_state(trainer.model))
            evaluated = copy.deepcopy(trainer.model.state_dict()) if trainer.callbacks.change_weights(trainer) else None
        if evaluated is not None:
            load_weights(trainer.model, evaluated)
        trainer.calls.now = ""
        result = RunResult(
            output=self.run.path,
            status=status,
            epoch=state.epoch,
            step=state.step,
            best_step=state.best_step,
            stopped_early=state.stopped_early,
            metrics=dict(state.metrics),
            intervals=dict(self._intervals),
            test_step=self._test_step,
            weights_sha256=weights,
            parameters=self.composed.parameters,
            train_seconds=state.seconds,
            samples_per_second=state.samples / state.seconds if state.seconds else 0.0,
            skipped_steps=state.skipped_steps,
            model=trainer.model,
        )
        summary = result.summary() | ({"reason": reason} if reason else {})
        # A run whose card could not be written is not finished: `ptb resume` writes it. Of another the summary counts.
        if status == "finished":
            self._write_card(summary)
        write_json(self.run.summary, summary)
        if status != "finished":
            self._write_card(summary)
        return result

    def _write_card(self, summary: dict[str, Any]) -> None:
        with explaining(StorageError, f"{self.run.manifest} is damaged, and the model card cannot be made of it"):
            record = RunRecord(self.run.path)
            record.summary = finite(summary)  # as the file has it, or will have it
            card = model_card.text(record)
        atomic.write_atomically(self.run.card, card)

    def line(self, text: str) -> None:
        """Log it and show it."""
        self.run.append_log(text)
        if self._progress:
            with suppress(OSError):  # nobody may be looking on any more; the log has the line
                self._progress.line(text)

    def _snapshot(self) -> dict[str, Any]:
        """The state of the training, without that of observers which no checkpoint can hold: they must not stop it."""
        snapshot = take_snapshot(self.trainer)
        for label, problem in drop_unsavable(snapshot, self.trainer).items():
            if (section := f"callbacks.{label}") not in self._reported:
                self._reported.add(section)
                warnings.warn(f"the state of {section} is not saved: {problem}", stacklevel=2)
        return snapshot

    def _measure_test(self, trainer: Trainer) -> None:
        state = trainer.state
        step = state.labels.get("best", state.step)
        saved = None
        if step != state.step:
            saved = load_checkpoint(resolve_checkpoint(self.run.checkpoints, str(step))).decode(trainer.device)
        values, metrics = measure_test(trainer, self.composed.world, saved)
        for label, metric in metrics.items():
            trainer.calls.now = f"metrics.{label}"
            if label in values and isinstance(metric, IntervalMetric) and (interval := metric.interval()):
                low, high = interval
                self._intervals[f"test/{label}"] = [float(low), float(high)]
        trainer.calls.now = ""
        self._test_step = step
        row = MetricsRow(step, state.epoch, "test", values, state.lr)
        state.metrics |= row.named_values
        self.on_row(trainer, row)
        self._epoch_rows.clear()
        which = "the last" if step == state.step else "the best by " + trainer.settings.monitor
        self.line(f"test  {figures(values)}  (weights of step {step}, {which})")

    def _show_rows(self, inside: str = "") -> None:
        """One line: the splits of a boundary beside each other."""
        if not self._epoch_rows:
            return
        row, epochs = self._epoch_rows[0], str(self.trainer.settings.epochs)
        parts = [f"{each.split} {figures(each.values, ' ')}" for each in self._epoch_rows]
        speed = f"{row.samples_per_second:,.0f} samples/s" if row.samples_per_second else ""
        self._epoch_rows = []
        self.line(f"epoch {row.epoch:>{len(epochs)}}/{epochs}  {inside}{'  '.join(parts)}  {speed}".rstrip())


def _drop_states(states: dict[str, Any], there: Collection[str], dropped: Collection[str], path: Path) -> None:
    """Take out the states that are not to be used; each of the others must have its callback."""
    for label in dropped:
        if label not in states:
            raise ConfigError(
                f"--drop-state {label}: {path} holds no state of a callback of that name"
                + (f"; it holds those of {listing(list(states))}" if states else "")
            )
        del states[label]
    if missing := [label for label in states if label not in there]:
        flags = " ".join(f"--drop-state {shlex.quote(label)}" for label in missing)
        raise StorageError(
            f"{path} was saved with {listing([f'callback {label!r}' for label in missing])}, which the configuration "
            f"does not have any more: put it back into config.toml, or resume with {flags}"
        )
