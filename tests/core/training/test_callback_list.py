"""Who is called when, and with what."""

from contextlib import contextmanager

import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR

from ptb import NumericalError
from ptb.training.callbacks import ACTOR_EVENTS, EVENTS, Callback, listeners


class Writes:
    """Has every event, and writes down which were called."""

    def __init__(self, name, log):
        for event in (*EVENTS, "on_row"):
            setattr(self, event, lambda trainer, *arguments, event=event: log.append(f"{name}.{event}"))


def logged(build, **options):
    log = []

    class Listens(ExponentialLR):
        def on_evaluation(self, metrics, *, monitor, better):
            log.append("scheduler.on_evaluation")
            self.heard = metrics, monitor, better

    trainer = build(
        actors={"a": Writes("a", log), "b": Writes("b", log)},
        observers={"o": Writes("o", log)},
        scheduler=lambda optimizer: Listens(optimizer, 0.9),
        **options,
    )
    trainer.callbacks.attach([Writes("r", log)], lambda trainer: log.append("save"))
    return trainer, log


def all_of(event):
    return [f"{name}.{event}" for name in "abro"]


def test_the_order_of_a_run_with_all_that_can_happen(build):
    trainer, log = logged(build, epochs=1, eval_steps=2, batch_size=4)
    trainer.fit()
    evaluated = ["scheduler.on_evaluation", "a.on_evaluation", "b.on_evaluation"]
    saved = ["save", *all_of("on_checkpoint")]
    assert log == [
        *all_of("on_fit_start"),
        *saved,
        *all_of("on_epoch_start"),
        *all_of("on_step_end"),
        *all_of("on_step_end"),
        *(*evaluated, "r.on_row", "r.on_evaluation", "o.on_evaluation", *saved),
        *all_of("on_step_end"),
        *(*evaluated, "a.on_epoch_end", "b.on_epoch_end", "r.on_row", "r.on_row", "r.on_evaluation", "o.on_evaluation"),
        *("r.on_epoch_end", "o.on_epoch_end", *saved),
        *all_of("on_fit_end"),
    ]
    figures, monitor, better = trainer.scheduler.heard
    assert (monitor, better) == ("val/loss", "lower")
    assert figures == {"val/loss": trainer.state.metrics["val/loss"]}


def test_the_best_is_known_at_the_end_of_an_epoch_and_not_in_the_evaluation_before(build):
    seen = []

    class Sees:
        def on_evaluation(self, trainer, split, metrics):
            seen.append((split, trainer.state.best_step, dict(metrics).keys()))

        def on_epoch_end(self, trainer):
            seen.append((trainer.state.best_step, "val/loss" in trainer.state.metrics))

    build(actors={"sees": Sees()}, epochs=1).fit()
    assert seen == [("val", None, {"loss"}), (3, False)]


def test_every_callback_hears_of_an_exception_even_if_another_raises(build):
    trainer, log = logged(build, splits=())
    trainer.callbacks.actors["a"].on_exception = None
    error = NumericalError("it")
    trainer.callbacks.on_exception(trainer, error)
    assert log == ["a.on_exception", "b.on_exception", "r.on_exception", "o.on_exception"]


def test_on_epoch_start_finds_train_mode_and_is_called_inside_an_epoch_after_a_resume(build, resumed):
    seen = []

    class Sees:
        def on_epoch_start(self, trainer):
            seen.append((trainer.state.epoch_step, trainer.model.training))
            trainer.model.eval()  # norm layers of a frozen model, for example

    trainer = build(actors={"sees": Sees()})
    trainer.fit(stop_after=2)
    assert not trainer.model.training
    later = resumed(build(actors={"sees": Sees()}), trainer.notes.saved[2])
    later.fit()
    assert seen == [(0, True), (2, True), (0, True)]
    assert not later.model.training  # the evaluations have put back what the callback chose


def test_random_numbers_drawn_at_the_start_of_a_fit_or_an_epoch_do_not_move_those_of_the_steps(build):
    class Draws:
        def on_fit_start(self, trainer):
            torch.rand(5)

        on_epoch_start = on_fit_start

    numbers = []
    for actors in ({}, {"draws": Draws()}):
        build(actors=actors).fit()
        numbers.append(torch.rand(3).tolist())
    assert numbers[0] == numbers[1]


def test_checkpoints_are_saved_under_the_labels_that_are_asked_for(build):
    class Asks:
        def on_step_end(self, trainer, output):
            if trainer.state.step in (2, 5):
                trainer.request_checkpoint("mine")

        def on_evaluation(self, trainer, split, metrics):
            if trainer.state.step == 3:
                trainer.request_checkpoint("third")

    trainer = build(actors={"asks": Asks()}, better="higher", checkpoint_every=100)
    trainer.fit(stop_after=2)
    assert trainer.state.labels == {"mine": 2}
    trainer.fit()
    assert sorted(trainer.notes.saved) == [0, 2, 3, 5, 6]
    assert trainer.state.labels == {"mine": 5, "third": 3, "best": 3}
    assert trainer.notes.saved[3].node["train_state"]["labels"] == {"mine": 2, "third": 3, "best": 3}


@pytest.mark.parametrize("label", ["best", "last", "12", "../up", "", "val/loss", "a b"])
def test_a_label_that_no_checkpoint_can_have_is_refused(build, label):
    with pytest.raises(ValueError, match=f"cannot have the label {label!r}: a label is made of letters"):
        build().request_checkpoint(label)


def test_contexts_of_evaluation_weights_lie_inside_each_other(build):
    log = []

    class Weights:
        def __init__(self, name):
            self.name = name

        @contextmanager
        def evaluation_weights(self, trainer):
            log.append(f"enter {self.name}")
            yield
            log.append(f"exit {self.name}")

    trainer = build(actors={"one": Weights("one"), "two": Weights("two")})
    with trainer.callbacks.evaluation_weights(trainer):
        log.append("inside")
    assert log == ["enter one", "enter two", "inside", "exit two", "exit one"]


def test_a_stop_leaves_the_context_of_evaluation_weights_as_usual(build):
    """An actor that does not expect exceptions would leave other weights behind, which would then be saved."""

    class Weights:
        @contextmanager
        def evaluation_weights(self, trainer):
            kept = trainer.model.weight.data
            trainer.model.weight.data = torch.zeros_like(kept)
            trainer.state.should_stop = trainer.state.step > 0
            yield
            trainer.model.weight.data = kept

    trainer = build(actors={"weights": Weights()})
    trainer.fit()
    assert trainer.state.step == 3
    assert trainer.model.weight.any()


def test_actors_around_a_step_lie_inside_each_other(build):
    log = []

    class Around:
        def __init__(self, name):
            self.name = name

        def around_step(self, trainer, step):
            log.append(f"{self.name} {len(step.micro_batches)}")
            step()
            log.append(self.name)

    build(actors={"one": Around("one"), "two": Around("two")}, epochs=1, batch_size=10).fit()
    assert log == ["one 1", "two 1", "two", "one"]


def test_only_methods_that_do_something_are_called():
    class Some(Callback):
        def on_step_end(self, trainer, output): ...

        def on_fit_end(self, trainer):
            super().on_fit_end(trainer)

    some, other = Some(), Callback()
    other.on_epoch_end = lambda trainer: None
    callbacks = {"some": some, "other": other, "none": Callback(), "odd": object()}
    found = {event: [label for label, _ in listeners(callbacks, event)] for event in (*EVENTS, *ACTOR_EVENTS)}
    assert {event: labels for event, labels in found.items() if labels} == {
        "on_step_end": ["some"],
        "on_fit_end": ["some"],
        "on_epoch_end": ["other"],
    }


def test_the_base_class_has_every_event():
    assert {name for name in vars(Callback) if name.startswith("on_")} == set(EVENTS)


@pytest.mark.parametrize("values", ["nan", "inf"])
def test_a_validation_loss_that_is_not_finite_is_recorded_and_stops_the_run_unsaved(build, values):
    def loss(scores, targets):
        return torch.nn.functional.cross_entropy(scores, targets) * (1 if torch.is_grad_enabled() else float(values))

    trainer = build(loss=loss)
    with pytest.raises(NumericalError, match=f"the validation loss is {values} after step 3"):
        trainer.fit()
    assert [row[:3] for row in trainer.notes.rows] == [(3, 1, "train"), (3, 1, "val")]
    assert sorted(trainer.notes.saved) == [0]


@pytest.mark.parametrize("every", [0, 1], ids=["each epoch", "each step"])
def test_weights_that_a_step_makes_infinite_are_never_saved(build, every):
    class Breaks:
        def on_step_end(self, trainer, output):
            trainer.model.weight.data[0, 0] = float("inf")

    trainer = build(actors={"breaks": Breaks()}, checkpoint_every=every, epochs=1, batch_size=10, splits=())
    with pytest.raises(NumericalError, match=r"weights are not finite after step 1 \(weight\).* learning rate is 0\.1"):
        trainer.fit()
    assert sorted(trainer.notes.saved) == [0]
