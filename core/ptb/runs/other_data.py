"""Labelled data that a run was not trained on, read as its own was."""

from typing import Any

from torch import Tensor
from torch.utils.data import StackDataset, default_collate

from ptb.data.spec import DataBundle
from ptb.errors import DataError, tidy
from ptb.registry.registry import Registry
from ptb.runs import preprocessing
from ptb.runs.trained import listed, read_samples
from ptb.storage.run_directory import RunDirectory


def bundle_of(run: RunDirectory, registry: Registry, sources: Any) -> DataBundle:
    """The samples of sources, as the preprocessor of the run reads them."""
    preprocessor = preprocessing.read(run, registry).preprocessor
    given = [*listed(sources)]
    read = list(read_samples(preprocessor.read, given))
    for sample in read:
        if sample.error is not None or sample.targets is None:
            why = sample.error or "it has no target, and an evaluation compares with it"
            raise DataError(f"{sample.name}: {why}; `ptb predict` needs no targets, and leaves out what cannot be used")
    if not read:
        said = ", ".join(tidy(str(source), 60) for source in given) or "no sources"
        raise DataError(f"there is nothing to evaluate: no samples in {said}")
    pairs: Any = [(sample.inputs, sample.targets) for sample in read]
    names = [sample.name for sample in read]
    return DataBundle(
        preprocessor.spec,
        pairs if preprocessor.collate else _stacked(pairs),
        collate=preprocessor.collate,
        transform=preprocessor.transform,
        preprocessor=preprocessor,
        names=lambda split: names,
    )


def _stacked(pairs: list[Any]) -> Any:
    """The same as tensors, which are batched far faster; samples that differ in shape stay as they are."""
    try:
        inputs, targets = default_collate(pairs)
    except (RuntimeError, TypeError):
        return pairs
    parts: Any = (inputs if isinstance(inputs, Tensor) else StackDataset(**inputs), targets)
    return StackDataset(*parts)
