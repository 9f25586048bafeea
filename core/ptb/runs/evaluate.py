"""Measures a saved checkpoint of a run."""

import json
import math
from contextlib import closing
from typing import Any

from ptb.config.resolve import ComponentConfig, PartialConfig
from ptb.device import cpu_threads
from ptb.errors import ConfigError, NumericalError, PluginError, StorageError, one_line
from ptb.runs import blame, manifest
from ptb.runs.blame import explaining
from ptb.runs.compose import compose
from ptb.runs.provenance import warn_of_other_code
from ptb.seeding import preserve_rng_state
from ptb.storage.checkpoint import load_checkpoint, resolve_checkpoint
from ptb.storage.run_directory import RunDirectory
from ptb.training.blame import ComponentFailed
from ptb.training.evaluation import evaluate, sample_losses
from ptb.training.protocols import DetailedMetric
from ptb.training.state import load_component_state, load_weights


def evaluate_run(
    run: RunDirectory, partial: PartialConfig, *, checkpoint: str | None = None, split: str = "test"
) -> dict[str, Any]:
    """Evaluate a saved checkpoint of a run on a split, as the run itself did.

    A loss that gives one value a sample leaves them in ``losses-SPLIT-STEP.csv`` in the run directory.
    """
    file = resolve_checkpoint(run.checkpoints, checkpoint)
    composed = compose(partial, trains=False, initializes=False)
    config, trainer = composed.config, composed.trainer
    objective = trainer.objective
    if split not in trainer.eval_loaders:
        raise ConfigError(f"the data set has no {split} split; it has: {', '.join(trainer.eval_loaders)}")
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
        manifest.warn_of_other_data(run, composed)
        warn_of_other_code(run, (component.entry.found for component in config.components().values()))
        loader = trainer.eval_loaders[split]
        metrics = trainer.eval_metrics
        try:
            values = evaluate(objective, metrics, loader)
            losses = sample_losses(objective, loader)
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
    return {"step": saved.step, "split": split, "metrics": figures, "details": details, "losses": written}


def _details(component: ComponentConfig, metric: DetailedMetric) -> dict[str, Any]:
    with explaining(PluginError, f"{component.entry}: details() must give a dict of JSON values"):
        return dict(json.loads(json.dumps(metric.details())))
