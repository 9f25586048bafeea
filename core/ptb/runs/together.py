"""What several processes of one run have in common, and what those do that record nothing."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from signal import Signals
from typing import Any

from torch import nn

from ptb.distributed.world import World
from ptb.errors import IncompatibleError, InterruptedRunError, count, listing
from ptb.runs import manifest
from ptb.runs.compose import ComposedRun
from ptb.runs.progress import StopOnSignal
from ptb.runs.result import RunResult
from ptb.seeding import seed_global
from ptb.training.evaluation import fresh
from ptb.training.snapshot import restore_snapshot, take_snapshot
from ptb.training.trainer import Trainer

NOT_COMPARED = ("threads", "device")  # processes on several hosts may have others


def check_alike(composed: ComposedRun) -> None:
    """Refuse to train in processes that have other versions, plugins or data than the first one."""
    if composed.world is None:
        return
    of_all = composed.world.gather(manifest.describe(composed))
    found = [
        f"rank {rank}: {text}"
        for rank, each in enumerate(of_all)
        for text in manifest.changes(of_all[0], each | {key: of_all[0][key] for key in NOT_COMPARED})
    ]
    if found:
        raise IncompatibleError(f"the processes do not have the same (was: in rank 0): {'; '.join(found)}")


def lead(composed: ComposedRun, output: Path, *, resumes: bool = False) -> None:
    """Tell the others, who ``follow``, where the run is recorded, and from which state it goes on."""
    if composed.world is not None:
        composed.world.share(str(output))
        composed.world.share(take_snapshot(composed.trainer) if resumes else None)


@contextmanager
def leaving(world: World | None) -> Iterator[None]:
    """Inside it a run is carried out; at its end, and where it is stopped, all processes wait for each other."""
    try:
        yield
    except InterruptedRunError:
        if world is not None:
            world.leave()
        raise
    if world is not None:
        world.leave()


class Follower:
    """A callback of the core in processes that record nothing: it takes part in what the recorder does."""

    def __init__(self, composed: ComposedRun, output: Path) -> None:
        self._composed, self._output = composed, output

    def on_fit_end(self, trainer: Trainer) -> None:
        """Measure the test split, with the weights that rank 0 has read."""
        if "test" in trainer.eval_loaders:
            measure_test(trainer, self._composed.world, None)

    def save(self, trainer: Trainer) -> Path:
        """Where rank 0 saves."""
        return self._output / "checkpoints"


def measure_test(trainer: Trainer, world: World | None, saved: dict[str, Any] | None) -> tuple[Any, Any]:
    """The figures of the test split with the weights of a checkpoint that rank 0 has read, or with those of now."""
    if world is not None:
        saved = world.share(saved)
    metrics = fresh(trainer.eval_metrics)
    return trainer.evaluate("test", saved, metrics), metrics


def follow(composed: ComposedRun, stop_after: int | None) -> RunResult:
    """Train with rank 0, which records the run; returns its result."""
    world, trainer = composed.world, composed.trainer
    if world is None:
        raise ValueError("a process that is alone has nobody to follow")
    stop = StopOnSignal(said=False)
    with closing(composed), stop.listening(), leaving(world), composed.running():
        check_alike(composed)
        follower = Follower(composed, Path(world.share()))
        trainer.callbacks.attach([stop, follower], follower.save)
        seed_global(composed.config.run.seed, "train")
        if (state := world.share()) is not None:
            restore_snapshot(trainer, state)
        trainer.fit(stop_after)
        if (number := trainer.stop_signal) and not trainer.finished:
            raise InterruptedRunError(f"stopped by {Signals(number).name} after step {trainer.state.step}", number)
        result: RunResult = replace(world.share(), model=trainer.model)
    return result


def describe(composed: ComposedRun) -> str:
    """A few words about the processes; nothing where there is one alone."""
    world, shards = composed.world, composed.config.trainer.virtual_shards
    said = f"{world.size} processes" if world else ""
    if shards:
        said = said or "1 process"
        return f"{said}, batches in {count(shards, 'shard')}: any number that divides it gives the same bits"
    if world and (kinds := _of_a_piece(composed.trainer.model)):
        said += f"; {listing(kinds)} make the weights depend on their number (trainer.virtual_shards would not)"
    return said


def _of_a_piece(model: nn.Module) -> list[str]:
    """Modules whose result for a sample depends on the others of its piece, or on random numbers."""
    kinds = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    return [*dict.fromkeys(type(each).__name__ for each in model.modules() if isinstance(each, kinds))]
