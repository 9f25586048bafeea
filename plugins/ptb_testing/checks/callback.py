"""What a callback owes: an observer changes nothing, an actor loses nothing at a stop and puts back what it borrows."""

from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

from ptb import InputSpec, NumericalError
from ptb.internals import (
    ACTOR_EVENTS,
    EVENTS,
    Trainer,
    decode,
    encode,
    listeners,
    listing,
    misfit,
    model_state,
    one_line,
    seed_global,
)
from ptb_testing.case import Case, Kit
from ptb_testing.checks import common
from ptb_testing.outcome import CheckFailed, Skipped
from ptb_testing.process import differing
from ptb_testing.samples import spec_of
from ptb_testing.trial import LABEL, Trial, component

# Three epochs of three steps, of two batches each; the last batch is smaller.
SETTINGS = {"epochs": 3, "accumulate": 2, "eval_steps": 2, "monitor": "val/accuracy"}
STOPS = (0, 1, 3, 4, 5, 8)


def trials(case: Case) -> Iterator[Trial]:
    """A run of a small convolutional network with batch norm and dropout, stopped in and between epochs."""
    yield _trial(case)


def has_an_event(case: Case) -> None:
    """It has a method for at least one event, and none for an event that it does not get."""
    built = case.build()
    if wrong := misfit(built, case.component.component.role):
        raise CheckFailed(wrong)
    if not any(listeners({LABEL: built}, event) for event in (*EVENTS, *ACTOR_EVENTS)):
        raise CheckFailed(f"it listens to nothing; give it a method for one of {', '.join(EVENTS)}")


def weights_stay_the_same(case: Case) -> None:
    """With an observer, a run ends with the weights and figures that it has without it, to the last bit."""
    if not _is_observer(case):
        raise Skipped("it is an actor")
    ends = []
    for trial in (case.tried[0], _trial(case, callbacks={})):
        seed_global(0, "train")
        trainer = _fitted(trial)
        ends.append({"weights": model_state(trainer.model), "figures": trainer.state.metrics})
    if changed := differing(*ends):
        raise CheckFailed(
            f"with it, the run has other {' and '.join(changed)}: an observer only looks; what changes training is an "
            "actor"
        )


def step_is_taken_once(case: Case) -> None:
    """`around_step`, which an actor may have, takes each step once, in one piece or in several."""
    if not listeners({LABEL: case.build()}, "around_step"):
        raise Skipped("it has no around_step")
    steps = 0

    def count(*_: Any) -> None:
        nonlocal steps
        steps += 1

    with closing(case.tried[0].compose()) as composed:
        trainer = composed.trainer
        trainer.optimizer.register_step_post_hook(count)
        case.tried[0].fit(trainer)
    if steps != trainer.state.step:
        raise CheckFailed(f"in {trainer.state.step} calls of around_step the optimizer took {steps} steps")


def evaluation_weights_are_put_back(case: Case) -> None:
    """After `evaluation_weights`, which an actor may have, the weights are those from before it, after an error too."""
    if not listeners({LABEL: case.build()}, "evaluation_weights"):
        raise Skipped("it has no evaluation_weights")
    trainer = _fitted(case.tried[0], 4)
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


def saves_what_is_evaluated(case: Case) -> None:
    """The figures of an epoch are those of the weights that are saved at its end, so that the best is the best."""
    if _is_observer(case):
        raise Skipped("it is an observer")
    trainer = _fitted(case.tried[0])
    then = {name: value for name, value in trainer.state.metrics.items() if name.startswith("val/")}
    now = {f"val/{name}": value for name, value in trainer.evaluate("val").items()}
    if changed := differing(then, now):
        figure = changed[0]
        raise CheckFailed(
            "it changes the weights between their evaluation and the checkpoint: as they were evaluated, "
            f"{figure} was {then[figure]:.6g}; as they are saved, it is {now[figure]:.6g}; on_evaluation and "
            "on_epoch_end are too late for a change, on_step_end is not"
        )


def survives_an_error(case: Case) -> None:
    """`on_exception`, which it may have, gets the error that ends a run, and raises nothing itself."""
    if not listeners({LABEL: case.build()}, "on_exception"):
        raise Skipped("it has no on_exception")
    error: NumericalError | None = None
    with closing(case.tried[0].compose()) as composed:
        trainer = composed.trainer
        next(trainer.model.parameters()).data.fill_(float("nan"))
        try:
            case.tried[0].fit(trainer)
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
        weights_stay_the_same,
        step_is_taken_once,
        evaluation_weights_are_put_back,
        saves_what_is_evaluated,
        survives_an_error,
    ),
    optional=(
        weights_stay_the_same,
        step_is_taken_once,
        evaluation_weights_are_put_back,
        saves_what_is_evaluated,
        survives_an_error,
    ),
    notes=(
        has_an_event,
        step_is_taken_once,
        evaluation_weights_are_put_back,
        saves_what_is_evaluated,
        survives_an_error,
    ),
    trials=trials,
    may_draw=True,
)


def _trial(case: Case, **sections: Any) -> Trial:
    plain: dict[str, Any] = {
        "model": component("model", "cnn", channels=[4], dropout=0.3),
        "metrics": {"accuracy": component("metric", "accuracy")},
        "trainer": SETTINGS,
        "loader": {"batch_size": 4},
    }
    spec = spec_of(InputSpec((1, 8, 8), "image"), "class")
    return Trial.of(case, "a run of three epochs", spec, train=22, stops=STOPS, **(plain | sections))


def _is_observer(case: Case) -> bool:
    return case.component.component.role == "observer"


def _fitted(trial: Trial, stop: int | None = None) -> Trainer:
    """The trainer of a run, built anew, after it."""
    with closing(trial.compose()) as composed:
        return trial.fit(composed.trainer, stop)
