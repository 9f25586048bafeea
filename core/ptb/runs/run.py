"""Carries out a composed run: trains, evaluates, saves and records. It looks nothing up: it is given what was built."""

import hashlib
import json
import math
import secrets
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from threading import RLock
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from ptb.config.layers import RunConfig
from ptb.config.resolve import ComponentConfig, ResolvedConfig
from ptb.device import cpu_threads, is_memory_error
from ptb.errors import (
    ConfigError,
    InterruptedRunError,
    NumericalError,
    PluginError,
    Problem,
    PtbError,
    StorageError,
    listing,
    one_line,
)
from ptb.runs import manifest
from ptb.runs.compose import ComposedRun, compose, explain_oom
from ptb.runs.replay import save_replay
from ptb.seeding import preserve_rng_state, seed_global
from ptb.storage.checkpoint import (
    Checkpoint,
    differences,
    find_checkpoints,
    latest_valid,
    load_checkpoint,
    model_state,
    prune_checkpoints,
    save_checkpoint,
    weights_sha256,
)
from ptb.storage.codec import DecodeError, Decoder, EncodeError, State
from ptb.storage.run_directory import RunDirectory, check_output
from ptb.training.nonfinite import Finding
from ptb.training.objective import DetailedMetric
from ptb.training.stepping import Group
from ptb.training.trainer import Recipe, Row, Totals, Training, evaluate, load_rest, most_at_once, sample_losses

if TYPE_CHECKING:
    from ptb.registry.registry import Registry


_ONE_AT_A_TIME = RLock()


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    ``metrics`` holds the last figures as ``{"test/accuracy": 0.98}``, ``skipped_steps`` counts those whose fp16
    gradients overflowed, ``model`` is the trained network.
    """

    output: Path
    status: str
    epoch: int
    step: int
    metrics: dict[str, float]
    weights_sha256: str
    parameters: int
    train_seconds: float
    samples_per_second: float
    skipped_steps: int
    model: nn.Module

    def summary(self) -> dict[str, Any]:
        """The facts of ``summary.json``."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("output", "model")}


class Observer(Protocol):
    """Shows a run to people, and tells when they want it to stop."""

    def line(self, text: str) -> None:
        """Something worth a line."""

    def epoch_started(self, epoch: int, epochs: int, steps: int, taken: int) -> None:
        """An epoch of that many steps begins, or goes on after so many of them."""

    def step_ended(self) -> None:
        """An optimizer step is done."""

    def stop_signal(self) -> int | None:
        """The number of the signal that asks the run to stop, if one has come."""


def train(config: RunConfig, *, registry: "Registry | None" = None, output: str | Path | None = None) -> RunResult:
    """Checks, composes and carries out one run, as ``ptb run`` does. The global random state is as before afterwards.

    Args:
        config: what to run.
        registry: where its components are looked up; a fresh one of all that is installed when left out. Whoever gives
            one has chosen the plugins with it, and leaves the section ``plugins`` out.
        output: the run directory, new or empty; one under ``runs/`` when left out.

    Raises:
        PtbError: one of its children; see ``ptb.errors``.
        TypeError: ``config`` is no ``RunConfig``; the message shows how to make one.
    """
    if not isinstance(config, RunConfig):
        made = f".read([{str(config)!r}])" if isinstance(config, str | Path) else '(model={"name": "lenet"})'
        raise TypeError(f"train takes a RunConfig, got {type(config).__name__}; write ptb.train(ptb.RunConfig{made})")
    if registry is not None and config.values.get("plugins"):
        message = (
            "has no effect on the registry that is given: leave the section out, and give "
            "ptb.load_registry(disable=[...], require=[...]); or give no registry"
        )
        raise ConfigError(Problem("plugins", message, config.source("plugins")))
    folder = None if output is None else Path(output)
    with _ONE_AT_A_TIME:  # the global generators and the number of threads are one for all threads of Python
        return execute(compose(config, registry), folder)


def resume(path: str | Path, *, registry: "Registry | None" = None, strict: bool = False) -> RunResult:
    """Goes on with a run that was stopped, as ``ptb resume`` does: it ends as if it had not been.

    Args:
        path: the run directory.
        registry: as in ``train``.
        strict: refuse where what the run was made with is not what is here.

    Raises:
        PtbError: one of its children; see ``ptb.errors``.
    """
    run = RunDirectory.open(Path(path))
    with _ONE_AT_A_TIME:
        return go_on(compose(run.resume_config(), registry), run, strict=strict)


def execute(
    composed: ComposedRun, output: Path | None, observer: Observer | None = None, *, until: int | None = None
) -> RunResult:
    """Trains, evaluates and records a composed run.

    Args:
        composed: what ``compose`` returned; its model is trained in place.
        output: the run directory, new or empty; None makes one under ``runs/``.
        observer: is told of the progress; without one nothing is shown, and nothing stops the run.
        until: the optimizer step after which the run is saved and left, to go on later.

    Raises:
        PtbError: see ``ptb.errors``; ``summary.json`` then says how far the run came.
    """
    plan = composed.plan
    run = RunDirectory.create(output, plan.model.entry.name, plan.dataset.entry.name)
    with _recording(composed, run, observer) as recorder:
        check_output(run.path)  # another process may have made a run here since
        run.write_config(plan.as_config())
        recorder.begun = True  # without a config.toml a summary.json would only be in the way of the next try
        run.write_manifest(manifest.describe(composed) | {"run": recorder.id})
        recorder.line(composed.summary_line())
        recorder.line(f"run directory: {run.path}")
        seed_global(plan.run.seed, "train")
        recorder.save(recorder.training)
        return recorder.train(until)


def go_on(
    composed: ComposedRun,
    run: RunDirectory,
    observer: Observer | None = None,
    *,
    strict: bool = False,
    until: int | None = None,
) -> RunResult:
    """Goes on with a run from its newest intact checkpoint.

    Args:
        composed: what ``compose`` made of its configuration.
        run: where its checkpoints are.
        observer: as in ``execute``.
        strict: refuse where versions, device, threads or data are not those of the run.
        until: as in ``execute``.

    Raises:
        StorageError: no checkpoint is intact, its state is not that of these components, or ``strict`` refuses.
        PtbError: as in ``execute``.
    """
    with _recording(composed, run, observer) as recorder:
        then, now = run.read_manifest(), manifest.describe(composed)
        recorder.id = str(then.get("run", recorder.id))
        checkpoint = latest_valid(run.checkpoints, then.get("run"), recorder.warn)
        manifest.check_config(run, checkpoint, composed.plan)
        # Where there is neither, it was killed before it wrote one.
        changed = manifest.changes(then, now) if then or checkpoint else []
        if changed and strict:
            raise StorageError(
                f"--strict-resume: {run.path} was made with something else: {'; '.join(changed)}; go on where it is "
                "as it was, or without --strict-resume"
            )
        for text in changed:
            warnings.warn(f"{text}: the run may not end as one that was not stopped", stacklevel=2)
        if checkpoint is None and (run.has_rows() or run.is_far() or then.get("resumed")):
            raise StorageError(
                f"{run.path} has been trained, as {run.metrics.name}, {run.summary.name} or {run.manifest.name} tell, "
                f"and has no checkpoint: put one back into {run.checkpoints}, or begin a new run"
            )
        if checkpoint is None:
            recorder.line("nothing was saved before the run was stopped: it begins at the start")
            seed_global(composed.plan.run.seed, "train")
        else:
            recorder.id = str(checkpoint.facts.get("run", recorder.id))  # the manifest may be gone
            recorder.take_up(checkpoint)
            if until is not None and until <= checkpoint.step and not recorder.training.is_over():
                raise ConfigError(f"--stop-after {until}: the run is at step {checkpoint.step}; name a later one")
            prune_checkpoints(run.checkpoints, composed.plan.trainer.keep_last)  # it may have been killed before
        if not recorder.training.is_over():
            told = {"step": recorder.totals.step, "argv": sys.argv, "changes": changed}
            run.write_manifest({**now, **then, "run": recorder.id, "resumed": [*then.get("resumed", []), told]})
        recorder.begun = True
        run.remove_summary()
        if checkpoint is None:
            recorder.save(recorder.training)
        return recorder.train(until)


def evaluate_run(
    run: RunDirectory,
    config: RunConfig,
    *,
    checkpoint: str = "last",
    split: str = "test",
    registry: "Registry | None" = None,
) -> dict[str, Any]:
    """Evaluates a saved checkpoint of a run on a split, as the run itself did.

    A loss that gives one value a sample leaves them in ``losses-SPLIT-STEP.csv`` in the run directory. Data that has
    changed since the run is warned of.

    Args:
        run: where its checkpoints are.
        config: what its ``evaluation_config`` gave.
        checkpoint: ``"last"``, ``"best"`` (the smallest validation loss) or a step.
        split: ``"train"``, ``"val"`` or ``"test"``.
        registry: where its components are looked up; a fresh one of all that is installed when left out.

    Returns:
        ``step``, ``split``, ``metrics``, a table of figures, ``details``, what metrics tell beside their figure, and
        ``losses``, the file of the losses of the samples or None.

    Raises:
        ConfigError: there is no such checkpoint, split or key.
        NumericalError: the loss is not finite; where there are losses of the samples, they are written nevertheless.
        PluginError: the details of a metric are no JSON values.
        StorageError: the checkpoint is damaged, or is one of another model.
    """
    file = _choose_checkpoint(run, checkpoint)
    composed = compose(config, registry, training=False)
    parts, splits = composed.parts, composed.parts.evaluation
    if split not in splits:
        raise ConfigError(f"the data set has no {split} split; it has: {', '.join(splits)}")
    saved = load_checkpoint(file)
    saved.restore(parts.model)
    try:
        load_rest(parts, saved.state, Decoder(saved.state.tensors, parts.device))
        most = most_at_once(saved.state)
    except DecodeError as error:
        raise StorageError(
            f"the checkpoint of step {saved.step} does not fit the model or the loss: {error}"
        ) from error
    plan = composed.plan
    with closing(parts), preserve_rng_state(), cpu_threads(plan.run.threads), explain_oom(plan, False), _blamed(plan):
        manifest.warn_of_other_data(run, composed)
        values = evaluate(parts, splits[split], most=most)
        losses = sample_losses(parts, splits[split], most)
        written = None if losses is None else str(run.write_losses(split, saved.step, losses.tolist()))
        if not math.isfinite(values["loss"]):
            told = f"; the loss of each sample is in {written}" if written else ""
            raise NumericalError(
                f"the {split} loss is {values['loss']} with the weights of step {saved.step}: the scores of the model "
                f"are not finite, or the data holds values that are too large{told}"
            )
        details = {
            label: _details(plan.choices()[f"metrics.{label}"], metric)
            for label, metric in parts.eval_metrics.items()
            if isinstance(metric, DetailedMetric)
        }
    return {
        "step": saved.step,
        "split": split,
        "metrics": {f"{split}/{name}": value for name, value in values.items()},
        "details": details,
        "losses": written,
    }


@contextmanager
def _recording(composed: ComposedRun, run: RunDirectory, observer: Observer | None) -> Iterator["_Recorder"]:
    """A recorder that holds the run directory, and writes at the end how the run ended, also where it fails."""
    plan = composed.plan
    with closing(composed.parts), run.writing():
        recorder = _Recorder(run, composed, observer)
        try:
            with preserve_rng_state(), cpu_threads(plan.run.threads), explain_oom(plan), _blamed(plan):
                yield recorder
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt) or getattr(error, "exit_code", 0) > 128
            if recorder.begun:
                with suppress(StorageError):  # the disk may be what fails, and the first error tells it
                    run.append_log(one_line(error))
                    recorder.finish("interrupted" if interrupted else "failed", one_line(error))
            raise


class _Recorder:
    """The trainer's watcher: writes the run directory and passes the progress on."""

    def __init__(self, run: RunDirectory, composed: ComposedRun, observer: Observer | None) -> None:
        self.id = secrets.token_hex(8)
        self.begun = False  # before that, what the run directory tells is still true
        self.run = run
        self.composed = composed
        self.observer = observer
        self.pending: list[Row] = []
        self.rows = hashlib.sha256()  # of metrics.jsonl
        self.step_ended: Callable[[], None] = observer.step_ended if observer else _nothing
        self.stop_signal: Callable[[], int | None] = observer.stop_signal if observer else _nothing
        settings = composed.plan.trainer.model_dump()
        self.training = Training(composed.parts, Recipe(**{f.name: settings[f.name] for f in fields(Recipe)}), self)

    @property
    def totals(self) -> Totals:
        return self.training.totals

    def train(self, until: int | None) -> RunResult:
        epochs, patience = self.training.recipe.epochs, self.training.recipe.patience
        try:
            over = self.training.run(until)
        except InterruptedRunError as error:
            raise InterruptedRunError(
                f"{error}; `ptb resume {self.run.path}` goes on", error.exit_code - 128
            ) from error
        if not over:
            step = self.totals.step
            self.line(f"stopped after step {step}, as was asked; it is saved, and `ptb resume {self.run.path}` goes on")
            return self.finish("interrupted", f"stopped after step {step}, as was asked")
        if self.totals.epoch < epochs:
            self.line(f"stopped early: {patience} evaluations without a smaller validation loss")
        return self.finish("finished")

    def take_up(self, checkpoint: Checkpoint) -> None:
        """Puts the training where it was when the checkpoint was saved, and the figures too."""
        try:
            if checkpoint.state.node is None:
                raise DecodeError("it holds the weights only, as ptb saved them before there was `ptb resume`")
            self.training.load_state(checkpoint.state)
            if self.totals.step != checkpoint.step:
                raise DecodeError(f"it is the state of step {self.totals.step}")
            again = Checkpoint(checkpoint.path, checkpoint.step, checkpoint.facts, self.training.state())
        except (DecodeError, EncodeError) as error:
            raise StorageError(f"cannot go on from {checkpoint.path}: {error}") from error
        if lost := differences(checkpoint, again):
            message = f"{checkpoint.path} cannot be taken up again exactly: {listing(lost, 3)}"
            warnings.warn(f"{message}: the run will not end as if it had not been stopped", stacklevel=2)
        whole = self.run.cut_rows(self.totals.rows)
        self.rows.update(self.run.rows())
        if not whole or self.rows.hexdigest() != checkpoint.facts.get("rows_sha256", self.rows.hexdigest()):
            how = "has other rows than" if whole else "has lost rows that were there"
            warnings.warn(f"{self.run.metrics} {how} at step {checkpoint.step}: it was changed since", stacklevel=2)
        over = self.training.is_over()
        how = "nothing is left to train" if over else "goes on"
        self.line(f"{how} after step {checkpoint.step}, from {checkpoint.path.name}")

    def line(self, text: str) -> None:
        self.run.append_log(text)
        if self.observer:
            with suppress(OSError):  # nobody may be looking on any more; the log has the line
                self.observer.line(text)

    def warn(self, text: str) -> None:
        self.run.append_log(text)
        warnings.warn(text, stacklevel=2)

    def epoch_started(self, epoch: int, steps: int, taken: int) -> None:
        self._show_rows()
        if self.observer:
            self.observer.epoch_started(epoch, self.training.recipe.epochs, steps, taken)

    def row(self, row: Row) -> None:
        if self.pending and self.pending[0].step != row.step:
            self._show_rows()
        facts = {"step": row.step, "epoch": row.epoch, "split": row.split, "values": row.values, "lr": row.lr}
        if row.samples_per_second is not None:
            facts["samples_per_second"] = row.samples_per_second
        self.rows.update(self.run.append_row(facts))
        self.pending.append(row)

    def save(self, training: Training) -> None:
        totals = training.totals
        try:
            state = training.state()
        except EncodeError as error:
            raise PluginError(f"the run cannot be saved: {error}") from error
        self.run.sync_rows()
        config = self.composed.plan.as_config()
        facts = {
            "run": self.id,
            "epoch": totals.epoch,
            "best_step": totals.best_step,
            "rows_sha256": self.rows.hexdigest(),
            "config": config,
        }
        save_checkpoint(self.run.checkpoints, totals.step, state, facts)
        prune_checkpoints(self.run.checkpoints, self.composed.plan.trainer.keep_last)

    def save_replay(self, state: State, step: int, group: Group, samples: list[Tensor], finding: Finding) -> str:
        path = save_replay(self.run.path, self.composed.plan.as_config(), state, step, group, samples, finding)
        return str(path)

    def finish(self, status: str, reason: str = "") -> RunResult:
        self._show_rows()
        totals, model = self.totals, self.composed.parts.model
        if totals.skipped:
            self.line(f"{totals.skipped} of {totals.step} steps were skipped: their fp16 gradients overflowed")
        result = RunResult(
            output=self.run.path,
            status=status,
            epoch=totals.epoch,
            step=totals.step,
            metrics=dict(totals.metrics),
            weights_sha256=weights_sha256(model_state(model)),
            parameters=self.composed.parameters,
            train_seconds=totals.seconds,
            samples_per_second=totals.samples / totals.seconds if totals.seconds else 0.0,
            skipped_steps=totals.skipped,
            model=model,
        )
        self.run.write_summary(result.summary() | ({"reason": reason} if reason else {}))
        return result

    def _show_rows(self) -> None:
        """One line an epoch: its splits beside each other."""
        if self.pending:
            row = self.pending[0]
            parts = [
                f"{r.split} " + " ".join(f"{label} {value:.4f}" for label, value in r.values.items())
                for r in self.pending
            ]
            speed = f"{row.samples_per_second:,.0f} samples/s" if row.samples_per_second else ""
            epochs = str(self.training.recipe.epochs)
            inside = "" if row.split == "train" else f"step {row.step}  "
            self.pending = []
            self.line(f"epoch {row.epoch:>{len(epochs)}}/{epochs}  {inside}{'  '.join(parts)}  {speed}".rstrip())


def _nothing() -> None:
    """What happens where nobody looks on."""


def _details(choice: ComponentConfig, metric: DetailedMetric) -> dict[str, Any]:
    details = metric.details()
    try:
        json.dumps(details)
        fault = "" if isinstance(details, dict) else type(details).__name__
    except (TypeError, ValueError, RecursionError) as error:
        fault = one_line(error)
    if fault:
        raise PluginError(
            f"{choice.entry}: details() must give a dict of JSON values, such as tensor.tolist(): {fault}"
        )
    return details


def _choose_checkpoint(run: RunDirectory, wanted: str) -> Path:
    checkpoints = find_checkpoints(run.checkpoints)
    if not checkpoints:
        raise ConfigError(f"{run.path} has no checkpoints")
    newest = checkpoints[max(checkpoints)]
    if wanted == "last":
        return newest
    if wanted == "best":
        step = load_checkpoint(newest).facts.get("best_step")
        if step is None:
            raise ConfigError(
                f"{run.path} has no best checkpoint: the best is chosen by the validation loss; use --checkpoint last"
            )
        wanted = str(step)
    if not wanted.isdigit() or int(wanted) not in checkpoints:
        there = ", ".join(map(str, checkpoints))
        raise ConfigError(f"{run.path} has no checkpoint '{wanted}'; valid are last, best and the steps {there}")
    return checkpoints[int(wanted)]


@contextmanager
def _blamed(plan: ResolvedConfig) -> Iterator[None]:
    """Turns what a component raises while it trains into an error that names its plugin (the innermost)."""
    try:
        yield
    except (Exception, SystemExit) as error:  # a stranger's code may raise anything
        if isinstance(error, PtbError) or is_memory_error(error):
            raise
        modules = [str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(error.__traceback__)]
        for module in reversed(modules):
            for choice in plan.choices().values():
                if _belongs(module, choice.entry.target):
                    raise PluginError(f"{choice.entry} failed while training: {one_line(error)}") from error
        raise


def _belongs(module: str, target: str) -> bool:
    """Whether code of this module is the target's: of its package, or for torch's own targets of their module."""
    home = target.partition(":")[0]
    home = home if home.startswith("torch.") else home.partition(".")[0]
    return module == home or module.startswith(f"{home}.")
