"""What a data set owes: samples that are what its spec says, the same each time, also in another process."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence, Sized
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset, Subset

from ptb.data.loader import BatchLoader, fingerprint
from ptb.data.sample_rng import SampleGenerator
from ptb.data.sources import InMemorySamples
from ptb.data.sources import place as source_of
from ptb.data.spec import DataBundle
from ptb.errors import DataError, listing
from ptb.registry.settings import arguments
from ptb.runs.preflight import Names, check_batches
from ptb.seeding import preserve_rng_state, seed_global
from ptb.training.objective import Parts
from ptb_testing.case import Case, Kit
from ptb_testing.checks.support import on, on_other_device, other_device, unchanged
from ptb_testing.outcome import CheckFailed, Skipped
from ptb_testing.state import differences, generators, identical

CPU = torch.device("cpu")
SAMPLES = 8
MANY = 10_000
SEEDS = 8
WORDS = tuple("abcdefgh")
ELSEWHERE = """
import functools, importlib, json, pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from ptb.device import cpu_threads
from ptb.seeding import seed_global
from ptb_testing.checks.dataset import seen
target, settings = pickle.load(sys.stdin.buffer)
module, _, attribute = target.partition(":")
seed_global(1, "conformance")
with cpu_threads(1):
    answer = seen(functools.reduce(getattr, attribute.split("."), importlib.import_module(module))(**settings))
print()
print(json.dumps(answer))
"""
SET_ORDER = """
import json, sys
order = json.load(sys.stdin)
print(all(list(set(given)) != order for given in (order, order[::-1])))
"""


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
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters())
    splits = {name: _batches(bundle, split) for name, split in bundle.splits.items()}
    parts = Parts(
        model=model,
        loss=nn.MSELoss(),
        optimizer=optimizer,
        scheduler=LambdaLR(optimizer, lambda _: 1.0),
        train=splits["train"],
        evaluation={name: batches for name, batches in splits.items() if name != "train"},
        train_metrics={},
        eval_metrics={},
        device=CPU,
        pairs=bundle.spec.target == "similarity",
    )
    name = f"data set '{case.entry.name}'"
    try:
        check_batches(parts, bundle.spec, Names(name, "the model", "the loss", "the optimizer", ""))
    except DataError as error:
        raise CheckFailed(str(error)) from error


def inputs_suit_a_model(case: Case) -> None:
    """Once prepared, pictures and vectors are float32 and tokens are int64."""
    bundle: DataBundle = case.built
    wanted = torch.int64 if bundle.spec.inputs == "tokens" else torch.float32
    for name, split in bundle.splits.items():
        inputs, _ = _batches(bundle, split).probe(SAMPLES)
        if inputs.dtype != wanted:
            raise CheckFailed(
                f"inputs of the {name} split are {inputs.dtype}, models take {wanted}: cast them in prepare"
            )


def reading_again_gives_the_same(case: Case) -> None:
    """A sample that is read twice is the same twice, whatever was read in between."""
    for name, split in case.built.splits.items():
        places = _places(split)
        first = [_read(split, place) for place in places]
        again = [_read(split, place) for place in reversed(places)]
        for place, one, other in zip(places, first, reversed(again), strict=True):
            if not identical(one, other):
                raise CheckFailed(
                    f"sample {place} of the {name} split is another one when it is read again; what is random belongs "
                    "into augment"
                )


def same_in_another_process(case: Case) -> None:
    """Built by another process, whose sets have another order, samples and spec are the same."""
    here, again, _ = (seen.outcome for seen in case.observed)
    if not identical(here, again):
        raise Skipped("it is another one each time, in this process too")
    question = pickle.dumps(sys.path) + pickle.dumps((case.entry.target, arguments(case.settings)))
    environment = os.environ | {"PYTHONHASHSEED": _other_hash_seed(case.built.spec.class_names)}
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], input=question, env=environment, capture_output=True)
    try:
        there = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        told = " ".join(done.stderr.decode(errors="replace").split())[-300:]
        raise CheckFailed(f"another process cannot build it, and ends with {done.returncode}: {told}") from error
    if changed := differences(here, there):
        raise CheckFailed(
            f"in another process its {' and '.join(changed)} are others: a set has no fixed order, nor have the files "
            "of a folder; sort what numbers follow from, such as the names of classes"
        )


def reading_draws_nothing(case: Case) -> None:
    """Reading samples leaves the global generators alone, so that the number of workers changes nothing."""
    for name, split in case.built.splits.items():
        before = generators()
        for place in _places(split):
            split[place]
        if moved := differences(before, generators()):
            raise CheckFailed(
                f"reading the {name} split draws from the global generator of {listing(moved)}; what is random belongs "
                "into augment, which gets random numbers"
            )


def pickles_for_workers(case: Case) -> str | None:
    """Splits can be pickled; one that is not held in memory is read by a worker process as it is here."""
    bundle: DataBundle = case.built
    for name, split in bundle.splits.items():
        try:
            copy = pickle.loads(pickle.dumps(split))
        except Exception as error:
            raise CheckFailed(
                f"the {name} split cannot be pickled, as workers need it: {error}; keep no open file, lambda or local "
                "class in it"
            ) from error
        for place in _places(split):
            if not identical(_read(split, place), _read(copy, place)):
                raise CheckFailed(f"sample {place} of the {name} split is another one after pickling")
    if all(InMemorySamples.of(split) is not None for split in bundle.splits.values()):
        return "held in memory: no worker reads it"
    for name, split in bundle.splits.items():
        if InMemorySamples.of(split) is None:
            _read_by_a_worker(name, split)
            break  # a process takes seconds to start
    return None


def prepare_is_a_function(case: Case) -> None:
    """`prepare` gives the same each time and in any batch, draws nothing, and changes nothing in place."""
    bundle: DataBundle = case.built
    if bundle.prepare is None:
        raise Skipped("it has no prepare")
    inputs = _raw(bundle)
    before = generators()
    with on("prepare"), unchanged(inputs=inputs):
        first, again = bundle.prepare(inputs), bundle.prepare(inputs)
    if not identical(first, again):
        raise CheckFailed("prepare gives two results for the same inputs; what is random belongs into augment")
    if moved := differences(before, generators()):
        raise CheckFailed(f"prepare draws from the global generator of {listing(moved)}")
    if len(first) != len(inputs):
        raise CheckFailed(f"prepare makes {len(first)} samples of {len(inputs)}")
    with on("prepare, a batch of one sample"):
        alone = torch.cat([bundle.prepare(one) for one in torch.split(inputs, 1)])
    if alone.shape != first.shape or not torch.allclose(alone, first, rtol=1e-4, atol=1e-5, equal_nan=True):
        raise CheckFailed(
            "prepare makes another thing of a sample alone than in a batch: take a mean, or whatever it needs, from "
            "the training split"
        )


def augment_belongs_to_the_sample(case: Case) -> None:
    """`augment` is decided by the draws that it gets, for each sample by itself, and keeps shape and type."""
    bundle: DataBundle = case.built
    if bundle.augment is None:
        raise Skipped("it has no augment")
    inputs, _ = _batches(bundle, bundle.train).probe(SAMPLES)
    samples = torch.arange(len(inputs))
    results = []
    for seed in (1, 2):
        seed_global(seed, "augment")
        before = generators()
        with on("augment"), unchanged(inputs=inputs):
            results.append(bundle.augment(inputs, SampleGenerator(0, 1, samples)))
        if moved := differences(before, generators()):
            raise CheckFailed(f"augment draws from the global generator of {listing(moved)}: use the draws it gets")
    whole = results[0]
    if not identical(*results):
        raise CheckFailed("augment gives two results for the same draws: use nothing else")
    others = [bundle.augment(inputs, SampleGenerator(seed, 1, samples)) for seed in range(1, SEEDS)]
    if not identical(whole, inputs) and all(identical(whole, other) for other in others):
        raise CheckFailed(
            f"augment changes the inputs in the same way for {SEEDS} seeds: use the draws it gets; what is not random "
            "belongs into prepare"
        )
    if whole.shape != inputs.shape or whole.dtype != inputs.dtype:
        raise CheckFailed(f"augment makes {whole.dtype} {list(whole.shape)} of {inputs.dtype} {list(inputs.shape)}")
    if not identical(bundle.augment(inputs[1:2], SampleGenerator(0, 1, samples[1:2])), whole[1:2]):
        raise CheckFailed(
            "augment makes another thing of a sample alone than in a batch: draw numbers for each sample, such as "
            "draws.uniform(2), and use its own"
        )


def works_on_a_device(case: Case) -> str:
    """`prepare` and `augment` take inputs of another device and keep them there."""
    bundle: DataBundle = case.built
    if bundle.prepare is None and bundle.augment is None:
        raise Skipped("it has no prepare and no augment")
    device = other_device()
    raw, (prepared, _) = _raw(bundle), _batches(bundle, bundle.train).probe(SAMPLES)
    advice = "bring what it holds or draws to the device of the inputs"
    results = {}
    if bundle.prepare is not None:
        with on("prepare"), on_other_device(device, advice):
            results["prepare"] = bundle.prepare(raw.to(device))
    if bundle.augment is not None:
        with on("augment"), on_other_device(device, advice):
            draws = SampleGenerator(0, 1, torch.arange(len(prepared), device=device))
            results["augment"] = bundle.augment(prepared.to(device), draws)
    for name, result in results.items():
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
    if held is None and size > MANY:
        raise Skipped(f"its {size} training samples are not held in memory, reading them all takes too long")
    if held is not None:
        _, targets = held.take(torch.arange(size))
    else:
        targets = torch.stack([_read(bundle.train, place)[1] for place in range(size)])
    counted = tuple(torch.bincount(targets.flatten().long(), minlength=len(counts)).tolist())
    if counted != counts:
        raise CheckFailed(f"class_counts are {counts}, the training samples are {counted}")


KIT = Kit(
    build=build,
    use=use,
    may_draw=False,
    checks=(
        samples_fit_the_spec,
        inputs_suit_a_model,
        same_in_another_process,
        reading_again_gives_the_same,
        reading_draws_nothing,
        pickles_for_workers,
        prepare_is_a_function,
        augment_belongs_to_the_sample,
        works_on_a_device,
        class_counts_are_those_of_train,
    ),
    gates=(samples_fit_the_spec, reading_again_gives_the_same),
    optional=(
        prepare_is_a_function,
        augment_belongs_to_the_sample,
        works_on_a_device,
        class_counts_are_those_of_train,
    ),
)


def _batches(bundle: DataBundle, split: Dataset[Any]) -> BatchLoader:
    return BatchLoader(source_of({"split": split}, CPU)["split"], batch_size=SAMPLES, prepare=bundle.prepare)


def _raw(bundle: DataBundle) -> Tensor:
    """Inputs of the first training samples, as `prepare` gets them."""
    return BatchLoader(source_of({"train": bundle.train}, CPU)["train"], batch_size=SAMPLES).probe(SAMPLES)[0]


def _other_hash_seed(names: Sequence[str]) -> str:
    """A seed of Python's hashes under which a set of these names, if there are some, has another order than they."""
    order = names if len(set(names)) > 1 else list(set(WORDS))
    for seed in map(str, range(1, 100)):
        done = subprocess.run(
            [sys.executable, "-S", "-c", SET_ORDER],
            input=json.dumps(order),
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
        )
        if done.stdout.strip() == "True":
            break
    return seed


def _places(split: Dataset[Any]) -> list[int]:
    """Some samples from the beginning, the middle and the end."""
    size = len(cast(Sized, split))
    return sorted({0, 1, size // 2, size - 2, size - 1} & set(range(size)))


def _read(split: Dataset[Any], place: int) -> tuple[Tensor, Tensor]:
    inputs, targets = split[place]
    return torch.as_tensor(inputs), torch.as_tensor(targets)


def _read_by_a_worker(name: str, split: Dataset[Any]) -> None:
    places = _places(split)
    loader: DataLoader[Any] = DataLoader(
        Subset(split, places), batch_size=len(places), num_workers=1, multiprocessing_context="spawn", timeout=120
    )
    with on(f"a worker process that reads the {name} split"):
        ((inputs, targets),) = loader
    for position, place in enumerate(places):
        if not identical(_read(split, place), (inputs[position], targets[position])):
            raise CheckFailed(f"sample {place} of the {name} split is another one when a worker process reads it")
