"""Puts a run together: a resolved configuration and a registry's components become a trainer."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.utils.data import Dataset

from ptb.config.resolve import PartialConfig, ResolvedConfig, closure_problems
from ptb.data.spec import DataSpec
from ptb.device import cpu_threads, describe_device, resolve_device
from ptb.errors import ConfigError, IncompatibleError, Problem, count, listing
from ptb.registry.registry import PluginInfo
from ptb.runs.assembly import Assembly, build_dataset, make_loaders, to_memory_format
from ptb.runs.blame import explain_oom, name_of
from ptb.runs.data_check import check_data
from ptb.runs.preflight import Preflight, check_declared
from ptb.runs.thread_probe import thread_advice
from ptb.seeding import preserve_rng_state
from ptb.training.trainer import Trainer

MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
# Floating-point operations below which a training step is left to one thread. On two idle cores a second one gains a
# tenth for LeNet (1e8 at batch size 64) and a quarter for a small CNN (4e8); on a busy machine it costs nine tenths.
SMALL_STEP = 1e9


@dataclass(frozen=True)
class ComposedRun:
    """A run whose parts are built and fit each other; nothing is trained and nothing is written.

    Attributes:
        config: with what was chosen on this machine.
        spec: of the data set.
        trainer: ready to fit.
        splits: of the data set.
        installed: all plugins that there are, used or not.
        lost_state: what a checkpoint would lose, a line a component.
        advice: one line about CPU threads, where there is one.
    """

    config: ResolvedConfig
    spec: DataSpec
    trainer: Trainer
    splits: dict[str, Dataset[object]]
    installed: tuple[PluginInfo, ...]
    lost_state: tuple[str, ...] = ()
    advice: str | None = None

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

    def close(self) -> None:
        """End the processes that read samples, if there are any."""
        for loader in (self.trainer.train_loader, *self.trainer.eval_loaders.values()):
            loader.source.close()


def compose(partial: PartialConfig, *, trains: bool = True, probe: bool = False) -> ComposedRun:
    """Build every part of a run and check that they fit. The global random state is as before afterwards.

    Args:
        partial: what to run, resolved.
        trains: check too that a step can be taken and saved, which an evaluation does without.
        probe: say what more threads would bring of a short run too.

    Raises:
        ConfigError: the configuration is wrong, or the machine lacks the device.
        DataError: the data cannot be had, or the parts do not fit each other.
        PluginError: a target cannot be imported, or raises while it is built.
    """
    device = resolve_device(partial.run.device, partial.asked.source("device"))
    with preserve_rng_state(), explain_oom(str(device), partial.loader.batch_size, trains):
        bundle = build_dataset(partial.dataset, partial.run.seed)
        config = partial.with_target(bundle.spec.target)
        components = {section: each.entry.component for section, each in config.components().items()}
        check_declared(bundle.spec, components, name_of(config.dataset))
        better = _check_monitor(partial, config, set(bundle.splits))
        assembly = Assembly(config, bundle, device, better, make_loaders(config, bundle, device))
        model = assembly.model()
        loss = assembly.loss()
        trainer = assembly.trainer(model, loss)
        if trainer.needs_closure:  # only the built optimizer says so, where its plugin does not
            _check_closure(partial, config)
        ignores = check_data(assembly.loaders, bundle.spec, trainer.objective.ignored, name_of(config.dataset))
        _check_ignored(config, trainer, ignores)
        preflight, memory_format, operations = _fitted(assembly, trainer, trains)
        to_memory_format(model, MEMORY_FORMATS[memory_format])
        threads = config.run.threads or _threads(operations)
        lost = tuple(preflight.lost_state()) if trains else ()
        if trains and config.trainer.compile:
            _compile(trainer, preflight, threads)
        advice = thread_advice(preflight.trainer, assembly.total_steps, threads, probe) if trains else None
    config = config.with_runtime(str(device), threads, memory_format)
    installed = tuple(partial.registry.plugins())
    return ComposedRun(config, bundle.spec, trainer, bundle.splits, installed, lost, advice)


def _check_closure(partial: PartialConfig, config: ResolvedConfig) -> None:
    if problems := closure_problems(config.optimizer.entry.name, config.trainer):
        raise ConfigError(
            *(
                Problem(f"trainer.{key}", message, partial.asked.source("trainer", key))
                for key, message in problems.items()
            )
        )


def _check_monitor(partial: PartialConfig, config: ResolvedConfig, splits: set[str]) -> str:
    """Whether a ``"lower"`` or a ``"higher"`` monitored figure is better.

    Raises:
        ConfigError: no split reports the figure, or nobody says which way is better; or patience waits for nothing.
    """
    trainer, source = config.trainer, partial.asked.source("trainer", "monitor")
    split, _, figure = trainer.monitor.partition("/")
    label = figure.partition("/")[0]
    reported = [f"val/{each}" for each in ("loss", *config.metrics)] if "val" in splits else []
    if "val" not in splits and trainer.patience:
        message = f"waits for {trainer.monitor}, and {name_of(config.dataset)} has no validation split"
        raise ConfigError(Problem("trainer.patience", message, partial.asked.source("trainer", "patience")))
    if trainer.monitor != "val/loss" and (split != "val" or f"val/{label}" not in reported):
        there = f"reported are {listing(reported)}" if reported else "there is no validation split"
        raise ConfigError(Problem("trainer.monitor", f"'{trainer.monitor}' is reported by no split; {there}", source))
    _warn_of_idle_patience(config)
    if trainer.mode != "auto":
        return "lower" if trainer.mode == "min" else "higher"
    said = "lower" if figure == "loss" else config.metrics[label].entry.component.better
    better = said.get(figure.partition("/")[2]) if isinstance(said, Mapping) else said
    if better is None:
        message = f"'{trainer.monitor}' does not say whether higher or lower is better; set trainer.mode=max or min"
        raise ConfigError(Problem("trainer.monitor", message, source))
    return better


def _warn_of_idle_patience(config: ResolvedConfig) -> None:
    trainer = config.trainer
    evaluations = -(-trainer.epochs // trainer.eval_every) if trainer.eval_every else 0
    # The first evaluation always improves, the last one ends the run anyway.
    if not trainer.eval_steps and trainer.patience > max(evaluations - 2, 0):
        warnings.warn(
            f"trainer.patience={trainer.patience} never ends this run early: trainer.epochs={trainer.epochs} has "
            f"{count(evaluations, 'evaluation')}",
            stacklevel=2,
        )


def _check_ignored(config: ResolvedConfig, trainer: Trainer, ignores: bool) -> None:
    """A loss that is told to ignore a class which no sample has was probably told something else."""
    if ignores or trainer.objective.ignored(torch.arange(1)) is None:
        return
    raise IncompatibleError(
        f"{name_of(config.loss)} is set to ignore samples, and no sample of {name_of(config.dataset)} is one of them; "
        "leave that setting out"
    )


def _fitted(assembly: Assembly, trainer: Trainer, trains: bool) -> tuple[Preflight, str, float]:
    """The memory format in which the parts fit each other, and the floating-point operations of a step."""
    config, model = assembly.config, trainer.model
    has_pictures = any(parameter.ndim == 4 for parameter in model.parameters())
    chosen = config.trainer.memory_format
    if chosen == "channels-last" and not has_pictures:
        message = f"has no effect: {name_of(config.model)} has no convolution over pictures; leave it out"
        raise ConfigError(Problem("trainer.memory_format", message))
    faster = has_pictures and assembly.device.type == "cpu"
    usual = ("channels-last", "contiguous") if faster else ("contiguous",)
    formats = usual if chosen == "auto" else (chosen,)
    for name in formats:
        try:
            preflight = Preflight(assembly, model, trainer.objective.loss, MEMORY_FORMATS[name])
            preflight.check_forward()
            return preflight, name, preflight.check_step() if trains else 0.0
        except IncompatibleError as error:
            if name == "channels-last" and chosen == name:
                raise IncompatibleError(f"with trainer.memory_format={name}: {error}") from error
            if name == formats[-1]:
                raise
    raise AssertionError("there is always a format")


def _compile(trainer: Trainer, preflight: Preflight, threads: int) -> None:
    """Compile the model for full batches, tried on one: the first step of the run need not wait for it."""
    loader = trainer.train_loader
    if loader.samples < loader.batch_size:
        raise IncompatibleError(
            f"trainer.compile compiles full batches of loader.batch_size={loader.batch_size}, and there are only "
            f"{count(loader.samples, 'training sample')}: choose a smaller batch size, or leave --compile out"
        )
    objective = preflight.trainer.objective
    objective.compiled, objective.compiled_size = torch.compile(objective.model, dynamic=False), loader.batch_size
    try:
        with cpu_threads(threads):  # another number would be compiled anew
            preflight.trainer.train_step([loader.first_batch(loader.batch_size)])
    except Exception as error:
        raise IncompatibleError(
            f"trainer.compile cannot be used here: {error}; install what it lacks (on a CPU a C++ compiler such as "
            "g++), or leave --compile out"
        ) from error
    trainer.objective.compiled = torch.compile(trainer.model, dynamic=False)
    trainer.objective.compiled_size = loader.batch_size


def _threads(step_operations: float) -> int:
    """A run is repeated with as many threads, because the last bits of sums depend on them."""
    # Threads that meet after a few microseconds of work cost more than they bring, and far more on a busy machine.
    return 1 if step_operations < SMALL_STEP else torch.get_num_threads()
