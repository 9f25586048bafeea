"""Exports the model of a run: written under its name only when it says what the run says."""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptb import ConfigError, DataError, PtbError, Registry, RunConfig, TrainedModel, __version__, load
from ptb.internals import (
    build_dataset,
    leaves,
    make_sources,
    map_leaves,
    resolve_some,
    split_checkpoint,
    weights_sha256,
    write_atomically,
)
from ptb_export.check import SAMPLES, check
from ptb_export.formats import export
from ptb_export.graph import OUTPUTS, Graph


def export_run(
    run: str, sources: Sequence[str], format_name: str, target: Path, checkpoint: str | None, registry: Registry
) -> dict[str, Any]:
    """Export, check and write; returns what was written.

    Raises:
        PtbError: see ``ptb export``.
    """
    model = load(run, checkpoint, device="cpu", registry=registry)
    inputs = _inputs(model, run, sources, registry)
    graph = Graph(model).eval()
    outputs = ("scores", OUTPUTS[model.spec.target])
    about = {
        "version": __version__,
        "target": model.spec.target,
        "class_names": list(model.class_names),
        "step": model.step,
        "weights_sha256": weights_sha256(model.model.state_dict()),
    }
    exported = export(format_name, graph, _example(inputs, model), outputs, about)
    if exported.metadata != about:
        raise DataError(f"the metadata of the exported file are not those that were written: {exported.metadata}")

    def reference(batch: Any) -> tuple[Tensor, Tensor]:
        scores = model.scores(batch)
        with torch.inference_mode():
            return scores, graph._link(scores)

    difference = check(exported.run, reference, inputs, model.spec)
    sidecar = target.with_name(f"{target.name}.preprocessor.json")
    write_atomically(sidecar, json.dumps(_sidecar(model), indent=2) + "\n")
    write_atomically(target, exported.content)
    return {
        "file": str(target),
        "preprocessor": str(sidecar),
        "bytes": len(exported.content),
        "step": model.step,
        "samples": len(next(leaves(inputs))),
        "difference": difference,
    }


def _inputs(model: TrainedModel, run: str, sources: Sequence[str], registry: Registry) -> Any:
    """Real samples as one batch: of the sources, else of the run's own test split."""
    if sources:
        read = (each for each in model.preprocessor.read(map(Path, sources)) if each.error is None)
        found = [each.inputs for each in islice(read, SAMPLES)]
        if not found:
            raise DataError(f"no input of {' '.join(sources)} can be used; `ptb predict` says why")
        return model.collated(found)
    config = RunConfig.read([split_checkpoint(run)[0].expanduser() / "config.toml"])
    try:
        parts = resolve_some(config, registry, ["dataset"])
        bundle = build_dataset(parts["dataset"], parts["run"].seed)
    except PtbError as error:
        raise DataError(
            f"the exported file is checked on real samples, and those of the run cannot be read ({error}); name some: "
            f"ptb export {run} SOURCE... --format ..."
        ) from error
    split = list(bundle.splits)[-1]  # the test, or what there is
    source = make_sources({split: bundle.splits[split]}, torch.device("cpu"), collate=bundle.collate)[split]
    return source.take(torch.arange(min(SAMPLES, source.size))).inputs


def _example(inputs: Any, model: TrainedModel) -> Any:
    """Two samples of the form of the inputs that are nobody's: zeros."""
    return map_leaves(lambda each: torch.zeros((2, *each.shape[1:]), dtype=each.dtype), inputs)


def _sidecar(model: TrainedModel) -> dict[str, Any]:
    """How files and rows become inputs: what the preprocessor has learnt, as JSON."""
    kind = type(model.preprocessor)
    return {
        "preprocessor": f"{kind.__module__}:{kind.__qualname__}",
        "inputs": {
            name: {"shape": list(each.shape), "kind": each.kind} for name, each in model.spec.all_inputs().items()
        },
        "class_names": list(model.class_names),
        "state": _json(model.preprocessor.state_dict()),
    }


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _json(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_json(each) for each in value]
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return value.tolist()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise ConfigError(f"the state of the preprocessor holds a {type(value).__name__}, which JSON has not")
