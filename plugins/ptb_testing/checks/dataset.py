"""What a data set owes: samples that are what its spec says, the same each time, also in another process."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import IterableDataset, Subset

from ptb import DataBundle, SampleGenerator
from ptb.internals import (
    Batch,
    InMemorySamples,
    arguments,
    fingerprint,
    leaves,
    listing,
    make_sources,
    preserve_rng_state,
    seed_global,
)
from ptb_testing.case import Case, Kit
from ptb_testing.checks import common, preprocessor
from ptb_testing.checks.bundle import MANY, SAMPLES, bundle_of, loaders_of, places_of
from ptb_testing.checks.support import at, on, on_other_device, other_device, unchanged
from ptb_testing.elsewhere import seen_elsewhere
from ptb_testing.outcome import CheckFailed, Skipped
from ptb_testing.process import Snapshot, identical
from ptb_testing.trial import CPU, Made, Trial, component, refused

SEEDS = 8
WORDS = tuple("abcdefgh")
SETTINGS = {"epochs": 6, "max_steps": 6, "eval_every": 0, "eval_steps": 0}


def trials(case: Case) -> Iterator[Trial]:
    """A few steps of a model of the kit."""
    spec = bundle_of(case).spec
    sections: dict[str, Any] = {"trainer": SETTINGS, "metrics": None, "loader": {"shuffle": True}}
    if spec.target == "none" and spec.fields:  # several inputs, and no built-in loss compares scores with these
        mse = component("loss", "mse")
        sections["loss"] = Made(mse.entry, mse.settings, lambda spec: lambda scores, inputs: scores.square().mean())
    yield Trial.of(case, "its samples", spec, **sections)


def use(case: Case) -> Any:
    """A hash of the samples of every split."""
    return seen(bundle_of(case))


def seen(bundle: DataBundle) -> dict[str, str]:
    """All that a run sees of a data set."""
    with preserve_rng_state():  # what reading draws is a matter of its own
        return {"spec": repr(bundle.spec), "samples": fingerprint(bundle.splits, bundle.collate)}


def inputs_have_usual_types(case: Case) -> None:
    """Inputs are float32, tokens int64, as the built-in models take them."""
    for split, loader in loaders_of(bundle_of(case)).items():
        inputs, kinds = loader.first_batch(SAMPLES).inputs, case.tried[0].spec.all_inputs()
        for each, form in zip(leaves(inputs), kinds.values(), strict=True):
            if each.dtype != (torch.int64 if form.kind == "tokens" else torch.float32):
                raise CheckFailed(f"inputs of the {split} split are {each.dtype}: cast them in transform")


def same_in_another_process(case: Case) -> None:
    """Built by another process, whose sets have another order, samples and spec are the same."""
    here, again, _ = (use.outcome for use in common.observed(case))
    if here != again:
        raise Skipped("it is another one each time, in this process too")
    names = case.tried[0].spec.class_names
    there = seen_elsewhere(
        names if len(set(names)) > 1 else [*set(WORDS)], case.record.target, arguments(case.settings, case.target)
    )
    if "error" in there:
        raise CheckFailed(f"another process cannot build it: {there['error']}")
    if changed := [name for name in here if here[name] != there[name]]:
        raise CheckFailed(
            f"in another process its {' and '.join(changed)} are others: a set has no fixed order, nor have the files "
            "of a folder; sort what numbers follow from, such as the names of classes"
        )


def pickles_for_workers(case: Case) -> str | None:
    """Splits can be pickled; one that is not held in memory is read by a worker process as it is here."""
    bundle = bundle_of(case)
    for name, split in bundle.splits.items():
        try:
            pickle.loads(pickle.dumps(split))
        except Exception as error:
            raise CheckFailed(
                f"the {name} split cannot be pickled, as workers need it: {error}; keep no open file, lambda or local "
                "class in it"
            ) from error
    loader = loaders_of(bundle)["train"]
    split, places = bundle.train, places_of(loader)
    if InMemorySamples.of(split) is not None or isinstance(split, IterableDataset):
        return "held in memory, or a stream: no worker is asked for single samples"
    some = {"split": Subset(split, places.tolist())}
    source = make_sources(some, CPU, "workers", 1, multiprocessing_context="spawn", collate=bundle.collate)["split"]
    with closing(source), on("a worker process that reads the train split"), refused():
        (batch,) = source.batches([torch.arange(len(places))], 0)
    if not identical([*batch], [*loader.source.take(places)]):
        raise CheckFailed("the first samples of the train split are others when a worker process reads them")
    return None


def transform_is_a_function(case: Case) -> None:
    """`transform` gives the same each time and in any batch, uses no random numbers, and changes nothing in place."""
    _check_function(case, "transform", "take a mean, or whatever it needs, from the training split")


def augment_belongs_to_the_sample(case: Case) -> None:
    """`augment` is decided by the generator that it gets, for each sample by itself, and changes nothing in place."""
    batch, function = _check_function(case, "augment", "draw numbers for each sample: generator.uniform(2)")
    ends = [function(batch, seed=seed) for seed in range(SEEDS)]
    if not identical(ends[0], list(batch[:2])) and all(identical(ends[0], end) for end in ends):
        raise CheckFailed(
            f"augment changes the samples in the same way for {SEEDS} seeds: use the generator it gets; what is not "
            "random belongs into transform"
        )


def works_on_a_device(case: Case) -> str:
    """`transform` and `augment` take inputs of another device and keep them there."""
    device, bundle = other_device(), bundle_of(case)
    steps = [name for name in ("transform", "augment") if getattr(bundle, name) is not None]
    if not steps:
        raise Skipped("it has no transform and no augment")
    for name in steps:
        batch, function = _function(bundle, name)
        with on(name), on_other_device(device, "bring what it holds or draws to the device of the inputs"):
            result = function(batch.map(lambda each: each.to(device)))
        for each in leaves(result[0]):
            if each.device.type != device.type:
                raise CheckFailed(f"{name} takes inputs on {device} and gives some on {each.device}")
    return f"tried on {device}"


def class_counts_are_those_of_train(case: Case) -> None:
    """`class_counts` of the spec, by which losses balance, are counted in the training split."""
    spec, loader = case.tried[0].spec, loaders_of(bundle_of(case))["train"]
    if not spec.class_counts:
        raise Skipped("its spec has no class_counts")
    if loader.source.placement == "workers" and loader.size > MANY:
        raise Skipped(f"its {loader.size} training samples are not held in memory, reading them all takes too long")
    targets = loader.source.take(torch.arange(loader.size)).targets.long()
    if spec.target == "multilabel":
        counted = tuple(targets.sum(0).tolist())
    else:
        counted = tuple(torch.bincount(targets[targets >= 0], minlength=len(spec.class_counts)).tolist())
    if counted != spec.class_counts:
        raise CheckFailed(f"class_counts are {spec.class_counts}, the training samples are {counted}")


KIT = Kit(
    checks=(
        *common.CHECKS,
        inputs_have_usual_types,
        same_in_another_process,
        pickles_for_workers,
        transform_is_a_function,
        augment_belongs_to_the_sample,
        works_on_a_device,
        class_counts_are_those_of_train,
        *preprocessor.CHECKS,
    ),
    gates=(preprocessor.preprocessor_keeps_its_state,),
    optional=(
        transform_is_a_function,
        augment_belongs_to_the_sample,
        works_on_a_device,
        class_counts_are_those_of_train,
        *preprocessor.CHECKS,
    ),
    notes=(
        inputs_have_usual_types,
        pickles_for_workers,
        transform_is_a_function,
        augment_belongs_to_the_sample,
        works_on_a_device,
    ),
    trials=trials,
    use=use,
)


def _function(bundle: DataBundle, name: str) -> tuple[Batch, Callable[..., list[Any]]]:
    """The first training samples as `transform` or `augment` gets them, and that function of them."""
    if (given := getattr(bundle, name)) is None:
        raise Skipped(f"it has no {name}")
    if name == "transform":
        batch = loaders_of(replace(bundle, transform=None))["train"].first_batch(SAMPLES)
        return batch, lambda batch, **_: [given(batch.inputs)]

    def augment(batch: Batch, first: int = 0, seed: int = 0) -> list[Any]:
        numbers = torch.arange(first, first + batch.size, device=next(batch.tensors()).device)
        return [*given(batch.inputs, batch.targets, SampleGenerator(seed, 1, numbers))]

    return loaders_of(bundle)["train"].first_batch(SAMPLES), augment


def _check_function(case: Case, name: str, advice: str) -> tuple[Batch, Callable[..., list[Any]]]:
    """Fails unless it gives the same each time and for each sample alone, whatever the global generators give."""
    batch, function = _function(bundle_of(case), name)
    results = []
    for seed in (1, 2):
        seed_global(seed, name)
        with on(name), unchanged(inputs=batch.inputs, targets=batch.targets), _drawing_nothing(name):
            results.append(function(batch))
    if not identical(*results):
        raise CheckFailed(
            f"{name} gives two results for the same inputs; what is random comes from augment's generator"
        )
    with on(f"{name}, a batch of one sample"):
        alone = function(batch.map(lambda each: each[1:2]), first=1)
    for one, whole in zip(alone, results[0], strict=True):
        for each, other in zip(leaves(one), leaves(at(slice(1, 2), whole)), strict=True):
            if not torch.allclose(each, other, rtol=1e-4, atol=1e-5, equal_nan=True):
                raise CheckFailed(f"{name} makes another thing of a sample alone than in a batch: {advice}")
    return batch, function


@contextmanager
def _drawing_nothing(what: str) -> Iterator[None]:
    """The block must leave the global generators alone."""
    before = Snapshot.take()
    yield
    if moved := before.moved_generators(Snapshot.take()):
        raise CheckFailed(
            f"{what} draws from the global generator of {listing(moved)}; what is random belongs into augment, "
            "which gets a generator"
        )
