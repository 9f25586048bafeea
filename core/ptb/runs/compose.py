"""Puts a run together: a resolved configuration and a registry's components become a trainer."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from ptb.config.resolve import ComponentConfig, PartialConfig, ResolvedConfig
from ptb.data.spec import DataBundle
from ptb.device import cores, cpu_threads, describe_device
from ptb.distributed.place import place
from ptb.errors import IncompatibleError, PluginError, count
from ptb.registry.registry import PluginInfo
from ptb.runs.assembly import Assembly, build_dataset, make_loaders, to_memory_format
from ptb.runs.blame import explain_oom, explaining, name_of, naming
from ptb.runs.checks import better_figure, check_accepts, check_figures, check_trainer
from ptb.runs.data_check import check_data
from ptb.runs.preflight import Preflight
from ptb.runs.processes import check_processes, device_of, join, share_batches
from ptb.runs.speed_probe import scaling, thread_advice
from ptb.seeding import preserve_rng_state
from ptb.training.blame import Calls
from ptb.training.trainer import Trainer

if TYPE_CHECKING:
    from ptb.distributed.world import World

# Floating-point operations below which a training step is left to one thread. On two idle cores a second one gains a
# tenth for LeNet (1e8 at batch size 64) and a quarter for a small CNN (4e8); on a busy machine it costs nine tenths.
SMALL_STEP = 1e9


@dataclass(frozen=True)
class ComposedRun:
    """A run whose parts are built and fit each other; nothing is trained and nothing is written."""

    config: ResolvedConfig  # with what was chosen on this machine
    trainer: Trainer  # ready to fit
    bundle: DataBundle
    installed: tuple[PluginInfo, ...]  # all plugins, used or not
    lost_state: dict[str, str] = field(default_factory=dict)  # what each component would lose in a checkpoint
    advice: str | None = None  # about CPU threads
    world: "World | None" = None  # the processes of the run; None where this one is alone

    @property
    def parameters(self) -> int:
        """Number of values in the model's parameters."""
        return sum(parameter.numel() for parameter in self.trainer.model.parameters())

    def summary_line(self) -> str:
        """One line for people: what is trained on what, where."""
        loaders = self.trainer.eval_loaders
        sizes = " / ".join(f"{loader.size:,} {split}" for split, loader in loaders.items())
        return (
            f"{self.config.model.entry.name} on {self.config.dataset.entry.name}: "
            f"{count(self.parameters, 'parameter')}, {sizes} samples, placement {self.trainer.train_loader.source}, "
            f"{describe_device(self.trainer.device, self.config.run.threads)}"
        )

    @contextmanager
    def running(self, trains: bool = True) -> Iterator[None]:
        """Inside it the run is carried out, with its threads; errors name the component or the setting to blame."""
        config, calls = self.config, self.trainer.calls
        with (
            preserve_rng_state(),
            cpu_threads(config.run.threads),
            explain_oom(calls, config.run.device, config.loader.batch_size, trains),
            naming(calls, config.components(), "while training" if trains else "while it was evaluated"),
        ):
            yield

    def close(self) -> None:
        """End the processes that read samples, if there are any."""
        for loader in (self.trainer.train_loader, *self.trainer.eval_loaders.values()):
            loader.source.close()


def compose(
    partial: PartialConfig,
    *,
    trains: bool = True,
    probe: bool = False,
    initializes: bool = True,
    bundle: DataBundle | None = None,
) -> ComposedRun:
    """Build every part of a run and check that they fit; if it ``trains``, that a step can be taken and saved too.

    With ``probe`` there is advice about CPU threads for short runs too. Weights that a checkpoint replaces need not be
    initialized (``initializes``). A ``bundle`` stands in place of the data set. The global random state is as before
    afterwards.
    """
    device = device_of(partial.run.device, partial.asked.source("device"))
    shards = partial.trainer.virtual_shards if trains else None
    check_processes(partial)
    world = join(device)
    calls = Calls()
    components: dict[str, ComponentConfig] = {}
    with (
        preserve_rng_state(),
        explain_oom(calls, str(device), partial.loader.batch_size, trains),
        naming(calls, components, "while the run was built"),
    ):
        with nullcontext() if world is None else world.first_on_host():
            bundle = bundle or build_dataset(partial.dataset, partial.run.seed)
        config = partial.with_target(bundle.spec.target_form)
        components |= config.components()
        calls.now = "dataset"
        check_accepts(config, bundle.spec)
        # An evaluation may have other metrics than the one that was monitored.
        better = better_figure(config, partial.asked, bundle.splits) if trains else "lower"
        pieces = (shards or place().size) if trains else 1
        loaders = make_loaders(config, bundle, device)
        assembly = Assembly(config, bundle, device, better, loaders, calls, initializes, pieces)
        loss = assembly.loss()
        model = assembly.model(loss)
        trainer = assembly.trainer(model, loss)
        if trains:
            check_trainer(trainer, config, partial.asked)
        if pieces > 1 and trainer.create_graph:
            raise IncompatibleError(
                f"{name_of(config.optimizer)} differentiates the gradients, and those of pieces of a batch are sums "
                "without a graph: train in one process, and without trainer.virtual_shards"
            )
        calls.now = "loss"
        mixes = bool(getattr(loss, "takes_probabilities", False))
        calls.now = "dataset"
        check_data(assembly.loaders, bundle.spec, trainer.objective.ignored, name_of(config.dataset), mixes)
        preflight, memory_format, operations = _fitted(assembly, trainer, trains)
        if trains:
            check_figures(trainer, preflight.figures, partial.asked)
        calls.now = "model"
        to_memory_format(model, memory_format)
        threads = config.run.threads or _threads(operations, shards)
        lost = preflight.lost_state() if trains else {}
        if reason := lost.get(""):
            raise PluginError(f"the run cannot be saved: {reason}")
        if trains:
            preflight.check_schedule()
        advice = None
        if trains and config.trainer.compile:
            _compile(trainer, preflight, threads)
        elif trains and world is None:
            advice = thread_advice(preflight.trainer, assembly.total_steps, threads, probe)
        share_batches(trainer, world, shards, config.run.seed)
        calls.now = ""
    if trains and world is not None:
        together = assembly.trial(model, loss, memory_format)
        share_batches(together, world, shards, config.run.seed)
        with preserve_rng_state(), cpu_threads(threads):
            advice = scaling(preflight.trainer, together, world)
    name = str(device) if world is None or device.type == "cpu" else device.type  # each process has another one
    config = config.with_runtime(name, threads, memory_format)
    installed = tuple(partial.registry.plugins())
    return ComposedRun(config, trainer, bundle, installed, lost, advice, world)


def _fitted(assembly: Assembly, trainer: Trainer, trains: bool) -> tuple[Preflight, str, float]:
    """The memory format in which the parts fit each other, and the floating-point operations of a step."""

    def tried(name: str) -> tuple[Preflight, str, float]:
        preflight = Preflight(assembly, trainer.model, trainer.objective.loss, name)
        preflight.check_forward()
        return preflight, name, preflight.check_step() if trains else 0.0

    wanted = assembly.config.trainer.memory_format
    if wanted != "auto":
        return tried(wanted)
    has_images = any(parameter.ndim == 4 for parameter in trainer.model.parameters())
    if has_images and assembly.device.type == "cpu":
        with suppress(IncompatibleError):  # some models and optimizers look at the order of values in memory
            return tried("channels-last")
    return tried("contiguous")


def _compile(trainer: Trainer, preflight: Preflight, threads: int) -> None:
    """Compile the model for full batches, tried on one: the first step of the run need not wait for it."""
    loader = trainer.train_loader
    for each in (preflight.trainer.objective, trainer.objective):
        each.compiled, each.compiled_size = torch.compile(each.model, dynamic=False), loader.batch_size
    remedy = "; install what it lacks (on a CPU a C++ compiler such as g++), or leave --compile out"
    # Another number of threads would be compiled anew.
    with explaining(IncompatibleError, "trainer.compile cannot be used here", remedy), cpu_threads(threads):
        preflight.trainer.train_step([loader.first_batch(loader.batch_size)])


def _threads(step_operations: float, shards: int | None) -> int:
    """A run is repeated with as many threads, because the last bits of sums depend on them.

    The processes of a host share its cores; so do the shards of a batch, in whatever process they are.
    """
    # Threads that meet after a few microseconds of work cost more than they bring, and far more on a busy machine.
    if step_operations < SMALL_STEP:
        return 1
    if shards:
        return max(1, cores() * place().local_size // shards)
    return min(torch.get_num_threads(), cores()) if place().local_size > 1 else torch.get_num_threads()
