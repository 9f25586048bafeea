"""Puts a run together: the only place where the registry and torch meet."""

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.data import Dataset

from ptb.config.layers import RunConfig
from ptb.config.resolve import ComponentConfig, ResolvedConfig, closure_faults, resolve, selection
from ptb.config.sections import Grouping
from ptb.data.loader import BatchLoader
from ptb.data.sources import Source, place
from ptb.data.spec import DataBundle, DataSpec
from ptb.device import cpu_threads, describe_device, is_memory_error, resolve_device
from ptb.errors import (
    ConfigError,
    DataError,
    IncompatibleError,
    PluginError,
    Problem,
    PtbError,
    ResourceError,
    count,
    listing,
    one_line,
)
from ptb.registry.registry import PluginInfo, Registry, load_selected
from ptb.runs import preflight
from ptb.runs.lazy_dynamo import put_off_dynamo
from ptb.seeding import preserve_rng_state, seed_global
from ptb.training.objective import Metric, Parts

MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
# They compute the same with and without `fused`, but for the last bits, on every device that a run can have.
FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
# Floating-point operations below which a training step is left to one thread. On two idle cores a second one gains a
# tenth for LeNet (1e8 at batch size 64) and a quarter for a small CNN (4e8); on a busy machine it costs nine tenths.
SMALL_STEP = 1e9
SHAPING = ("size", "input_shape", "height", "width")  # settings of a data set to change where a shape does not fit


@dataclass(frozen=True)
class ComposedRun:
    """A run whose parts are built and fit each other; nothing is trained and nothing is written.

    ``installed`` are all plugins that there are, used or not.
    """

    plan: ResolvedConfig
    spec: DataSpec
    parts: Parts
    splits: dict[str, Dataset[Any]]
    installed: tuple[PluginInfo, ...]

    @property
    def parameters(self) -> int:
        """Number of values in the model's parameters."""
        return sum(parameter.numel() for parameter in self.parts.model.parameters())

    def summary_line(self) -> str:
        """One line for people: what is trained on what, where."""
        sizes = " / ".join(f"{batches.size:,} {name}" for name, batches in self.parts.evaluation.items())
        return (
            f"{self.plan.model.entry.name} on {self.plan.dataset.entry.name}: {count(self.parameters, 'parameter')}, "
            f"{sizes} samples, input {self.parts.train.source}, "
            f"{describe_device(self.parts.device, self.plan.run.threads)}"
        )


def compose(config: RunConfig, registry: Registry | None = None, *, training: bool = True) -> ComposedRun:
    """Builds every part of a run and checks that they fit. The global random state is as before afterwards.

    Args:
        config: what to run.
        registry: where its components are looked up; a fresh one of what is installed and the section ``plugins`` of
            the configuration leaves, when left out.
        training: check too that a step can be taken, which an evaluation does without.

    Raises:
        ConfigError: the configuration is wrong, or the machine lacks the device.
        DataError: the data cannot be had, or the parts do not fit each other.
        PluginError: a target cannot be imported, or raises while it is built.
    """
    put_off_dynamo()
    registry = registry or load_selected(selection(config))
    plan = resolve(config, registry)
    device = resolve_device(plan.run.device, config.source("device"))
    plan = _with_device(plan, device)
    seed = plan.run.seed
    with preserve_rng_state(), explain_oom(plan, training):
        seed_global(seed, "dataset")
        bundle = _build_dataset(plan.dataset)
        plan = resolve(config, registry, bundle.spec.target)
        plan = _with_device(plan, device)
        assert plan.loss is not None
        components = {section: choice.entry.component for section, choice in plan.choices().items()}
        if plan.trainer.patience and bundle.val is None:
            message = f"waits for the validation loss, and data set '{plan.dataset.entry.name}' has no validation split"
            raise ConfigError(Problem("trainer.patience", message, config.source("trainer", "patience")))
        evaluations = -(-plan.trainer.epochs // plan.trainer.eval_every) if plan.trainer.eval_every else 0
        if training and not plan.trainer.eval_steps and plan.trainer.patience > max(evaluations - 2, 0):
            # The first evaluation always improves, the last one ends the run anyway.
            warnings.warn(
                f"trainer.patience={plan.trainer.patience} never ends this run early: trainer.epochs="
                f"{plan.trainer.epochs} has {count(evaluations, 'evaluation')}",
                stacklevel=2,
            )
        names = _names(plan, bundle.spec)
        preflight.check_declared(bundle.spec, components, names.dataset)
        seed_global(seed, "model")
        model = _build_model(plan, bundle.spec, names).to(device)
        seed_global(seed, "initializer")
        with torch.no_grad(), _blamed(plan.initializer, names.model):
            plan.initializer.build(model)
        parts = _assemble(plan, bundle, model, device, names)
        # Only the built optimizer tells that it cannot do without a closure, where its plugin does not say so.
        if parts.closure and (faults := closure_faults(plan.optimizer.entry.name, plan.trainer)):
            raise ConfigError(
                *(Problem(f"trainer.{key}", told, config.source("trainer", key)) for key, told in faults.items())
            )
        preflight.check_batches(parts, bundle.spec, names)
        plan = _checked(plan, parts, bundle.spec, names, training)
        if training and plan.trainer.compile:
            parts = _compiled(plan, parts, names)
    return ComposedRun(plan, bundle.spec, parts, bundle.splits, tuple(registry.plugins()))


def _build_dataset(choice: ComponentConfig) -> DataBundle:
    with _blamed(choice):
        bundle = choice.build()
    if not isinstance(bundle, DataBundle):
        raise PluginError(f"{choice.entry} must give a DataBundle, it gives {type(bundle).__name__}")
    return bundle


def _build_model(plan: ResolvedConfig, spec: DataSpec, names: preflight.Names) -> nn.Module:
    inputs = f"the inputs of {names.dataset}, of shape {spec.input_shape}"
    with _blamed(plan.model, inputs, remedy=f"; {names.remedy}"):
        model = plan.model.build(spec)
    if not isinstance(model, nn.Module):
        raise PluginError(f"{plan.model.entry} must give an nn.Module, it gives {type(model).__name__}")
    tensors = (*model.named_parameters(), *model.named_buffers())
    if lazy := [name for name, tensor in tensors if is_lazy(tensor)]:
        raise PluginError(
            f"{plan.model.entry} must give a model whose tensors have their sizes, for the initializer fills them; "
            f"{listing(lazy)} {'has' if len(lazy) == 1 else 'have'} none yet: take the sizes from spec.input_shape, or "
            "send zeros of that shape through the model at the end of its constructor"
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise IncompatibleError(f"{names.model} has no parameters to train; choose another model")
    return model


def _build_optimizer(plan: ResolvedConfig, model: nn.Module, names: preflight.Names) -> torch.optim.Optimizer:
    parameters = _parameters(plan, model)
    remedy = "; perhaps it takes no optimizer.groups: leave them out" if isinstance(parameters, list) else ""
    with _blamed(plan.optimizer, names.model, remedy):
        optimizer = plan.optimizer.build(parameters, **_switches(plan.optimizer, model))
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise PluginError(f"{plan.optimizer.entry} must give a torch Optimizer, it gives {type(optimizer).__name__}")
    if optimizer.defaults.get("fused") and "momentum" in optimizer.defaults:
        optimizer.register_step_pre_hook(_begin_momentum)
    return optimizer


def _begin_momentum(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Gives a momentum of 0 to parameters that get their first gradient after others, which the fused SGD cannot."""
    for group in optimizer.param_groups:
        moved = [each for each in group["params"] if each.grad is not None]
        new = [each for each in moved if optimizer.state.get(each, {}).get("momentum_buffer") is None]
        if group["momentum"] and len(new) < len(moved):
            for each in new:
                optimizer.state[each]["momentum_buffer"] = torch.zeros_like(each)


def _switches(choice: ComponentConfig, model: nn.Module) -> dict[str, bool]:
    """``fused`` where torch has one kernel for the whole step, which neither sparse gradients nor integers can have."""
    sparse = any(getattr(module, "sparse", False) for module in model.modules())
    floats = all(parameter.is_floating_point() for parameter in model.parameters())
    fits = choice.entry.load() in FUSED and "fused" not in type(choice.settings).model_fields
    if getattr(choice.settings, "dampening", 0):  # the first step is not dampened, whenever a parameter takes it
        fits = False
    return {"fused": True} if fits and floats and not sparse else {}


def _parameters(plan: ResolvedConfig, model: nn.Module) -> Iterable[nn.Parameter] | list[dict[str, Any]]:
    """The model's parameters, in groups where the section ``optimizer`` asks for some; the plain ones come first."""
    grouping = plan.optimizer.shared
    assert isinstance(grouping, Grouping)
    if not grouping.groups and grouping.decay_norms_and_biases:
        return model.parameters()
    members: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        number = next((n for n, g in enumerate(grouping.groups) if fnmatchcase(name, g.match)), -1)
        bare = not grouping.decay_norms_and_biases and parameter.ndim < 2
        members.setdefault((number, bare), []).append(parameter)
    for number, group in enumerate(grouping.groups):
        key = f"optimizer.groups[{number}]"
        if not any(taken == number for taken, _ in members):
            known = listing([name for name, _ in model.named_parameters()])
            taken = listing([name for name, _ in model.named_parameters() if fnmatchcase(name, group.match)])
            matched = f"matches only what earlier groups have taken ({taken}); put it before them"
            message = matched if taken else f"matches no parameter; there are: {known}"
            raise ConfigError(Problem(f"{key}.match", f"'{group.match}' {message}"))
        if group.weight_decay and (number, False) not in members:
            message = "has no effect: decay_norms_and_biases=false takes it from all that the group matches; drop one"
            raise ConfigError(Problem(f"{key}.weight_decay", message))
    groups: list[dict[str, Any]] = [
        {
            "params": parameters,
            **(grouping.groups[number].model_dump(exclude={"match"}, exclude_none=True) if number >= 0 else {}),
            **({"weight_decay": 0.0} if bare else {}),
        }
        for (number, bare), parameters in sorted(members.items())
    ]
    for name, field in type(plan.optimizer.settings).model_fields.items():
        chosen = not field.is_required() and getattr(plan.optimizer.settings, name) != field.default
        if chosen and all(name in group for group in groups):
            message = f"has no effect: every parameter of model '{plan.model.entry.name}' has one set apart"
            raise ConfigError(Problem(f"optimizer.{name}", message))
    return groups


def _names(plan: ResolvedConfig, spec: DataSpec) -> preflight.Names:
    assert plan.loss is not None
    settings = plan.dataset.as_config()
    shaping = [f"dataset.{key}" for key in settings if key in SHAPING]
    return preflight.Names(
        dataset=f"data set '{plan.dataset.entry.name}'",
        model=f"model '{plan.model.entry.name}'",
        loss=f"loss '{plan.loss.entry.name}'",
        optimizer=f"optimizer '{plan.optimizer.entry.name}'",
        remedy="".join(f"change {key} or " for key in shaping if spec.inputs == "image") + "choose another model",
    )


def _assemble(
    plan: ResolvedConfig, bundle: DataBundle, model: nn.Module, device: torch.device, names: preflight.Names
) -> Parts:
    assert plan.loss is not None
    sources = place(bundle.splits, device, plan.loader.tier, plan.loader.num_workers, plan.loader.timeout)
    if sources["train"].tier != "workers":
        asked = {"num_workers": plan.loader.num_workers, "timeout": plan.loader.timeout}
        for key, value in asked.items():
            if value and value != type(plan.loader).model_fields[key].default:
                warnings.warn(
                    f"loader.{key}={value} is not used: the samples of {names.dataset} are at hand, and processes "
                    "that read them would be slower; loader.tier=workers has some",
                    stacklevel=2,
                )
    train = BatchLoader(
        sources["train"],
        batch_size=plan.loader.batch_size,
        seed=plan.run.seed,
        shuffle=plan.loader.shuffle,
        drop_last=plan.loader.drop_last,
        prepare=bundle.prepare,
        augment=bundle.augment,
    )
    with _blamed(plan.loss, names.dataset):
        loss = plan.loss.build(bundle.spec)
    if isinstance(loss, nn.Module) and any(parameter.requires_grad for parameter in loss.parameters()):
        raise IncompatibleError(
            f"{names.loss} has parameters of its own, which nothing would train; choose another loss"
        )
    optimizer = _build_optimizer(plan, model, names)
    total_steps = max(-(-len(train) // plan.trainer.accumulate), 1) * plan.trainer.epochs
    with _blamed(plan.scheduler, f"a run of {count(total_steps, 'optimizer step')}"):
        scheduler = plan.scheduler.build(optimizer, total_steps)
    if not all(callable(getattr(scheduler, name, None)) for name in ("step", "state_dict", "load_state_dict")):
        raise PluginError(
            f"{plan.scheduler.entry} must give an object with step, state_dict and load_state_dict, it gives "
            f"{type(scheduler).__name__}"
        )
    return Parts(
        model=model,
        loss=loss.to(device) if isinstance(loss, nn.Module) else loss,
        optimizer=optimizer,
        scheduler=scheduler,
        train=train,
        evaluation={name: _batches(plan, source, train) for name, source in sources.items()},
        train_metrics=_build_metrics(plan, bundle.spec, device, names),
        eval_metrics=_build_metrics(plan, bundle.spec, device, names),
        device=device,
        autocast=_autocast(plan, model, device),
        sparse="sparse-gradients" in plan.optimizer.entry.component.needs,
        ignored=getattr(plan.loss.settings, "ignore_index", None),
        summed=getattr(plan.loss.settings, "reduction", "mean") == "sum",
        denominator=_denominator(plan.loss, loss),
        closure="closure" in plan.optimizer.entry.component.needs or _asks_for_closure(optimizer),
        pairs=bundle.spec.target == "similarity",
    )


def _denominator(choice: ComponentConfig, loss: Any) -> Callable[[Tensor], Tensor | int]:
    """By what the loss divides to make its mean; a mean over values that are not reduced is one over samples."""
    own = getattr(loss, "denominator", None)
    return own if callable(own) and getattr(choice.settings, "reduction", "mean") == "mean" else len


def _autocast(plan: ResolvedConfig, model: nn.Module, device: torch.device) -> torch.dtype | None:
    if plan.trainer.precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ConfigError(Problem("trainer.precision", f"{device} cannot do bf16; use fp16 or fp32"))
    odd = [name for name, each in model.named_parameters() if each.is_complex() and each.requires_grad]
    if plan.trainer.precision == "fp16" and odd:
        message = (
            f"must be fp32 or bf16, got fp16: its loss scaling takes real parameters, and {listing(odd)} of model "
            f"'{plan.model.entry.name}' {'is' if len(odd) == 1 else 'are'} complex"
        )
        raise ConfigError(Problem("trainer.precision", message))
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[plan.trainer.precision]


def _asks_for_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether ``step`` cannot do without one, which makes ``torch.optim:LBFGS`` a target that needs no declaring."""
    parameter = inspect.signature(optimizer.step).parameters.get("closure")
    return parameter is not None and parameter.default is parameter.empty


def _batches(plan: ResolvedConfig, source: Source, train: BatchLoader) -> BatchLoader:
    """Batches for evaluation: every sample once, in the order of the data set, prepared as in training."""
    return BatchLoader(source, batch_size=plan.loader.batch_size, prepare=train.prepare)


def _build_metrics(
    plan: ResolvedConfig, spec: DataSpec, device: torch.device, names: preflight.Names
) -> dict[str, Metric]:
    metrics: dict[str, Any] = {}
    for label, choice in (plan.metrics or {}).items():
        with _blamed(choice, names.dataset):
            metric = choice.build(spec)
        metrics[label] = metric.to(device) if isinstance(metric, nn.Module) else metric
    return metrics


def _with_device(plan: ResolvedConfig, device: torch.device) -> ResolvedConfig:
    """The plan with the device that was found: a run is repeated where it ran."""
    return replace(plan, run=plan.run.model_copy(update={"device": str(device)}))


def _checked(
    plan: ResolvedConfig, parts: Parts, spec: DataSpec, names: preflight.Names, training: bool
) -> ResolvedConfig:
    """The plan with the memory format in which the parts fit each other, and its number of threads."""
    faster = parts.device.type == "cpu" and any(parameter.ndim == 4 for parameter in parts.model.parameters())
    usual = ("channels-last", "contiguous") if faster else ("contiguous",)
    chosen = plan.trainer.memory_format
    if chosen == "channels-last" and not any(parameter.ndim == 4 for parameter in parts.model.parameters()):
        message = f"has no effect: {names.model} has no convolution over pictures; leave it out"
        raise ConfigError(Problem("trainer.memory_format", message))
    for name in usual if chosen == "auto" else (chosen,):
        parts.model.to(memory_format=MEMORY_FORMATS[name])  # type: ignore[call-overload]  # torch forgets this one
        plan = replace(plan, trainer=plan.trainer.model_copy(update={"memory_format": name}))
        try:
            operations = preflight.check_forward(parts, spec, names)
            if training:
                optimizer = _build_optimizer(plan, parts.model, names)
                preflight.check_step(parts, names, optimizer, plan.trainer.clip_norm)
            break
        except IncompatibleError as error:
            if name == "contiguous":
                raise
            if chosen == name:
                raise IncompatibleError(f"with trainer.memory_format={name}: {error}") from error
    return _with_threads(plan, operations)


def _compiled(plan: ResolvedConfig, parts: Parts, names: preflight.Names) -> Parts:
    """The parts with a compiled model, tried on a whole batch: the first step of the run need not wait for it."""
    size = parts.train.batch_size
    if parts.train.samples < size:
        raise IncompatibleError(
            f"trainer.compile compiles full batches of loader.batch_size={size}, and there are only "
            f"{count(parts.train.samples, 'training sample')}: choose a smaller batch size, or leave --compile out"
        )
    parts = replace(parts, compiled=torch.compile(parts.model, dynamic=False))
    optimizer = _build_optimizer(plan, parts.model, names)
    try:
        with cpu_threads(plan.run.threads):  # another number would be compiled anew
            preflight.check_step(parts, names, optimizer, plan.trainer.clip_norm, size)
    except IncompatibleError as error:
        raise IncompatibleError(
            f"trainer.compile cannot be used here: {error}; install what it lacks (on a CPU a C++ compiler such as "
            "g++), or leave --compile out"
        ) from error
    return parts


def _with_threads(plan: ResolvedConfig, step_operations: float) -> ResolvedConfig:
    """The plan with a number of threads: a run is repeated with as many, because the last bits of sums depend on it."""
    if plan.run.threads:
        return plan
    # Threads that meet after a few microseconds of work cost more than they bring, and far more on a busy machine.
    threads = 1 if step_operations < SMALL_STEP else torch.get_num_threads()
    return replace(plan, run=plan.run.model_copy(update={"threads": threads}))


@contextmanager
def _blamed(choice: ComponentConfig, party: str = "", remedy: str = "") -> Iterator[None]:
    """Turns what a target raises while it is built into an error that names it.

    A ``ValueError`` says that it does not fit ``party``; any other exception is a fault of its plugin.
    """
    entry = choice.entry
    try:
        yield
    except (Exception, SystemExit) as error:  # a stranger's code may raise anything
        if isinstance(error, PtbError):
            raise
        if is_memory_error(error):
            raise ResourceError(
                f"out of memory while {entry.kind} '{entry.name}' was built; make it smaller by its settings "
                f"(`ptb show {entry.kind} {entry.name}`)"
            ) from error
        if isinstance(error, ValueError) and party:
            raise IncompatibleError(f"{entry.kind} '{entry.name}' does not fit {party}: {error}{remedy}") from error
        kind = DataError if entry.kind == "dataset" and isinstance(error, OSError | ValueError) else PluginError
        raise kind(f"{entry}: building it failed: {one_line(error)}") from error


@contextmanager
def explain_oom(plan: ResolvedConfig, training: bool = True) -> Iterator[None]:
    """Turns running out of memory into an error that names the setting to change."""
    try:
        yield
    except Exception as error:
        if not is_memory_error(error):
            raise
        half = max(plan.loader.batch_size // 2, 1)
        split = "or trainer.on_oom=split, " if training and plan.trainer.on_oom == "fail" else ""
        raise ResourceError(
            f"out of memory on {plan.run.device} with loader.batch_size={plan.loader.batch_size}; try {half}, {split}"
            "or a smaller model or data set"
        ) from error
