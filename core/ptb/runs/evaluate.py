"""Measures a saved checkpoint of a run."""

import json
import math
from contextlib import closing
from typing import Any

from ptb.config.resolve import ComponentConfig, PartialConfig
from ptb.errors import ConfigError, NumericalError, PluginError, StorageError, one_line
from ptb.runs import manifest
from ptb.runs.blame import explaining
from ptb.runs.compose import compose
from ptb.runs.other_data import bundle_of
from ptb.runs.predictions import prediction_rows, write_predictions
from ptb.runs.provenance import warn_of_other_code
from ptb.runs.together import leaving
from ptb.storage.checkpoint import load_checkpoint, resolve_checkpoint
from ptb.storage.run_directory import RunDirectory
from ptb.training.evaluation import evaluate
from ptb.training.protocols import DetailedMetric
from ptb.training.state import load_component_state, load_weights

SOURCE = "source"


def evaluate_run(
    run: RunDirectory,
    partial: PartialConfig,
    *,
    checkpoint: str | None = None,
    split: str = "test",
    sources: Any = None,
    samples: bool = False,
    record: bool = False,
) -> dict[str, Any]:
    """Evaluate a saved checkpoint of a run on a split, as the run itself did; or on ``sources``, as split ``source``.

    With ``samples`` there is a dict for each sample: input, truth, what is predicted, and its loss where there is one;
    ``record`` writes that of a split into the run directory.
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
    except (Exception, SystemExit) as error:  # a component may raise anything on the state of another one
        raise StorageError(
            f"the checkpoint of step {saved.step} does not fit the model or the loss: {one_line(error)}"
        ) from error
    with leaving(composed.world), closing(composed), composed.running(trains=False):
        if bundle is None:
            manifest.check_same_data(run, composed)
        warn_of_other_code(run, (component.entry.found for component in config.components().values()))
        metrics = trainer.eval_metrics
        values = evaluate(objective, metrics, loader)
        rows = [*prediction_rows(composed, loader, split)] if samples else None
        if record:
            write_predictions(run, composed, loader, split, saved.step)
        trainer.calls.now = ""
        if not math.isfinite(values["loss"]):
            raise NumericalError(
                f"the {split} loss is {values['loss']} with the weights of step {saved.step}: the scores of the model "
                "are not finite, or the data holds values that are too large"
            )
        details = {
            label: _details(config.metrics[label], metric)
            for label, metric in metrics.items()
            if isinstance(metric, DetailedMetric)
        }
    figures = {f"{split}/{label}": value for label, value in values.items()}
    told = {"step": saved.step, "split": split, "metrics": figures, "details": details}
    return told if rows is None else told | {"samples": rows}


def _details(component: ComponentConfig, metric: DetailedMetric) -> dict[str, Any]:
    with explaining(PluginError, f"{component.entry}: details() must give a dict of JSON values"):
        return dict(json.loads(json.dumps(metric.details())))
