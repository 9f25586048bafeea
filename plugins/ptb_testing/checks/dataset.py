"""What a data set owes: samples that are what its spec says, the same each time, also in another process."""

import pickle
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from ptb import DataBundle, SampleGenerator
from ptb.internals import (
    BatchLoader,
    InMemorySamples,
    arguments,
    check_data,
    fingerprint,
    listing,
    make_sources,
    preserve_rng_state,
    seed_global,
)
from ptb_testing.case import Case, Kit
from ptb_testing.checks import common
from ptb_testing.checks.support import on, on_other_device, other_device, unchanged
from ptb_testing.elsewhere import seen_elsewhere
from ptb_testing.outcome import CheckFailed, Skipped
from ptb_testing.process import Snapshot, identical
from ptb_testing.trial import CPU, refused

SAMPLES = 8
MANY = 10_000
SEEDS = 8
WORDS = tuple("abcdefgh")


def build(case: Case) -> DataBundle:
    """The bundle."""
    bundle = case.build()
    if not isinstance(bundle, DataBundle):
        raise CheckFailed(f"it gives a {type(bundle).__name__}; the core needs a ptb.DataBundle")
    return bundle


def use(case: Case) -> Any:
    """A hash of the samples of every split."""
    return seen(build(case))


def seen(bundle: DataBundle) -> dict[str, str]:
    """All that a run sees of a data set."""
    with preserve_rng_state():  # what reading draws is a matter of its own
        return {"spec": repr(bundle.spec), "samples": fingerprint(bundle.splits)}


def samples_fit_the_spec(case: Case) -> None:
    """No split is empty, and shapes, types and values of inputs and targets are those that the spec tells."""
    bundle: DataBundle = case.built
    loaders = {name: _loader(bundle, split) for name, split in bundle.splits.items()}
    with refused():
        check_data(
            loaders | {"fit": loaders["train"]}, bundle.spec, lambda targets: None, f"data set '{case.record.name}'"
        )
    wanted = torch.int64 if bundle.spec.inputs == "tokens" else torch.float32
    for name, loader in loaders.items():
        inputs = loader.first_batch(SAMPLES).inputs
        if inputs.dtype != wanted:
            raise CheckFailed(
                f"inputs of the {name} split are {inputs.dtype}, models take {wanted}: cast them in transform"
            )


def same_in_another_process(case: Case) -> None:
    """Built by another process, whose sets have another order, samples and spec are the same."""
    here, again, _ = (use.outcome for use in case.observed)
    if here != again:
        raise Skipped("it is another one each time, in this process too")
    names = case.built.spec.class_names
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


def reading_again_gives_the_same(case: Case) -> None:
    """A sample that is read twice is the same twice, whatever was read in between; reading draws nothing."""
    for name, split in case.built.splits.items():
        places = _places(split)
        with _drawing_nothing(f"reading the {name} split"):
            first = [split[place] for place in places]
            again = [split[place] for place in reversed(places)]
        for place, one, other in zip(places, first, reversed(again), strict=True):
            if not identical(one, other):
                raise CheckFailed(
                    f"sample {place} of the {name} split is another one when it is read again; what is random belongs "
                    "into augment"
                )


def pickles_for_workers(case: Case) -> str | None:
    """Splits can be pickled; one that is not held in memory is read by a worker process as it is here."""
    splits = {name: Subset(split, _places(split)) for name, split in case.built.splits.items()}
    for name, split in splits.items():
        try:
            copy = pickle.loads(pickle.dumps(split))
        except Exception as error:
            raise CheckFailed(
                f"the {name} split cannot be pickled, as workers need it: {error}; keep no open file, lambda or local "
                "class in it"
            ) from error
        _check_same(split, name, [copy[place] for place in range(len(split))], "after pickling")
    read = {name: split for name, split in splits.items() if InMemorySamples.of(split) is None}
    if not read:
        return "held in memory: no worker reads it"
    name, split = next(iter(read.items()))  # a process takes seconds to start
    sources = make_sources({name: split}, CPU, "workers", num_workers=1, multiprocessing_context="spawn")
    try:
        with on(f"a worker process that reads the {name} split"), refused():
            (batch,) = sources[name].batches(torch.arange(len(split)), len(split), 0)
    finally:
        sources[name].close()
    _check_same(split, name, list(zip(batch.inputs, batch.targets, strict=True)), "when a worker process reads it")
    return None


def transform_is_a_function(case: Case) -> None:
    """`transform` gives the same each time and in any batch, draws nothing, and changes nothing in place."""
    _check_function(case.built, "transform", "take a mean, or whatever it needs, from the training split")


def augment_belongs_to_the_sample(case: Case) -> None:
    """`augment` is decided by the generator that it gets, for each sample by itself, and changes nothing in place."""
    inputs, function = _check_function(case.built, "augment", "draw numbers for each sample: generator.uniform(2)")
    ends = [function(inputs, seed=seed) for seed in range(SEEDS)]
    if not identical(ends[0], inputs) and all(identical(ends[0], end) for end in ends):
        raise CheckFailed(
            f"augment changes the inputs in the same way for {SEEDS} seeds: use the generator it gets; what is not "
            "random belongs into transform"
        )


def works_on_a_device(case: Case) -> str:
    """`transform` and `augment` take inputs of another device and keep them there."""
    device = other_device()
    steps = [name for name in ("transform", "augment") if getattr(case.built, name) is not None]
    if not steps:
        raise Skipped("it has no transform and no augment")
    for name in steps:
        inputs, function = _function(case.built, name)
        with on(name), on_other_device(device, "bring what it holds or draws to the device of the inputs"):
            result = function(inputs.to(device))
        if result.device.type != device.type:
            raise CheckFailed(f"{name} takes inputs on {device} and gives some on {result.device}")
    return f"tried on {device}"


def class_counts_are_those_of_train(case: Case) -> None:
    """`class_counts` of the spec, by which losses balance, are counted in the training split."""
    bundle: DataBundle = case.built
    counts = bundle.spec.class_counts
    if not counts:
        raise Skipped("its spec has no class_counts")
    size, held = len(cast(Sized, bundle.train)), InMemorySamples.of(bundle.train)
    if held is not None:
        targets = held.take(torch.arange(size)).targets
    elif size <= MANY:
        targets = torch.stack([torch.as_tensor(bundle.train[place][1]) for place in range(size)])
    else:
        raise Skipped(f"its {size} training samples are not held in memory, reading them all takes too long")
    counted = tuple(torch.bincount(targets.flatten().long(), minlength=len(counts)).tolist())
    if counted != counts:
        raise CheckFailed(f"class_counts are {counts}, the training samples are {counted}")


KIT = Kit(
    checks=(
        *common.CHECKS,
        samples_fit_the_spec,
        same_in_another_process,
        reading_again_gives_the_same,
        pickles_for_workers,
        transform_is_a_function,
        augment_belongs_to_the_sample,
        works_on_a_device,
        class_counts_are_those_of_train,
    ),
    gates=(samples_fit_the_spec, reading_again_gives_the_same),
    optional=(
        transform_is_a_function,
        augment_belongs_to_the_sample,
        works_on_a_device,
        class_counts_are_those_of_train,
    ),
    build=build,
    use=use,
)


def _loader(bundle: DataBundle, split: Dataset[Any]) -> BatchLoader:
    return BatchLoader(
        make_sources({"split": split}, CPU)["split"],
        batch_size=SAMPLES,
        transform=bundle.transform,
        augment=bundle.augment if split is bundle.train else None,
    )


def _function(bundle: DataBundle, name: str) -> tuple[Tensor, Callable[..., Tensor]]:
    """Inputs of the first training samples, as `transform` or `augment` gets them, and that function of them."""
    if (given := getattr(bundle, name)) is None:
        raise Skipped(f"it has no {name}")
    if name == "transform":
        return _loader(replace(bundle, transform=None), bundle.train).first_batch(SAMPLES).inputs, given
    inputs, targets, _ = _loader(bundle, bundle.train).first_batch(SAMPLES)

    def augment(inputs: Tensor, first: int = 0, seed: int = 0) -> Tensor:
        numbers = torch.arange(first, first + len(inputs), device=inputs.device)
        given_targets = targets[first : first + len(inputs)].to(inputs.device)
        augmented: Tensor = given(inputs, given_targets, SampleGenerator(seed, 1, numbers))[0]
        return augmented

    return inputs, augment


def _check_function(bundle: DataBundle, name: str, advice: str) -> tuple[Tensor, Callable[..., Tensor]]:
    """Fails unless it gives the same each time and for each sample alone, whatever the global generators give."""
    inputs, function = _function(bundle, name)
    results = []
    for seed in (1, 2):
        seed_global(seed, name)
        with on(name), unchanged(inputs=inputs), _drawing_nothing(name):
            results.append(function(inputs))
    if not identical(*results):
        raise CheckFailed(
            f"{name} gives two results for the same inputs; what is random comes from augment's generator"
        )
    if len(results[0]) != len(inputs):
        raise CheckFailed(f"{name} makes {len(results[0])} samples of {len(inputs)}")
    with on(f"{name}, a batch of one sample"):
        places = {"first": 1} if name == "augment" else {}
        alone = function(inputs[1:2], **places)
    if not torch.allclose(alone, results[0][1:2], rtol=1e-4, atol=1e-5, equal_nan=True):
        raise CheckFailed(f"{name} makes another thing of a sample alone than in a batch: {advice}")
    return inputs, function


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


def _places(split: Dataset[Any]) -> list[int]:
    """Some samples from the beginning, the middle and the end."""
    size = len(cast(Sized, split))
    return sorted({0, 1, size // 2, size - 2, size - 1} & set(range(size)))


def _check_same(split: Subset[Any], name: str, others: Sequence[Any], when: str) -> None:
    for place, number, other in zip(range(len(split)), split.indices, others, strict=True):
        inputs, targets = map(torch.as_tensor, split[place])
        if not identical([inputs, targets], list(map(torch.as_tensor, other))):
            raise CheckFailed(f"sample {number} of the {name} split is another one {when}")
