"""Measures a saved checkpoint of a run."""

import json
import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from typing import Any

import torch

from ptb.config.resolve import ComponentConfig, PartialConfig
from ptb.data.decoding import plain
from ptb.data.loader import BatchLoader
from ptb.data.preprocessor import Preprocessor
from ptb.device import cpu_threads
from ptb.errors import ConfigError, NumericalError, PluginError, StorageError, one_line
from ptb.runs import blame, manifest
from ptb.runs.blame import explaining
from ptb.runs.compose import ComposedRun, compose
from ptb.runs.other_data import bundle_of
from ptb.runs.provenance import warn_of_other_code
from ptb.seeding import preserve_rng_state
from ptb.storage.checkpoint import load_checkpoint, resolve_checkpoint
from ptb.storage.run_directory import RunDirectory
from ptb.training.blame import ComponentFailed
from ptb.training.evaluation import evaluate, sample_losses
from ptb.training.objective import Objective
from ptb.training.protocols import DetailedMetric
from ptb.training.state import load_component_state, load_weights, preserve_state

SOURCE = "source"


def evaluate_run(
    run: RunDirectory,
    partial: PartialConfig,
    *,
    checkpoint: str | None = None,
    split: str = "test",
    sources: Any = None,
    samples: bool = False,
) -> dict[str, Any]:
    """Evaluate a saved checkpoint of a run on a split, as the run itself did; or on ``sources``, as split ``source``.

    A loss that gives one value a sample leaves them in ``losses-SPLIT-STEP.csv`` in the run directory, but for sources.
    With ``samples`` there is a dict for each sample: input, truth, what is predicted, and its loss where there is one.
    """
    file = resolve_checkpoint(run.checkpoints, checkpoint)
    bundle = None if sources is None else bundle_of(run, partial.registry, sources)
    composed = compose(partial, trains=False, initializes=False, bundle=bundle)
    config, trainer = composed.config, composed.trainer
    objective = trainer.objective
    if bundle is None and split not in trainer.eval_loaders:
        raise ConfigError(f"the data set has no {split} split; it has: {', '.join(trainer.eval_loaders)}")
    loader = trainer.eval_loaders["train" if bundle else split]
    split = SOURCE if bundle else split
    saved = load_checkpoint(file)
    try:
        state = saved.decode(trainer.device)
        load_weights(trainer.model, state["model"])
        load_component_state(objective.loss, state["loss"])
    except Exception as error:  # a component may raise anything on the state of another one
        raise StorageError(
            f"the checkpoint of step {saved.step} does not fit the model or the loss: {one_line(error)}"
        ) from error
    with (
        closing(composed),
        preserve_rng_state(),
        cpu_threads(config.run.threads),
        blame.explain_oom(config.run.device, config.loader.batch_size, trains=False),
        blame.training(config.components()),
    ):
        if bundle is None:
            manifest.check_same_data(run, composed)
        warn_of_other_code(run, (component.entry.found for component in config.components().values()))
        metrics = trainer.eval_metrics
        try:
            values = evaluate(objective, metrics, loader)
            losses = sample_losses(objective, loader) if bundle is None else None
            rows = [*_rows(composed, objective, loader, split)] if samples else None
        except StorageError:
            raise
        except Exception as error:
            raise ComponentFailed(trainer.calls.now) from error
        written = None if losses is None else str(run.write_losses(split, saved.step, losses.tolist()))
        if not math.isfinite(values["loss"]):
            raise NumericalError(
                f"the {split} loss is {values['loss']} with the weights of step {saved.step}: the scores of the model "
                "are not finite, or the data holds values that are too large"
                + (f"; the loss of each sample is in {written}" if written else "")
            )
        details = {
            label: _details(config.metrics[label], metric)
            for label, metric in metrics.items()
            if isinstance(metric, DetailedMetric)
        }
    figures = {f"{split}/{label}": value for label, value in values.items()}
    told = {"step": saved.step, "split": split, "metrics": figures, "details": details, "losses": written}
    return told if rows is None else told | {"samples": rows}


def _rows(composed: ComposedRun, objective: Objective, loader: BatchLoader, split: str) -> Iterator[dict[str, Any]]:
    """A dict for each sample of a split."""
    bundle = composed.bundle
    preprocessor = bundle.preprocessor or Preprocessor()
    preprocessor.spec = bundle.spec
    names = iter(bundle.names(split)) if bundle.names else (f"{split}:{number}" for number in count(0))
    with preserve_state(objective.model, objective.loss), torch.inference_mode(), unreduced(objective.loss):
        objective.model.eval()
        for batch in loader.epoch():
            outputs = objective.forward(batch.inputs)
            columns = {"truth": preprocessor.decode_targets(batch.targets)}
            columns |= preprocessor.decode(objective.predictions(outputs))
            loss = objective.loss_values(outputs, batch.targets)
            if loss.ndim:
                columns["loss"] = objective.by_sample(loss, batch.targets).cpu()
            for row in zip(*map(plain, columns.values()), strict=True):
                name = next(names)
                yield {"input": name, **dict(zip(columns, row, strict=True))}


@contextmanager
def unreduced(loss: Any) -> Iterator[None]:
    """Inside it, a loss that can give one value a sample does."""
    before = getattr(loss, "reduction", None)
    if before is not None:
        loss.reduction = "none"
    try:
        yield
    finally:
        if before is not None:
            loss.reduction = before


def _details(component: ComponentConfig, metric: DetailedMetric) -> dict[str, Any]:
    with explaining(PluginError, f"{component.entry}: details() must give a dict of JSON values"):
        return dict(json.loads(json.dumps(metric.details())))
