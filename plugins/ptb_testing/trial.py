"""Small runs that a component takes part in: composed, trained, stopped and resumed by the code of every run."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch.utils.data import StackDataset, TensorDataset

from ptb import DataBundle, DataSpec, PtbError, Registry, RunConfig
from ptb.internals import (
    BUILT_IN,
    KINDS,
    Batch,
    ComponentConfig,
    ComposedRun,
    Objective,
    PartialConfig,
    Trainer,
    compose,
    decode,
    drop_unsavable,
    encode,
    find_plugins,
    lost_state,
    one_line,
    resolve,
    restore_snapshot,
    save_checkpoint,
    seed_global,
    take_snapshot,
    validate,
)
from ptb_testing.case import Case
from ptb_testing.outcome import CheckFailed
from ptb_testing.samples import Reference, inputs_of, targets_of
from ptb_testing.subject import loaded

CPU = torch.device("cpu")
LABEL = "tried"
BATCH = 12
TRAIN, VAL = 34, 22  # samples: three batches in an epoch, the last one smaller
STOPS = (4,)  # in the middle of the second of two epochs
SETTINGS = {"epochs": 2, "eval_steps": 2}


@dataclass(frozen=True)
class Made(ComponentConfig):
    """What the kit makes itself in the place of a built-in component."""

    make: Callable[..., Any]

    def build(self, *runtime: Any, **_: Any) -> Any:
        """What ``make`` makes."""
        return self.make(*runtime)


@dataclass
class Trial:
    """A small run: everything but the component that is tried is the kit's or built in, and as plain as can be.

    Args:
        what: the component is tried on, for messages.
        spec: of the samples.
        partial: the run.
        section: of the run, where the component stands.
        stops: the steps after which the run is stopped and resumed.

    Attributes:
        end: weights and figures at the end of the run that was not stopped.
        lost: what its components would lose at a stop, by their sections.
        warned: of parameters that no gradient reaches.
    """

    what: str
    spec: DataSpec
    partial: PartialConfig
    section: str
    stops: tuple[int, ...] = STOPS
    end: dict[str, Any] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    warned: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        case: Case,
        what: str,
        spec: DataSpec,
        *,
        train: int = TRAIN,
        stops: tuple[int, ...] = STOPS,
        section: str = "",
        **sections: Any,
    ) -> "Trial":
        """A run with the component of a case.

        Args:
            case: the component.
            what: it is tried on.
            spec: of the samples, which are the kit's unless the case is a data set.
            train: how many there are to train on.
            stops: the steps after which the run is stopped and resumed.
            section: where the component stands, if that is not the one of its kind.
            sections: of the run that are not the plain ones.
        """
        kind = KINDS[case.kind]
        named = f"{kind.section}.{LABEL}" if kind.labelled else kind.section
        tried = {} if section else {kind.section: {LABEL: case.config} if kind.labelled else case.config}
        plain = _plain_run()
        if case.kind != "dataset":
            bundle = DataBundle(spec, samples_of(spec, train), samples_of(spec, VAL))
            sections["dataset"] = Made(plain.dataset.entry, plain.dataset.settings, lambda: bundle)
        if "trainer" in sections:
            sections["trainer"] = plain.trainer.model_copy(update=sections["trainer"])
        if "loader" in sections:
            sections["loader"] = plain.loader.model_copy(update=sections["loader"])
        return cls(what, spec, replace(plain, **(tried | sections)), section or named, stops)

    def compose(self, seed: int = 0) -> ComposedRun:
        """The run, built anew and checked before its first step."""
        run = self.partial.run.model_copy(update={"seed": seed})
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            composed = compose(replace(self.partial, run=run))
        self.warned = [str(each.message) for each in caught if "no gradient reaches" in str(each.message)]
        return composed

    def run(self, stop: int | None = None) -> dict[str, Any]:
        """Weights and figures at the end of the run, stopped after a step and resumed, or not.

        Raises:
            PtbError: it is refused before its first step, or its numbers are not finite.
            CheckFailed: a component raises while it trains.
        """
        with closing(self.compose()) as composed:
            self.lost = composed.lost_state
            seed_global(0, "train")
            if stop != 0:
                self.fit(composed.trainer, stop)
            if stop is None:
                return _end(composed.trainer)
            saved = encode(_snapshot(composed.trainer))
        with closing(self.compose()) as composed:
            restore_snapshot(composed.trainer, decode(saved))
            self.fit(composed.trainer)
            return _end(composed.trainer)

    def fit(self, trainer: Trainer, stop: int | None = None) -> Trainer:
        """Trains; every checkpoint is made, and the first one is written.

        Raises:
            NumericalError: its numbers are not finite.
            CheckFailed: a component raises.
        """
        with TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer.callbacks.attach([], partial(_save, Path(folder)))
            try:
                trainer.fit(stop)
            except PtbError:
                raise
            except (Exception, SystemExit) as error:  # a component may raise anything
                what = f"{trainer.calls.now} raised" if trainer.calls.now else "saving it raised"
                raise CheckFailed(f"in a run, {what} {_with_hint(one_line(error))}") from error
            finally:
                self._check_observer(caught)
        return trainer

    def _check_observer(self, caught: Sequence[warnings.WarningMessage]) -> None:
        """Fails where the core reports what an observer raised."""
        for each in caught:
            if str(each.message).startswith(f"{self.section} failed"):
                raise CheckFailed(f"in a run it {_with_hint(str(each.message).partition(' ')[2].partition('; ')[0])}")

    def lost_with_another_seed(self) -> str:
        """What the component would lose if the run that loads its state had been built with another seed."""
        with closing(self.compose()) as composed, closing(self.compose(seed=1)) as other:
            batch = composed.trainer.train_loader.first_batch()
            composed.trainer.try_step([batch])
            names = dict.fromkeys(self.partial.components() | {"loss": None}, "it")
            names |= {f"metrics.{label}": "it" for label in composed.trainer.eval_metrics}
            return lost_state(composed.trainer, other.trainer, [batch], names).get(self.section, "")

    def sample(self) -> "Sample":
        """The first samples, as a run has them, which is built anew for it."""
        with closing(self.compose()) as composed:
            return Sample.of(composed.trainer.objective, composed.trainer.train_loader.first_batch(TRAIN))

    @cached_property
    def samples(self) -> "Sample":
        """The same, for those who change nothing in it."""
        return self.sample()


class Sample(NamedTuple):
    """A model and a loss as a run calls them, a batch, and what the model makes of it."""

    objective: Objective
    outputs: Any
    batch: Batch

    @classmethod
    def of(cls, objective: Objective, batch: Batch) -> "Sample":
        """That of a batch, without gradients."""
        with torch.no_grad():
            return cls(objective, objective.forward(batch.inputs), batch)


@contextmanager
def refused() -> Iterator[None]:
    """Turns an error that would end a run into a failed check."""
    try:
        yield
    except PtbError as error:
        raise CheckFailed(str(error)) from (error.__cause__ or error)


def samples_of(spec: DataSpec, count: int) -> Any:
    """Samples of the kit, held in memory."""
    inputs = inputs_of(spec, count)
    held = StackDataset(**inputs) if spec.fields else TensorDataset(inputs)
    if spec.target == "none":
        return held
    targets = targets_of(spec, count)
    return StackDataset(held, targets) if spec.fields else TensorDataset(inputs, targets)  # type: ignore[arg-type]


def component(kind: str, name: str, **settings: Any) -> ComponentConfig:
    """A built-in component, as a configuration has it."""
    entry = built_in().get(kind, name)
    return ComponentConfig(entry, validate(entry.settings_model(), settings))


def made(kind: str, make: Callable[..., Any]) -> Made:
    """What the kit makes itself, in the place of a component of this kind."""
    plain = getattr(_plain_run(), kind)
    return Made(plain.entry, plain.settings, make)


@cache
def built_in() -> Registry:
    """The built-in components alone, whatever else is installed."""
    return Registry([loaded(found) for found in find_plugins() if found.name == BUILT_IN])


@cache
def _plain_run() -> PartialConfig:
    config = RunConfig(
        optimizer={"name": "sgd", "lr": 0.01},
        model={"name": "linear"},
        scheduler={"name": "constant"},
        loader={"batch_size": BATCH, "shuffle": False},
        trainer=SETTINGS,
        device="cpu",
        threads=1,
    )
    plain = resolve(config, built_in())
    return replace(plain, model=Made(plain.model.entry, plain.model.settings, Reference), metrics={})


def _with_hint(text: str) -> str:
    """What a component raised, and why where it looks for the run directory."""
    looks = "'NoneType' object has no attribute" in text
    return f"{text}; trainer.run is None where nothing is recorded, as in the small runs of the kit" if looks else text


def _snapshot(trainer: Trainer) -> dict[str, Any]:
    """All of a training, as it is saved: without what observers have that no checkpoint can hold."""
    state = take_snapshot(trainer)
    drop_unsavable(state, trainer)
    return state


def _save(folder: Path, trainer: Trainer) -> Path:
    """Writes the first checkpoint into a folder; of the others it makes what would be written."""
    state = _snapshot(trainer)
    if not any(folder.iterdir()):
        return save_checkpoint(folder, trainer.state.step, state, {})
    encode(state)
    return folder


def _end(trainer: Trainer) -> dict[str, Any]:
    """Weights, figures and counters; without clocks."""
    state = take_snapshot(trainer)
    clocks = ("seconds", "epoch_start_time")
    counters = {name: value for name, value in state["train_state"].items() if name not in clocks}
    return {"weights": state["model"], "training weights": state["training_weights"], "figures": counters}
