"""Exports the model of a run: written under its name only when it says what the run says."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptb import DataError, NumericalError, PtbError, Registry, RunConfig, TrainedModel, __version__, load
from ptb.internals import (
    build_dataset,
    leaves,
    make_sources,
    map_leaves,
    model_state,
    resolve_some,
    split_checkpoint,
    weights_sha256,
    write_atomically,
)
from ptb_export.check import SAMPLES, check
from ptb_export.formats import export
from ptb_export.graph import OUTPUTS, Graph
from ptb_export.sidecar import compare, sidecar_of


def export_run(
    run: str, sources: Sequence[str], format_name: str, target: Path, checkpoint: str | None, registry: Registry
) -> dict[str, Any]:
    """Export, check and write; returns what was written.

    Raises:
        PtbError: see ``ptb export``.
    """
    model = load(run, checkpoint, device="cpu", registry=registry)
    precision = model.to_fp32()
    inputs, files = _inputs(model, run, sources, registry)
    graph = Graph(model)
    about = _about(model)
    exported = export(format_name, graph, _example(inputs), ("scores", about["output"]), about)
    _check_metadata(exported.metadata, model)

    def reference(batch: Any) -> tuple[Tensor, Tensor]:
        model.model.eval()
        scores = model.scores(batch)
        with torch.inference_mode():
            return scores, graph.link(scores)

    difference = check(exported.run, reference, inputs, model.spec)
    text = sidecar_of(model)
    read, unread = compare(model, text, inputs, files)
    sidecar = target.with_name(f"{target.name}.preprocessor.json")
    write_atomically(sidecar, text)
    write_atomically(target, exported.content)
    return {
        "file": str(target),
        "preprocessor": str(sidecar),
        "bytes": len(exported.content),
        "step": model.step,
        "precision": precision,
        "samples": len(next(leaves(inputs))),
        "difference": difference,
        "read": read,
        "unread": unread,
    }


def _about(model: TrainedModel) -> dict[str, Any]:
    """The metadata of the file."""
    return {
        "version": __version__,
        "target": model.spec.target,
        "target_names": _target_names(model),
        "class_names": list(model.class_names),
        "output": OUTPUTS[model.spec.target],
        "step": model.step,
        "weights_sha256": weights_sha256(model_state(model.model)),
    }


def _target_names(model: TrainedModel) -> list[str]:
    """The names of what is predicted; those of columns where the preprocessor knows them."""
    columns = getattr(model.preprocessor, "target", None)
    names = columns.get("columns") if isinstance(columns, dict) else None
    return list(names or model.class_names)


def _check_metadata(metadata: dict[str, Any], model: TrainedModel) -> None:
    if metadata != (wanted := _about(model)):
        wrong = [name for name, value in wanted.items() if metadata.get(name) != value] or [*metadata]
        raise NumericalError(
            f"the exported file says {metadata.get(wrong[0])} of its {wrong[0]}, the run {wanted.get(wrong[0])}; "
            "nothing was written"
        )


def _inputs(model: TrainedModel, run: str, sources: Sequence[str], registry: Registry) -> tuple[Any, list[Path]]:
    """Real samples as one batch, and the files that hold such: the sources, else the test split and data of the run."""
    if sources:
        read = (each for each in model.preprocessor.read(map(Path, sources)) if each.inputs is not None)
        found = [each.inputs for each in islice(read, SAMPLES)]
        if not found:
            raise DataError(f"no input of {' '.join(sources)} can be used; `ptb predict` says why")
        return model.collated(found), [*map(Path, sources)]
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
    # Settings that name files are absolute, and others are no paths.
    named = [Path(value) for value in vars(parts["dataset"].settings).values() if isinstance(value, str | Path)]
    paths = [path for path in named if path.is_absolute() and path.exists()]
    return source.take(torch.arange(min(SAMPLES, source.size))).inputs, paths


def _example(inputs: Any) -> Any:
    """Two samples of the form of the inputs that are nobody's: zeros."""
    return map_leaves(lambda each: torch.zeros((2, *each.shape[1:]), dtype=each.dtype), inputs)
