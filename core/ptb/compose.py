"""Puts a run together and carries it out: the only place where the registry and torch meet."""

import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.data import Dataset

from ptb import preflight
from ptb.batches import Batches, fingerprint
from ptb.checkpoint import find_checkpoints, load_checkpoint, model_state, prune_checkpoints, save_checkpoint, weights_sha256
from ptb.device import describe_device, resolve_device
from ptb.discovery import BUILT_IN
from ptb.errors import ConfigError, DataError, MisfitError, PluginError, PtbError, ResourceError, first_line
from ptb.plan import Choice, Plan, resolve
from ptb.registry import Registry, load_registry
from ptb.run_config import RunConfig
from ptb.rundir import RunDirectory, git_commit
from ptb.seeding import isolated, seed_global
from ptb.spec import DataBundle, DataSpec
from ptb.trainer import Cadence, Metric, Parts, Row, Totals, evaluate, fit


@dataclass(frozen=True)
class RunResult:
    """How a run ended. ``metrics`` holds the last figures as ``{"test/accuracy": 0.98}``; ``model`` the trained network."""

    output: Path
    status: str
    epoch: int
    step: int
    metrics: dict[str, float]
    weights_sha256: str
    parameters: int
    train_seconds: float
    samples_per_second: float
    model: nn.Module

    def summary(self) -> dict[str, Any]:
        """The facts of ``summary.json``."""
        names = ("status", "epoch", "step", "metrics", "weights_sha256", "parameters", "train_seconds", "samples_per_second")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Composition:
    """A run whose parts are built and fit each other; nothing is trained and nothing is written."""

    plan: Plan
    spec: DataSpec
    parts: Parts
    splits: dict[str, Dataset[Any]]
    registry: Registry

    @property
    def parameters(self) -> int:
        """Number of values in the model's parameters."""
        return sum(parameter.numel() for parameter in self.parts.model.parameters())

    def headline(self) -> str:
        """One line for people: what is trained on what, where."""
        sizes = " / ".join(f"{batches.samples:,} {name}" for name, batches in self.batches().items())
        return (
            f"{self.plan.model.entry.name} on {self.plan.dataset.entry.name}: {self.parameters:,} parameters, "
            f"{sizes} samples, {describe_device(self.parts.device)}"
        )

    def batches(self) -> dict[str, Batches]:
        """The batches of each split that there is."""
        named = {"train": self.parts.train, "val": self.parts.val, "test": self.parts.test}
        return {name: batches for name, batches in named.items() if batches is not None}


class Observer(Protocol):
    """Sees a run for people: progress and log lines. Nothing that it does reaches the training."""

    def line(self, text: str) -> None:
        """Something worth a line."""

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        """An epoch of that many steps begins."""

    def step_ended(self) -> None:
        """An optimizer step is done."""

    def stop_signal(self) -> int | None:
        """The number of the signal that asks the run to stop, if one has come."""


class SilentObserver:
    """Shows nothing and never stops: what ``ptb.train`` uses."""

    def line(self, text: str) -> None:
        """Nothing."""

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        """Nothing."""

    def step_ended(self) -> None:
        """Nothing."""

    def stop_signal(self) -> int | None:
        """Never."""
        return None


def train(config: RunConfig, *, registry: Registry | None = None, output: str | Path | None = None) -> RunResult:
    """Checks, composes and carries out one run, as ``ptb run`` does. The global random state is as before afterwards.

    Args:
        config: what to run.
        registry: where its components are looked up; a fresh one of all that is installed when left out.
        output: the run directory, new or empty; one under ``runs/`` when left out.

    Raises:
        PtbError: one of its children; see ``ptb.errors``.
    """
    folder = None if output is None else Path(output)
    return execute(compose(config, registry or load_registry()), folder, SilentObserver())


def compose(config: RunConfig, registry: Registry) -> Composition:
    """Builds every part of a run and checks that they fit.

    Raises:
        ConfigError: the configuration is wrong, or the machine lacks the device.
        DataError: the data cannot be had, or the parts do not fit each other.
        PluginError: a target cannot be imported, or raises while it is built.
    """
    plan = resolve(config, registry)
    device = resolve_device(plan.run.device, config.source("device"))
    seed = plan.run.seed
    with isolated():
        seed_global(seed, "dataset")
        bundle = _build_dataset(plan.dataset)
        plan = resolve(config, registry, bundle.spec.target)
        plan = _with_device(plan, device)
        assert plan.loss is not None
        preflight.check_declared(bundle.spec, {name: choice.entry.component for name, choice in plan.choices().items()})
        seed_global(seed, "model")
        model = _build_model(plan, bundle.spec).to(device)
        seed_global(seed, "initializer")
        with torch.no_grad(), _blamed(plan.initializer):
            plan.initializer.build(model)
        parts = _assemble(plan, bundle, model, device)
        dataset, loss = f"data set '{plan.dataset.entry.name}'", f"loss '{plan.loss.entry.name}'"
        preflight.check_batches(parts, bundle.spec, dataset)
        preflight.check_forward(parts, bundle.spec, f"model '{plan.model.entry.name}'", loss, dataset)
    return Composition(plan, bundle.spec, parts, bundle.splits, registry)


def execute(composition: Composition, output: Path | None, observer: Observer) -> RunResult:
    """Trains, evaluates and records a composed run.

    Args:
        composition: what ``compose`` returned; its model is trained in place.
        output: the run directory, new or empty; None makes one under ``runs/``.
        observer: is shown the progress.

    Raises:
        PtbError: see ``ptb.errors``; ``summary.json`` then says how far the run came.
    """
    plan, parts = composition.plan, composition.parts
    run = RunDirectory.create(output, plan.model.entry.name, plan.dataset.entry.name)
    run.write_config(plan.as_config())
    run.write_manifest(_manifest(composition))
    recorder = _Recorder(run, composition, observer)
    recorder.line(f"{composition.headline()}")
    recorder.line(f"run directory: {run.path}")
    cadence = Cadence(plan.trainer.epochs, plan.trainer.eval_every, plan.trainer.checkpoint_every)
    try:
        with isolated(), _memory_named(plan):
            seed_global(plan.run.seed, "train")
            fit(parts, cadence, recorder)
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt) or getattr(error, "exit_code", 0) > 128
        recorder.finish("interrupted" if interrupted else "failed", first_line(error))
        raise
    return recorder.finish("finished")


def evaluate_run(path: Path, *, checkpoint: str = "last", split: str = "test", device: str | None = None) -> dict[str, Any]:
    """Evaluates a saved checkpoint of a run on a split, as the run itself did.

    Args:
        path: the run directory.
        checkpoint: ``"last"``, ``"best"`` (the smallest validation loss) or a step.
        split: ``"train"``, ``"val"`` or ``"test"``.
        device: where to compute; that of the run when left out.

    Returns:
        ``step``, ``split`` and ``metrics``, a table of figures.

    Raises:
        ConfigError: there is no such run, checkpoint or split.
        StorageError: the checkpoint is damaged, or is one of another model.
    """
    run = RunDirectory.open(path)
    config = RunConfig.read([run.config], {"device": device})
    file = _choose_checkpoint(run, checkpoint)
    composition = compose(config, load_registry())
    if split not in composition.batches():
        raise ConfigError(f"the data set has no {split} split; it has: {', '.join(composition.batches())}")
    saved = load_checkpoint(file)
    saved.restore(composition.parts.model)
    batches = composition.batches()[split]
    if split == "train":  # every sample once, in the order of the data set
        batches = _batches(composition.plan, composition.splits["train"], composition.parts.train)
    with isolated(), _memory_named(composition.plan):
        values = evaluate(composition.parts, batches)
    return {"step": saved.step, "split": split, "metrics": {f"{split}/{label}": value for label, value in values.items()}}


class _Recorder:
    """The trainer's watcher: writes the run directory and passes the progress on."""

    def __init__(self, run: RunDirectory, composition: Composition, observer: Observer) -> None:
        self.run = run
        self.composition = composition
        self.observer = observer
        self.totals = Totals()
        self.pending: list[Row] = []
        self.step_ended: Callable[[], None] = observer.step_ended
        self.stop_signal: Callable[[], int | None] = observer.stop_signal

    def line(self, text: str) -> None:
        self.run.append_log(text)
        self.observer.line(text)

    def epoch_started(self, epoch: int, steps: int) -> None:
        self._show_rows()
        self.observer.epoch_started(epoch, self.composition.plan.trainer.epochs, steps)

    def row(self, row: Row) -> None:
        facts = {"step": row.step, "epoch": row.epoch, "split": row.split, "values": row.values, "lr": row.lr}
        if row.samples_per_second is not None:
            facts["samples_per_second"] = row.samples_per_second
        self.run.append_row(facts)
        self.totals.epoch, self.totals.step = row.epoch, row.step
        self.totals.metrics |= {f"{row.split}/{label}": value for label, value in row.values.items()}
        self.pending.append(row)

    def checkpoint(self, totals: Totals) -> None:
        self.totals = totals
        facts = {"epoch": totals.epoch, "best_step": totals.best_step, "metrics": totals.metrics}
        save_checkpoint(self.run.checkpoints, totals.step, model_state(self.composition.parts.model), facts)
        prune_checkpoints(self.run.checkpoints, totals.best_step)

    def finish(self, status: str, reason: str = "") -> RunResult:
        self._show_rows()
        totals, model = self.totals, self.composition.parts.model
        result = RunResult(
            output=self.run.path,
            status=status,
            epoch=totals.epoch,
            step=totals.step,
            metrics=dict(totals.metrics),
            weights_sha256=weights_sha256(model_state(model)),
            parameters=self.composition.parameters,
            train_seconds=totals.seconds,
            samples_per_second=totals.samples / totals.seconds if totals.seconds else 0.0,
            model=model,
        )
        self.run.write_summary(result.summary() | ({"reason": reason} if reason else {}))
        return result

    def _show_rows(self) -> None:
        """One line an epoch: its splits beside each other."""
        if self.pending:
            row = self.pending[0]
            parts = [f"{r.split} " + " ".join(f"{label} {value:.4f}" for label, value in r.values.items()) for r in self.pending]
            speed = f"{row.samples_per_second:,.0f} samples/s" if row.samples_per_second else ""
            epochs = str(self.composition.plan.trainer.epochs)
            self.pending = []
            self.line(f"epoch {row.epoch:>{len(epochs)}}/{epochs}  {'  '.join(parts)}  {speed}")


def _build_dataset(choice: Choice) -> DataBundle:
    with _blamed(choice):
        bundle = choice.build()
    if not isinstance(bundle, DataBundle):
        raise PluginError(f"{choice.entry} must give a DataBundle, it gives {type(bundle).__name__}")
    return bundle


def _build_model(plan: Plan, spec: DataSpec) -> nn.Module:
    try:
        with _blamed(plan.model, ValueError):
            model = plan.model.build(spec)
    except ValueError as error:
        raise MisfitError(_misfit(plan, spec, error)) from error
    if not isinstance(model, nn.Module):
        raise PluginError(f"{plan.model.entry} must give an nn.Module, it gives {type(model).__name__}")
    return model


def _misfit(plan: Plan, spec: DataSpec, error: ValueError) -> str:
    settings = ", ".join(f"dataset.{key}={value}" for key, value in plan.dataset.as_config().items() if key != "name")
    return (
        f"model '{plan.model.entry.name}' cannot take the inputs of data set '{plan.dataset.entry.name}', of shape "
        f"{spec.input_shape}: {error}; the data set's settings are now {settings or 'none'}"
    )


def _assemble(plan: Plan, bundle: DataBundle, model: nn.Module, device: torch.device) -> Parts:
    assert plan.loss is not None
    train = Batches(
        bundle.train,
        batch_size=plan.loader.batch_size,
        device=device,
        seed=plan.run.seed if plan.loader.shuffle else None,
        drop_last=plan.loader.drop_last,
        num_workers=plan.loader.num_workers,
        prepare=bundle.prepare,
        augment=bundle.augment,
    )
    with _blamed(plan.loss):
        loss = plan.loss.build(bundle.spec)
    with _blamed(plan.optimizer):
        optimizer = plan.optimizer.build(model.parameters())
    with _blamed(plan.scheduler):
        scheduler = plan.scheduler.build(optimizer, max(len(train), 1) * plan.trainer.epochs)
    return Parts(
        model=model,
        loss=loss.to(device) if isinstance(loss, nn.Module) else loss,
        optimizer=optimizer,
        scheduler=scheduler,
        train=train,
        val=None if bundle.val is None else _batches(plan, bundle.val, train),
        test=None if bundle.test is None else _batches(plan, bundle.test, train),
        train_metrics=_build_metrics(plan, bundle.spec, device),
        eval_metrics=_build_metrics(plan, bundle.spec, device),
        device=device,
        closure="closure" in plan.optimizer.entry.component.needs,
        pairs=bundle.spec.target == "similarity",
    )


def _batches(plan: Plan, split: Dataset[Any], train: Batches) -> Batches:
    """Batches for evaluation: every sample once, in the order of the data set, prepared as in training."""
    return Batches(
        split,
        batch_size=plan.loader.batch_size,
        device=train.device,
        num_workers=plan.loader.num_workers,
        prepare=train.prepare,
    )


def _build_metrics(plan: Plan, spec: DataSpec, device: torch.device) -> dict[str, Metric]:
    metrics = {}
    for label, choice in (plan.metrics or {}).items():
        with _blamed(choice):
            metric = choice.build(spec)
        metrics[label] = metric.to(device) if isinstance(metric, nn.Module) else metric
    return metrics


def _with_device(plan: Plan, device: torch.device) -> Plan:
    """The plan with the device that was found: a run is repeated where it ran."""
    return Plan(**{**vars(plan), "run": plan.run.model_copy(update={"device": str(device)})})


def _choose_checkpoint(run: RunDirectory, wanted: str) -> Path:
    checkpoints = find_checkpoints(run.checkpoints)
    if not checkpoints:
        raise ConfigError(f"{run.path} has no checkpoints")
    newest = checkpoints[max(checkpoints)]
    if wanted == "last":
        return newest
    if wanted == "best":
        step = load_checkpoint(newest).facts["best_step"]
        if step is None:
            raise ConfigError(f"{run.path} has no best checkpoint: the best is chosen by the validation loss; use --checkpoint last")
        wanted = str(step)
    if not wanted.isdigit() or int(wanted) not in checkpoints:
        there = ", ".join(map(str, checkpoints))
        raise ConfigError(f"{run.path} has no checkpoint '{wanted}'; valid are last, best and the steps {there}")
    return checkpoints[int(wanted)]


def _manifest(composition: Composition) -> dict[str, Any]:
    plan, registry = composition.plan, composition.registry
    versions = {plugin.name: plugin.version for plugin in registry.plugins()}
    return {
        "ptb": versions.get(BUILT_IN),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(composition.parts.device),
        "device_name": describe_device(composition.parts.device),
        "threads": torch.get_num_threads(),
        "seed": plan.run.seed,
        "argv": sys.argv,
        "git_commit": git_commit(),
        "dataset_sha256": fingerprint(composition.splits),
        "plugins": [
            {"section": section, "id": e.id, "distribution": e.plugin, "version": e.version, "target": e.target}
            for section, e in ((section, choice.entry) for section, choice in plan.choices().items())
        ],
    }


@contextmanager
def _blamed(choice: Choice, *passed_on: type[Exception]) -> Iterator[None]:
    """Turns what a target raises while it is built into an error that names its plugin."""
    try:
        yield
    except (PtbError, *passed_on):
        raise
    except MemoryError:
        raise
    except Exception as error:  # a stranger's code may raise anything
        kind = DataError if choice.entry.kind == "dataset" and isinstance(error, OSError) else PluginError
        raise kind(f"{choice.entry}: building it failed: {first_line(error)}") from error


@contextmanager
def _memory_named(plan: Plan) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        half = max(plan.loader.batch_size // 2, 1)
        raise ResourceError(
            f"out of memory with loader.batch_size={plan.loader.batch_size} on {plan.run.device}; try --batch-size {half}"
        ) from error
