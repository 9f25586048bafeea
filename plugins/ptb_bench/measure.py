"""What is measured: a training, what the framework adds to it, the input alone, the start."""

import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, time
from typing import Any

import torch
from torch.utils.data import TensorDataset

from ptb import ConfigError, Registry, RunConfig
from ptb.internals import (
    BatchLoader,
    ComposedRun,
    InMemorySamples,
    PartialConfig,
    Placement,
    compose,
    cpu_threads,
    describe_device,
    listing,
    make_sources,
    resolve,
    resolve_device,
    start_run,
)
from ptb_bench import loops
from ptb_bench.timing import Comparison, in_turn

# Steps that take about a millisecond, as those of MNIST do: what is added to them shows.
SMALL_SAMPLES = 20_000
SMALL_BATCH = 64
LOADED = (60_000, 784)
LOADED_BATCH = 256
EMPTY_EPOCHS = 200
NEVER = 10**9
# Settings of the trainer that change nothing of a step, or that the loops have too.
ALIKE = {"epochs", "eval_every", "eval_steps", "checkpoint_every", "keep_last", "memory_format", "compile"}
ALIKE |= {"monitor", "mode", "patience", "max_steps", "max_time"}


def training(partial: PartialConfig, rounds: int) -> Comparison:
    """One epoch of a run, with all that a run does in it, beside loops on the same samples that only train.

    Raises:
        ConfigError: the run does what those loops do not.
    """
    partial = replace(partial, trainer=partial.trainer.model_copy(update={"epochs": 1}))
    composed = compose(partial)
    trainer, settings = composed.trainer, composed.config.trainer
    unknown = [f"trainer.{key}" for key in settings.model_dump(exclude=ALIKE, exclude_defaults=True)]
    unknown += ["callbacks"] * bool(composed.config.callbacks)
    unknown += [f"the optimizer {composed.config.optimizer.entry.name}"] * trainer.needs_closure
    unknown += [f"the data set {composed.config.dataset.entry.name}, which has pairs"] * trainer.objective.pairs
    if unknown:
        raise ConfigError(f"the loops that a run is measured beside do not know {listing(unknown)}; leave that out")

    def each_time(loop: Callable[[ComposedRun], float]) -> Callable[[], float]:
        def timed() -> float:
            fresh = compose(partial)
            with cpu_threads(fresh.config.run.threads):
                return loop(fresh)

        return timed

    candidates = {"ptb": each_time(trained)}
    if InMemorySamples.of(composed.bundle.splits["train"]) is not None:
        candidates["ptb, the steps on batches cut before"] = each_time(loops.train_steps)
        candidates["batches cut before: the floor"] = each_time(loops.pre_cut)
        candidates["tensors and indices"] = each_time(loops.gathered)
    candidates["Dataset and DataLoader"] = each_time(loops.data_loader)
    return Comparison(f"one epoch of {composed.summary_line()}", in_turn(candidates, rounds))


def trained(composed: ComposedRun) -> float:
    """A run as anybody's, recorded in a folder that is thrown away: its seconds in the training loop."""
    with TemporaryDirectory() as folder:
        return start_run(composed, Path(folder)).train_seconds


def overhead(device: str, registry: Registry, rounds: int) -> Comparison:
    """What ptb adds to a step and to an epoch."""
    compared = training(resolve(_small(device, SMALL_SAMPLES), registry), rounds)
    steps = -(-SMALL_SAMPLES // SMALL_BATCH)
    ours, bare, floor = (timings.median for timings in compared.timings[:3])

    def epochs(number: int) -> Callable[[], float]:
        quiet = {"epochs": number, "eval_every": NEVER, "checkpoint_every": NEVER}
        return lambda: _whole(_small(device, SMALL_BATCH, trainer=quiet), registry)

    timed = in_turn({"fewer": epochs(EMPTY_EPOCHS), "more": epochs(2 * EMPTY_EPOCHS)}, rounds)
    fewer, more = (min(timings.seconds) for timings in timed)
    return Comparison(
        compared.title,
        compared.timings,
        (
            f"{1e6 * (ours - floor) / steps:.0f} us more than the floor in each of {steps} steps, "
            f"{1e6 * (bare - floor) / steps:.0f} us of them in the step itself",
            f"{1e3 * (more - fewer) / EMPTY_EPOCHS:.1f} ms for an epoch of one step, without evaluation and saving",
        ),
    )


def loading(device: str, rounds: int) -> Comparison:
    """An epoch of batches from memory, without a training."""
    target = resolve_device(device)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(256, LOADED, generator=generator, dtype=torch.uint8)
    targets = torch.randint(10, LOADED[:1], generator=generator)

    def read(placement: Placement) -> Callable[[], float]:
        source = make_sources({"train": TensorDataset(inputs, targets)}, target, placement)["train"]
        batches = BatchLoader(source, batch_size=LOADED_BATCH, shuffle=True)
        return lambda: _read(batches.epoch(1), target)

    candidates = {
        "ptb": read("device"),
        "ptb, loader.placement=host": read("host"),
        "TensorDataset and DataLoader": lambda: loops.read_by_loader(inputs, targets, LOADED_BATCH, target),
    }
    count, size = LOADED
    where = describe_device(target, torch.get_num_threads())
    title = f"{count:,} samples of {size} bytes in batches of {LOADED_BATCH}, nothing trained, {where}"
    return Comparison(title, in_turn(candidates, rounds))


def starting(rounds: int) -> Comparison:
    """The first optimizer step of a run, and a command that trains nothing, beside the import of torch."""
    with TemporaryDirectory() as folder:
        directories = (Path(folder) / str(number) for number in range(rounds + 1))
        candidates = {
            "import torch": lambda: _process("-c", "import torch"),
            "ptb run --model lenet, to the end of its first step": lambda: _first_step(next(directories)),
            "ptb --help": lambda: _process("-m", "ptb", "--help"),
            "ptb list": lambda: _process("-m", "ptb", "list"),
            "ptb show model lenet": lambda: _process("-m", "ptb", "show", "model", "lenet"),
            "ptb config show --model lenet": lambda: _process("-m", "ptb", "config", "show", "--model", "lenet"),
        }
        timings = in_turn(candidates, rounds)
        return Comparison("starting, each in a process of its own", timings, unit="import torch")


def _small(device: str, samples: int, **sections: Any) -> RunConfig:
    return RunConfig(
        model={"name": "mlp"},
        dataset={"name": "random", "samples": samples},
        loader={"batch_size": SMALL_BATCH},
        metrics={"accuracy": {}},
        device=device,
        **sections,
    )


def _whole(config: RunConfig, registry: Registry) -> float:
    composed = compose(resolve(config, registry))
    with TemporaryDirectory() as folder:
        began = perf_counter()
        start_run(composed, Path(folder))
        return perf_counter() - began


def _read(batches: Iterable[Any], device: torch.device) -> float:
    began = perf_counter()
    for _ in batches:
        pass
    loops.wait(device)
    return perf_counter() - began


def _first_step(output: Path) -> float:
    command = [sys.executable, "-m", "ptb_bench.first_step", str(time()), str(output)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _process(*arguments: str) -> float:
    began = perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return perf_counter() - began
