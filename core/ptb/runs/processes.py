"""Which part of a run this process takes, where several train together. Alone, it costs nothing."""

from typing import TYPE_CHECKING

import torch
from torch import nn

from ptb.config.resolve import PartialConfig
from ptb.device import resolve_device
from ptb.distributed.place import place
from ptb.errors import ConfigError, Problem, count
from ptb.training.trainer import Trainer

if TYPE_CHECKING:
    from ptb.distributed.world import World


def join(device: torch.device) -> "World | None":
    """This process among the others, as the environment says; None where it is alone."""
    if (here := place()).size == 1:
        return None
    from ptb.distributed.world import World  # imports torch.distributed, for which one process has no use

    return World(here, device)


def share_batches(trainer: Trainer, world: "World | None", shards: int | None, seed: int) -> None:
    """Let a trainer take its pieces of each batch, and add up the gradients of all."""
    if world is None and shards is None:
        return
    from ptb.distributed.gradients import AddedGradients

    rank, size = (world.rank, world.size) if world else (0, 1)
    modules = [each for each in (trainer.model, trainer.objective.loss) if isinstance(each, nn.Module)]
    pieces = size if shards is None else shards
    own = pieces // size
    shared = AddedGradients(world, modules, seed, shards)
    trainer.share(shared, world, range(rank * own, (rank + 1) * own), pieces)


def device_of(name: str, source: str = "") -> torch.device:
    """The device of this process: of several on a host each has a GPU of its own, or all have the CPU."""
    here = place()
    if here.size > 1 and name.startswith("cuda:"):
        message = f"{name} is one GPU, and there are {here.size} processes; write cuda, and each takes its own"
        raise ConfigError(Problem("device", message, source))
    device = resolve_device(name, source)
    if here.size == 1 or device.type == "cpu":
        return device
    if device.type != "cuda" or here.local_size > torch.cuda.device_count():
        have = count(torch.cuda.device_count(), "GPU") if device.type == "cuda" else f"one {device}"
        message = f"{have} for {here.local_size} processes on this host; start as many, or use --device cpu"
        raise ConfigError(Problem("device", message, source))
    return torch.device("cuda", here.local_rank)


def check_processes(partial: PartialConfig) -> None:
    """Refuse what several processes, or shards of batches, cannot do."""
    here, shards = place(), partial.trainer.virtual_shards
    problems = []
    if shards and shards % here.size:
        message = f"must be a multiple of the number of processes, {here.size}; got {shards}"
        problems.append(Problem("trainer.virtual_shards", message))
    if partial.trainer.compile and (here.size > 1 or shards):
        message = "cannot be combined with several processes or virtual shards: it compiles whole batches"
        problems.append(Problem("trainer.compile", message))
    if problems:
        raise ConfigError(*problems)
