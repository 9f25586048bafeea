"""What a data set holds, as JSON values: its form, its splits, its figures, and what looks wrong."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ptb import DataError, DataSpec
from ptb.internals import Batch, BatchLoader, ComponentConfig, build_dataset, explaining, finite, make_sources
from ptb_data.figures import Figures
from ptb_data.repeated import Repeated

MOST_SAMPLES = 100_000  # of a split that are read
BATCH = 512
FEW = 5  # training samples of a class
FEW_SHOWN = 5
_LONG = re.compile(r"\d+\.\d{5,}")
UNEVEN = 0.95  # of the training samples in one class


def overview(dataset: ComponentConfig, seed: int) -> dict[str, Any]:
    """Everything that `ptb data show` knows; the samples of every split are read once."""
    bundle = build_dataset(dataset, seed)
    spec = bundle.spec
    sources = make_sources(bundle.splits, torch.device("cpu"), collate=bundle.collate)
    loaders = {split: BatchLoader(source, batch_size=BATCH) for split, source in sources.items()}
    figures = {split: Figures(spec) for split in loaders}
    repeated = Repeated()
    dtypes: dict[str, str] = {}
    try:
        for split, loader in loaders.items():
            for numbers, batch in _batches(loader):
                if not dtypes:
                    dtypes = {name: str(each.dtype).removeprefix("torch.") for name, each in _named(batch.inputs)}
                repeated.add(split, numbers, batch)
                with explaining(DataError, f"the transform of {dataset.entry} failed"):
                    inputs = batch.inputs if bundle.transform is None else bundle.transform(batch.inputs)
                figures[split].add(inputs, batch.targets)
    finally:
        for source in sources.values():
            source.close()
    with explaining(DataError, f"describe() of {dataset.entry} failed"):
        told = {} if bundle.describe is None else dict(bundle.describe())
        told = told | {key: list(told[key]) for key in ("columns", "transforms", "warnings") if key in told}
    sizes = {split: loader.size for split, loader in loaders.items()}
    warnings = [*told.get("warnings", ()), *repeated.warnings(), *_of_classes(spec, figures)]
    if not told.get("columns"):
        warnings += figures["train"].warnings()
    facts = {
        "dataset": dataset.entry.id,
        "settings": dataset.as_config(),
        "splits": sizes,
        "read": {split: min(size, MOST_SAMPLES) for split, size in sizes.items()},
        "inputs": [
            {
                "name": name,
                "kind": each.kind,
                "shape": list(each.shape),
                "dtype": dtypes.get(name),
                "vocabulary": each.vocabulary,
            }
            for name, each in spec.all_inputs().items()
        ],
        "target": {
            "kind": spec.target,
            "size": spec.target_size,
            "positions": list(spec.positions),
            "mean": list(spec.target_mean),
            "std": list(spec.target_std),
        },
        "classes": _classes(spec, figures),
        "targets": {split: each.target_figures() for split, each in figures.items() if spec.target == "real"},
        "training": figures["train"].input_figures(),
        "columns": list(told.get("columns", ())),
        "transforms": [*told.get("transforms", _changes("transform", bundle.transform))],
        "augment": _changes("augment", bundle.augment),
        "notes": list(bundle.notes),
        "warnings": warnings,
    }
    return dict(finite(facts))


def _batches(loader: BatchLoader) -> Iterator[tuple[list[int], Batch]]:
    """The numbers of samples and the samples, in batches; of a large split some that are spread over it."""
    order = torch.arange(loader.size)
    if loader.size > MOST_SAMPLES:
        spread = torch.linspace(0, loader.size - 1, MOST_SAMPLES).long()
        order = order[:MOST_SAMPLES] if loader.source.is_stream else spread
    place = 0
    for batch in loader.batches(order, BATCH):
        yield order[place : place + batch.size].tolist(), batch
        place += batch.size
        if place >= len(order):  # a stream would go on
            return


def _named(inputs: Any) -> Iterator[tuple[str, Tensor]]:
    yield from (inputs if isinstance(inputs, dict) else {"inputs": inputs}).items()


def _changes(word: str, function: object) -> list[str]:
    """What is known of a function that says nothing of itself: its name, or the text of an object with its numbers."""
    if function is None:
        return []
    described = type(function).__repr__ is not object.__repr__ and not hasattr(function, "__code__")
    text = repr(function) if described else getattr(function, "__qualname__", type(function).__qualname__)
    return [f"{word}: {_LONG.sub(lambda found: f'{float(found[0]):.4g}', text)}"]


def _classes(spec: DataSpec, figures: Mapping[str, Figures]) -> list[dict[str, Any]]:
    """Each class, or label, with the samples, or positions, that it has in each split."""
    counts = {split: each.counts for split, each in figures.items() if each.counts is not None}
    if not counts:
        return []
    names = spec.class_names or tuple(map(str, range(len(counts["train"]))))
    return [
        {"number": number, "name": name, **{split: int(each[number]) for split, each in counts.items()}}
        for number, name in enumerate(names)
    ]


def _of_classes(spec: DataSpec, figures: Mapping[str, Figures]) -> Iterator[str]:
    """What looks wrong with the classes."""
    rows = _classes(spec, figures)
    for split in figures if rows else ():
        absent = [row["name"] for row in rows if not row[split]]
        if absent:
            shown = ", ".join(f"'{name}'" for name in absent[:FEW_SHOWN]) + (
                f" and {len(absent) - FEW_SHOWN} more" if len(absent) > FEW_SHOWN else ""
            )
            yield f"{split} has no sample of {'class' if len(absent) == 1 else 'the classes'} {shown}"
    few = [row for row in rows if 0 < row["train"] < FEW]
    if few:
        shown = ", ".join(f"'{row['name']}' ({row['train']})" for row in few[:FEW_SHOWN])
        yield f"{len(few)} of {len(rows)} classes {'has' if len(few) == 1 else 'have'} few training samples: {shown}"
    total = sum(row["train"] for row in rows)
    largest = max(rows, key=lambda row: row["train"], default=None)
    if largest and spec.target in ("class", "binary") and largest["train"] > UNEVEN * total:
        share = largest["train"] / total
        yield (
            f"{share:.1%} of the training samples are of class '{largest['name']}': accuracy says little then; "
            "--metric balanced-accuracy, and class weights of the loss, say and do more"
        )
