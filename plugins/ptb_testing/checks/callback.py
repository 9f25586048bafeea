"""What a callback owes: an observer changes nothing, an actor loses nothing at a stop and puts back what it borrows."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ptb import NumericalError
from ptb.internals import (
    ACTOR_EVENTS,
    EVENTS,
    ComponentFailed,
    Trainer,
    TrainerSettings,
    decode,
    did_you_mean,
    encode,
    listeners,
    listing,
    model_state,
    one_line,
    restore_snapshot,
    save_checkpoint,
    seed_global,
    take_snapshot,
)
from ptb_testing.case import Case, Kit
from ptb_testing.checks import common
from ptb_testing.checks.in_a_run import fits_a_run, state_survives_a_checkpoint
from ptb_testing.outcome import CheckFailed, Skipped
from ptb_testing.process import differing
from ptb_testing.samples import spec_of
from ptb_testing.trial import LABEL, Trial, component

# Two epochs of three steps, of two batches each; the last batch is smaller.
SAMPLES = 22
SETTINGS = {"epochs": 2, "accumulate": 2, "eval_steps": 2, "monitor": "val/accuracy"}
STOP = 4


def build(case: Case) -> Any:
    """The callback."""
    return case.build()


def use(case: Case) -> Any:
    """The figures and the weights after a run with it."""
    trainer = _fitted(_trial(case).trainer())
    return {"figures": trainer.state.metrics, **model_state(trainer.model)}


def trials(case: Case) -> Iterator[tuple[str, Trial]]:
    """The run that it is tried in."""
    yield "a run of two epochs", _trial(case)


def has_an_event(case: Case) -> None:
    """It has a method for at least one event, and none for an event that it does not get."""
    valid = EVENTS if _is_observer(case) else (*EVENTS, *ACTOR_EVENTS)
    methods = [name for name in dir(case.built) if name.startswith("on_") or name in ACTOR_EVENTS]
    for name in methods:
        if name not in valid:
            raise CheckFailed(
                f"it has {name}, which is no event of an {case.component.component.role}{did_you_mean(name, valid)}; "
                f"there are {', '.join(valid)}"
            )
    if not any(listeners({LABEL: case.built}, event) for event in valid):
        raise CheckFailed(f"it listens to nothing; give it a method for one of {', '.join(valid)}")


def weights_stay_the_same(case: Case) -> None:
    """With an observer, a run ends with the weights and figures that it has without it, to the last bit."""
    if not _is_observer(case):
        raise Skipped("it is an actor")
    ends = []
    for trial in (_trial(case), _trial(case, callbacks={})):
        seed_global(0, "train")
        trainer = _fitted(trial.trainer())
        ends.append({"weights": model_state(trainer.model), "figures": trainer.state.metrics})
    if changed := differing(*ends):
        raise CheckFailed(
            f"with it, the run has other {' and '.join(changed)}: an observer only looks; what changes training is an "
            "actor"
        )


def resumes_exactly(case: Case) -> None:
    """Stopped and saved after any step, a run resumes with a new one as if it had not been stopped, to the last bit."""
    trial = _trial(case)
    whole = _end(case, trial, None)
    for stop in range(whole["train_state"]["step"]):
        if changed := differing(whole, _end(case, trial, stop)):
            raise CheckFailed(
                f"stopped after step {stop} and resumed, the run ends with other {' and '.join(changed)}: keep in "
                "state_dict(), or in plain attributes, what it needs to go on"
            )


def step_is_taken_once(case: Case) -> None:
    """`around_step`, which an actor may have, takes each step once, in one piece or in several."""
    if not listeners({LABEL: case.built}, "around_step"):
        raise Skipped("it has no around_step")
    trainer, steps = _trial(case).trainer(), 0

    def count(*_: Any) -> None:
        nonlocal steps
        steps += 1

    trainer.optimizer.register_step_post_hook(count)
    _fitted(trainer)
    if steps != trainer.state.step:
        raise CheckFailed(f"in {trainer.state.step} calls of around_step the optimizer took {steps} steps")


def evaluation_weights_are_put_back(case: Case) -> None:
    """After `evaluation_weights`, which an actor may have, the weights are those from before it, after an error too."""
    if not listeners({LABEL: case.built}, "evaluation_weights"):
        raise Skipped("it has no evaluation_weights")
    trainer = _fitted(_trial(case).trainer(), STOP)
    before, parameters = encode(model_state(trainer.model)), list(map(id, trainer.model.parameters()))
    for error in (None, InterruptedError()):
        with suppress(InterruptedError), trainer.callbacks.evaluation_weights(trainer):
            if error is not None:
                raise error
        if changed := differing(decode(before), model_state(trainer.model)):
            after = " that ends with an error" if error else ""
            raise CheckFailed(f"after evaluation_weights{after} {listing(changed, 5)} is another than before it")
        if parameters != list(map(id, trainer.model.parameters())):
            raise CheckFailed("after evaluation_weights the parameters are other objects, which no optimizer trains")


def survives_an_error(case: Case) -> None:
    """`on_exception`, which it may have, gets the error that ends a run, and raises nothing itself."""
    if not listeners({LABEL: case.built}, "on_exception"):
        raise Skipped("it has no on_exception")
    trainer = _trial(case).trainer()
    next(trainer.model.parameters()).data.fill_(float("nan"))
    error: NumericalError | None = None
    with _without_failures():
        try:
            trainer.fit()
        except NumericalError as raised:
            error = raised
    if error is None:
        raise CheckFailed("with it, a run does not end where a weight is NaN")
    for actor in trainer.callbacks.actors.values():  # what it raised is not shown there: the first error counts
        try:
            actor.on_exception(trainer, error)  # type: ignore[attr-defined]  # seen above
        except Exception as second:
            raise CheckFailed(f"its on_exception raised {one_line(second)}") from second


KIT = Kit(
    checks=(
        *common.CHECKS,
        has_an_event,
        fits_a_run,
        weights_stay_the_same,
        step_is_taken_once,
        evaluation_weights_are_put_back,
        resumes_exactly,
        survives_an_error,
        state_survives_a_checkpoint,
    ),
    gates=(has_an_event, fits_a_run, step_is_taken_once, evaluation_weights_are_put_back),
    optional=(weights_stay_the_same, step_is_taken_once, evaluation_weights_are_put_back, survives_an_error),
    build=build,
    use=use,
    trials=trials,
    may_draw=True,
)


def _trial(case: Case, **sections: Any) -> Trial:
    """A run of a small convolutional network with batch norm and dropout."""
    model = component("model", "cnn", channels=[4], dropout=0.3)
    sections = {"model": model, "metrics": {"accuracy": component("metric", "accuracy")}, **sections}
    sections["trainer"] = TrainerSettings.model_validate(SETTINGS)
    return Trial.of(case, spec_of(("image", (1, 8, 8)), "class"), train=SAMPLES, **sections)


def _is_observer(case: Case) -> bool:
    return case.component.component.role == "observer"


def _fitted(trainer: Trainer, stop_after: int | None = None) -> Trainer:
    """The trainer, after a run in which every checkpoint is written."""
    with TemporaryDirectory() as folder, _without_failures():
        path = Path(folder)
        trainer.callbacks.attach([], lambda each: save_checkpoint(path, each.state.step, take_snapshot(each), {}))
        trainer.fit(stop_after)
    return trainer


@contextmanager
def _without_failures() -> Iterator[None]:
    """Fails where the core reports what an observer raised, and where an actor raised."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except ComponentFailed as error:
            raise CheckFailed(f"in a run it raised {one_line(error.__cause__ or error)}") from error.__cause__
    for each in caught:
        text = str(each.message)
        if text.startswith(f"callbacks.{LABEL} failed"):
            raise CheckFailed(f"in a run it {text.partition(' ')[2].partition('; ')[0]}")


def _end(case: Case, trial: Trial, stop: int | None) -> dict[str, Any]:
    """The state of a run at its end, stopped after a step or not; without clocks, and without that of an observer."""
    seed_global(0, "train")
    trainer = trial.trainer()
    if stop is not None:
        if stop:
            _fitted(trainer, stop)
        saved = encode(take_snapshot(trainer))
        trainer = trial.trainer()
        restore_snapshot(trainer, decode(saved))
    state = take_snapshot(_fitted(trainer))
    for clock in ("seconds", "epoch_start_time"):
        del state["train_state"][clock]
    if _is_observer(case):
        del state["callbacks"]
    return state
