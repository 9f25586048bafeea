"""Builds the parts of a run from its resolved configuration, once for the run and again for what tries it out."""

import copy
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ptb.config.resolve import ComponentConfig, ResolvedConfig
from ptb.data.balance import classes_of
from ptb.data.decoding import own_units
from ptb.data.loader import BatchLoader
from ptb.data.sources import make_sources
from ptb.data.spec import DataBundle, DataSpec
from ptb.device import is_memory_error
from ptb.distributed.place import place
from ptb.errors import ConfigError, IncompatibleError, PluginError, Problem, count, listing
from ptb.runs.blame import building, explaining, name_of
from ptb.runs.optimizer import build_optimizer, needs
from ptb.seeding import seed_global
from ptb.training.blame import Calls
from ptb.training.callback_list import CallbackList
from ptb.training.callbacks import misfit
from ptb.training.objective import Objective
from ptb.training.protocols import Metric, Scheduler
from ptb.training.trainer import Trainer

SHAPING = ("size", "input_shape", "height", "width")  # settings of a data set to change where a shape does not fit
POSITIONS = "class+positions"
MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def build_dataset(component: ComponentConfig, seed: int) -> DataBundle:
    """The data set of a run."""
    seed_global(seed, "dataset")
    with building(component):
        bundle = component.build()
    if not isinstance(bundle, DataBundle):
        raise PluginError(f"{component.entry} must give a DataBundle, it gives {type(bundle).__name__}")
    return bundle


@dataclass(frozen=True)
class Assembly:
    """Builds the rest of a run on a data set."""

    config: ResolvedConfig
    bundle: DataBundle
    device: torch.device
    better: str  # whether a "lower" or a "higher" monitored figure is better
    loaders: Mapping[str, BatchLoader]  # of every split; "train" in training order is "fit"
    calls: Calls  # notes which component is being called, for all trainers on this data set
    initializes: bool = True  # False where a checkpoint has the weights
    pieces: int = 1  # into which each batch is cut, for processes or shards

    @property
    def spec(self) -> DataSpec:
        """What the samples look like."""
        return self.bundle.spec

    @cached_property
    def has_weights(self) -> bool:
        """Whether the samples of a split have weights."""
        sources = [loader.source for loader in self.loaders.values() if loader.size]
        return any(source.take(torch.arange(1)).weights is not None for source in sources)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        trainer = self.config.trainer
        steps = max(-(-len(self.loaders["fit"]) // trainer.accumulate), 1) * trainer.epochs
        return min(steps, trainer.max_steps) if trainer.max_steps else steps

    @property
    def shape_remedy(self) -> str:
        """What to change where the shape of the inputs does not suit a model."""
        settings = self.config.dataset.as_config()
        shaping = [f"dataset.{key}" for key in settings if key in SHAPING and self.spec.inputs == "image"]
        return "".join(f"change {key} or " for key in shaping) + "choose another model"

    def model(self, loss: object = None) -> nn.Module:
        """The model for a loss, initialized, on the device; the same bits each time."""
        config, component = self.config, self.config.model
        self.calls.now = "loss"
        width = getattr(loss, "output_size", self.spec.output_size)
        self.calls.now = "model"
        seed_global(config.run.seed, "model")
        inputs = f"the inputs of {name_of(config.dataset)}, of shape {self.spec.input_shape}"
        with building(component, inputs, f"; {self.shape_remedy}"):
            model = component.build(self.spec.with_output(width))
        if not isinstance(model, nn.Module):
            raise PluginError(f"{component.entry} must give an nn.Module, it gives {type(model).__name__}")
        tensors = (*model.named_parameters(), *model.named_buffers())
        if lazy := [name for name, tensor in tensors if is_lazy(tensor)]:
            raise PluginError(
                f"{component.entry} must give a model whose tensors have sizes, and {listing(lazy)} have none yet: "
                "take them from spec.input_shape, or send zeros of that shape through the model in its constructor"
            )
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise IncompatibleError(f"{name_of(component)} has no parameters to train; choose another model")
        model = model.to(self.device)
        if self.initializes:
            seed_global(config.run.seed, "initializer")
            with torch.no_grad(), building(config.initializer, name_of(component)):
                config.initializer.build(model)
        return model

    def loss(self) -> Any:
        """The loss, on the device; it comes before the model, whose output it may want to be wider."""
        component = self.config.loss
        self.calls.now = "loss"
        seed_global(self.config.run.seed, "loss")
        with building(component, name_of(self.config.dataset)):
            loss = component.build(self.spec)
        if not callable(loss):
            raise PluginError(
                f"{component.entry} must give a callable (scores, targets), it gives {type(loss).__name__}"
            )
        # A loss that can give one value a sample does so where samples have weights.
        if self.has_weights and getattr(loss, "reduction", None) == "mean":
            loss.reduction = "none"
        return loss.to(self.device) if isinstance(loss, nn.Module) else loss

    def trainer(self, model: nn.Module, loss: Any) -> Trainer:
        """A trainer over a model and a loss, with everything else built anew."""
        config = self.config
        self.calls.now = "loss"
        whole = {label for label, each in config.metrics.items() if POSITIONS in each.entry.component.accepts}
        objective = Objective(
            model,
            loss,
            self.device,
            calls=self.calls,
            autocast=self._autocast(),
            pairs=self.spec.target == "similarity",
            positions=self.spec.target_form == POSITIONS,
            whole=frozenset(whole if self.spec.positions else ()),
            own_units=own_units(self.spec) if self.spec.target_std else None,
        )
        optimizer = build_optimizer(config, model, loss, self.calls)
        asked = needs(config, optimizer)
        return Trainer(
            objective,
            optimizer,
            self.scheduler(optimizer),
            self.loaders["fit"],
            {split: loader for split, loader in self.loaders.items() if split != "fit"},
            config.trainer,
            train_metrics=self._metrics(),
            eval_metrics=self._metrics(),
            callbacks=self._callbacks(),
            needs_closure="closure" in asked,
            create_graph="create-graph" in asked,
        )

    def trial(self, model: nn.Module, loss: Any, memory_format: str) -> Trainer:
        """A trainer over copies, on which anything can be tried; where no copy can be had, over parts built anew."""
        self.calls.now = "model"
        try:
            copies = copy.deepcopy((model, loss))
        except Exception as error:
            if is_memory_error(error):
                raise
            loss = self.loss()
            copies = (self.model(loss), loss)
        return self.trainer(to_memory_format(copies[0], memory_format), copies[1])

    def scheduler(self, optimizer: torch.optim.Optimizer) -> Scheduler:
        """The scheduler of an optimizer, for all steps of the run."""
        component = self.config.scheduler
        self.calls.now = "scheduler"
        with building(component, f"a run of {count(self.total_steps, 'optimizer step')}"):
            has_rates = all("lr" in group for group in optimizer.param_groups)
            message = (
                f"{name_of(component)} cannot change the learning rate of {name_of(self.config.optimizer)}, whose "
                "param_groups hold no lr"
            )
            with nullcontext() if has_rates else explaining(IncompatibleError, message, "; add --scheduler constant"):
                scheduler: Scheduler = component.build(optimizer, self.total_steps)
        return scheduler

    def _metrics(self) -> dict[str, Metric]:
        metrics: dict[str, Any] = {}
        for label, component in self.config.metrics.items():
            self.calls.now = f"metrics.{label}"
            with building(component, name_of(self.config.dataset)):
                metric = component.build(self.spec)
            metrics[label] = metric.to(self.device) if isinstance(metric, nn.Module) else metric
        return metrics

    def _callbacks(self) -> CallbackList:
        built: dict[str, dict[str, object]] = {"actor": {}, "observer": {}}
        for label, component in _in_order(self.config.callbacks).items():
            if component.entry.component.role == "observer" and not place().speaks:
                continue  # only rank 0 has them
            self.calls.now = f"callbacks.{label}"
            with building(component, f"a run of {count(self.total_steps, 'optimizer step')}"):
                callback, role = component.build(), component.entry.component.role or "observer"
                if wrong := misfit(callback, role):
                    raise PluginError(f"{component.entry} is no callback: {wrong}")
            built[role][label] = callback
        return CallbackList(built["actor"], built["observer"], better=self.better)

    def _autocast(self) -> torch.dtype | None:
        precision = self.config.trainer.precision
        if precision == "bf16" and self.device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise ConfigError(Problem("trainer.precision", f"{self.device} cannot do bf16; use fp16 or fp32"))
        return PRECISIONS[precision]


def to_memory_format(model: nn.Module, name: str) -> nn.Module:
    """The model, with four-dimensional tensors in that order."""
    return model.to(memory_format=MEMORY_FORMATS[name])  # type: ignore[no-any-return, call-overload]  # torch forgets this one


def make_loaders(config: ResolvedConfig, bundle: DataBundle, device: torch.device) -> dict[str, BatchLoader]:
    """Batches of every split for evaluation, in the order of the data set; and those to fit on, under ``"fit"``."""
    loader = config.loader
    reading = loader.model_dump(exclude={"batch_size", "shuffle", "balance", "drop_last"})
    sources = make_sources(bundle.splits, device, **reading, collate=bundle.collate)
    reconstructs = bundle.spec.target == "none"
    loaders = {
        split: BatchLoader(source, batch_size=loader.batch_size, transform=bundle.transform, reconstructs=reconstructs)
        for split, source in sources.items()
    }
    loaders["fit"] = BatchLoader(
        sources["train"],
        batch_size=loader.batch_size,
        seed=config.run.seed,
        shuffle=loader.shuffle,
        drop_last=loader.drop_last,
        transform=bundle.transform,
        augment=bundle.augment,
        reconstructs=reconstructs,
        classes=classes_of(bundle.train, bundle.spec) if loader.balance else None,
    )
    return loaders


def _in_order(callbacks: Mapping[str, ComponentConfig]) -> dict[str, ComponentConfig]:
    """Sorted by what they say of each other in ``before`` and ``after``, ties by label."""
    labels = sorted(callbacks)
    sorter: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(labels, ()))
    for label in labels:
        record = callbacks[label].entry.component
        for other in labels:
            name = callbacks[other].entry.name
            if name in record.after:
                sorter.add(label, other)
            if name in record.before:
                sorter.add(other, label)
    try:
        return {label: callbacks[label] for label in sorter.static_order()}
    except CycleError as error:
        path = " -> ".join(reversed(error.args[1]))
        raise ConfigError(Problem("callbacks", f"each of these must come before the next: {path}; drop one")) from None
