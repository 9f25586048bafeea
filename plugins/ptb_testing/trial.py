"""Small runs that a component takes part in, put together by the code that puts every run together."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from ptb import ConfigError, DataBundle, DataError, DataSpec, NumericalError, PluginError, Registry, RunConfig
from ptb.internals import (
    BUILT_IN,
    KINDS,
    Assembly,
    Batch,
    ComponentConfig,
    Preflight,
    ResolvedConfig,
    Trainer,
    find_plugins,
    lost_state,
    make_loaders,
    preserve_rng_state,
    resolve,
    validate,
)
from ptb_testing.case import Case
from ptb_testing.outcome import CheckFailed
from ptb_testing.samples import inputs_of, targets_of
from ptb_testing.subject import loaded

CPU = torch.device("cpu")
LABEL = "tried"
BATCH = 4
TRAIN, VAL = 12, 8  # samples


@dataclass(frozen=True)
class Trial:
    """A small run: everything but the component that is tried is built in, and as plain as can be.

    Args:
        assembly: builds it.
        section: of the configuration, where the component stands.
    """

    assembly: Assembly
    section: str

    @classmethod
    def of(cls, case: Case, spec: DataSpec, train: int = TRAIN, **sections: Any) -> "Trial":
        """A run with the component of a case, on samples of the kit.

        Args:
            case: a model, a loss, an optimizer, a scheduler, a metric or a callback.
            spec: of the samples.
            train: how many there are to train on.
            sections: others of the resolved configuration that are not the plain ones.
        """
        kind = KINDS[case.kind]
        tried = {kind.section: {LABEL: case.config} if kind.labelled else case.config}
        config = replace(_plain_run(spec.inputs, spec.target_form, bool(spec.positions)), **(tried | sections))
        samples, val = (TensorDataset(*_sample_tensors(spec, size)) for size in (train, VAL))
        bundle = DataBundle(spec, samples, val)
        assembly = Assembly(config, bundle, CPU, "lower", make_loaders(config, bundle, CPU))
        return cls(assembly, f"{kind.section}.{LABEL}" if kind.labelled else kind.section)

    @property
    def batch(self) -> Batch:
        """The first training samples."""
        return self.assembly.loaders["fit"].first_batch(BATCH)

    def trainer(self, model: nn.Module | None = None, seed: int = 0) -> Trainer:
        """A trainer with everything built anew, but a model that is given, as in a run with this seed.

        The global random state is as before afterwards.
        """
        config = self.assembly.config
        config = replace(config, run=config.run.model_copy(update={"seed": seed}))
        assembly = replace(self.assembly, config=config)
        with refused(), preserve_rng_state():
            loss = assembly.loss()
            return assembly.trainer(model or assembly.model(loss), loss)

    def check(self) -> Trainer:
        """What ``ptb run`` checks before the first step; the trainer that has taken one for it.

        Raises:
            CheckFailed: the run would be refused.
        """
        made = self.trainer()
        with refused(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            preflight = Preflight(self.assembly, made.model, made.objective.loss, torch.contiguous_format)
            preflight.check_forward()
            preflight.check_step()
        for each in caught:
            if "no gradient reaches" in str(each.message):
                raise CheckFailed(str(each.message))
        return preflight.trainer

    def lost(self, trainer: Trainer) -> str:
        """What a checkpoint of this training would lose, found with one that began with another seed; or nothing."""
        names = {section: "it" if section == self.section else section for section in self.assembly.config.components()}
        lost = lost_state(trainer, self.trainer(seed=1), [self.batch], names)
        return lost.get(self.section) or next(iter(lost.values()), "")


@contextmanager
def refused() -> Iterator[None]:
    """Turns an error that would end a run into a failed check."""
    try:
        yield
    except (ConfigError, DataError, NumericalError, PluginError) as error:
        raise CheckFailed(str(error)) from (error.__cause__ or error)


def component(kind: str, name: str, **settings: Any) -> ComponentConfig:
    """A built-in component, as a configuration has it."""
    entry = built_in().get(kind, name)
    return ComponentConfig(entry, validate(entry.settings_model(), settings))


@cache
def built_in() -> Registry:
    """The built-in components alone, whatever else is installed."""
    return Registry([loaded(found) for found in find_plugins() if found.name == BUILT_IN])


def _sample_tensors(spec: DataSpec, count: int) -> tuple[Tensor, ...]:
    """Inputs and targets; inputs alone where they are the targets."""
    inputs = inputs_of(spec, count)
    return (inputs,) if spec.target == "none" else (inputs, targets_of(spec, count))


def _plain_model(inputs: str, positions: bool) -> dict[str, Any]:
    """A small model for these inputs, and targets at each position if there are some."""
    if positions:
        return {"name": "unet", "depth": 1, "width": 4} if inputs == "image" else {"name": "rnn", "hidden": 8}
    return {"name": "embedding-bag" if inputs == "tokens" else "linear"}


@cache
def _plain_run(inputs: str, target: str, positions: bool) -> ResolvedConfig:
    config = RunConfig(
        model=_plain_model(inputs, positions),
        optimizer={"name": "sgd", "lr": 0.01},
        scheduler={"name": "constant"},
        loader={"batch_size": BATCH},
        trainer={"epochs": 2},
        device="cpu",
    )
    return replace(resolve(config, built_in()).with_target(target), metrics={})
