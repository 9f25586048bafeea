"""What the preprocessor of a data set owes: to be found again, and to make of other data what training had."""

import importlib
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptb import DataBundle, DataSpec, Preprocessor, Sample
from ptb.internals import Batch, count, decode, encode, listing, one_line
from ptb_testing.case import Case
from ptb_testing.checks.bundle import MANY, SAMPLES, bundle_of, loaders_of, places_of
from ptb_testing.checks.support import on
from ptb_testing.outcome import CheckFailed, Skipped
from ptb_testing.process import identical
from ptb_testing.samples import targets_of


def preprocessor_keeps_its_state(case: Case) -> None:
    """The preprocessor is built without arguments, and from its saved state transforms as the data set does."""
    bundle = bundle_of(case)
    given, made = _preprocessor(bundle), _again(bundle)
    if not identical(given.state_dict(), made.state_dict()):
        raise CheckFailed(
            "its preprocessor has another state once its state was loaded: load_state_dict forgets a part"
        )
    for name in ("transform", "collate"):
        own, loaded = getattr(bundle, name), getattr(made, name)
        if (own is None) != (loaded is None):
            who = ("the data set", "its preprocessor")
            raise CheckFailed(
                f"{who[own is None]} has a {name} and {who[own is not None]} has none; both need the same"
            )
    if bundle.transform is None or made.transform is None:
        return
    inputs = _batch(bundle).inputs
    with on("transform of its preprocessor, after its state was loaded"):
        results = [function(inputs) for function in (bundle.transform, made.transform)]
    if not identical(*results):
        raise CheckFailed(
            "transform of its preprocessor, after its state was loaded, gives another result than that of the data "
            "set: keep what it needs in plain attributes"
        )


def preprocessor_decodes(case: Case) -> None:
    """`decode` gives columns with an entry for each sample, `decode_targets` names and values in their own units."""
    bundle = bundle_of(case)
    made, spec, batch = _again(bundle), bundle.spec, _batch(bundle)
    size = batch.size
    scores = batch.inputs if spec.target == "none" else targets_of(replace(spec, class_counts=()), size).float()
    if spec.target == "class":
        scores = torch.nn.functional.one_hot(scores.long().clamp(min=0), spec.target_size).movedim(-1, 1).float()
    if spec.target == "similarity":
        scores = torch.ones(size, 2, spec.output_size)
    with on("decode of its preprocessor"):
        for name, column in dict(made.decode(scores)).items():
            if len(column) != size:
                raise CheckFailed(f"the column {name!r} has {len(column)} entries for {size} samples")
    if spec.target == "none":
        return
    with on("decode_targets of its preprocessor"):
        decoded = made.decode_targets(batch.targets)
        if len(decoded) != size:
            raise CheckFailed(f"it gives {len(decoded)} entries for {size} samples")
        _check_units(spec, batch.targets, decoded)


def preprocessor_reads_training_samples(case: Case) -> str:
    """`read` gives the training samples, bit for bit, of the files that the settings name."""
    bundle = bundle_of(case)
    made, paths = _again(bundle), _paths(case)
    if not paths:
        raise Skipped("none of its settings names a file or a folder to read")
    with on(f"read of its preprocessor, {listing(paths)}"):
        read = list(islice(chain.from_iterable(made.read([path]) for path in paths), MANY + 1))
    good = [sample for sample in read if isinstance(sample, Sample) and sample.error is None]
    if len(read) > MANY:
        raise Skipped(f"its files hold more than {MANY:,} samples; name smaller ones in the settings for this check")
    if not good:
        errors = [each.error or "" for each in read] or ["it gives nothing"]
        raise CheckFailed(f"read makes no sample of {listing(paths)}: {errors[0]}")
    loader = loaders_of(replace(bundle, collate=None, transform=None))["train"]
    split: Any = bundle.train
    for place in places_of(loader).tolist():
        wanted = split[place]
        inputs, targets = (wanted, None) if bundle.spec.target == "none" else wanted[:2]
        same = [sample for sample in good if identical(_tree(sample.inputs), _tree(inputs))]
        if not same:
            raise CheckFailed(
                f"training sample {place} is not among the {len(good)} samples that read makes of {listing(paths)}: "
                "make both by the same code"
            )
        if not any(each.targets is None or identical(_tree(each.targets), _tree(targets)) for each in same):
            raise CheckFailed(f"read gives training sample {place} the target {same[0].targets}, and it is {targets}")
    return f"{count(len(good), 'sample')} of {listing(paths)}"


CHECKS = (preprocessor_keeps_its_state, preprocessor_decodes, preprocessor_reads_training_samples)


def _preprocessor(bundle: DataBundle) -> Preprocessor:
    if (given := bundle.preprocessor) is None:
        raise Skipped("it has no preprocessor")
    if getattr(given, "spec", None) != bundle.spec:
        raise CheckFailed("the spec of its preprocessor is not that of the data set: set preprocessor.spec = spec")
    return given


def _again(bundle: DataBundle) -> Preprocessor:
    """One as a run finds it: from its class, its spec and its saved state."""
    given = _preprocessor(bundle)
    module, name = type(given).__module__, type(given).__qualname__
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise CheckFailed(
            f"its preprocessor {module}:{name} cannot be found again: its class must stand at the top of a module"
        ) from error
    try:
        made: Preprocessor = kind()
    except TypeError as error:
        raise CheckFailed(
            f"its preprocessor {name} cannot be built without arguments: {one_line(error)}; fit it in a class method, "
            "and keep what it has learnt in attributes"
        ) from error
    with on("the state of its preprocessor"):
        made.spec = bundle.spec
        made.load_state_dict(decode(encode(given.state_dict())))
    return made


def _batch(bundle: DataBundle) -> Batch:
    """The first training samples, before ``transform``."""
    return loaders_of(replace(bundle, transform=None))["train"].first_batch(SAMPLES)


def _check_units(spec: DataSpec, targets: Tensor, decoded: Any) -> None:
    """Of real targets the values times the standard deviation plus the mean of the spec, of classes their names."""
    if spec.target in ("class", "binary") and spec.class_names and not spec.positions:
        names = [spec.class_names[number] for number in targets.long().flatten().tolist()]
        if list(decoded) != names:
            raise CheckFailed(f"the first target is {decoded[0]!r}; the spec calls it {names[0]!r}")
    if spec.target == "real" and not spec.positions:
        std, mean = (torch.tensor(each) for each in (spec.target_std or (1.0,), spec.target_mean or (0.0,)))
        own = (targets * std + mean).reshape(len(targets), -1)
        shown = torch.as_tensor(decoded).reshape(len(targets), -1).to(own)
        if shown.shape != own.shape or not torch.allclose(shown, own, rtol=1e-4, atol=1e-6 * float(own.abs().max())):
            raise CheckFailed(f"the first target is {shown[0].tolist()}; in its own units it is {own[0].tolist()}")


def _paths(case: Case) -> list[str]:
    """Files and folders among the settings that are given."""
    values = [getattr(case.settings, name) for name in case.given]
    return [str(value) for value in values if isinstance(value, str | Path) and str(value) and Path(value).exists()]


def _tree(value: Any) -> Any:
    """Tensors for numbers, arrays and tensors, in dicts where there are several."""
    if isinstance(value, dict):
        return {name: _tree(each) for name, each in value.items()}
    return torch.as_tensor(value)
