"""The callbacks of a training, and everything that happens between two steps, in its fixed order.

A step ends with ``on_step_end`` of actors, recorders and observers; ``_settle`` has the order of what follows where
something is due, and at the end of an epoch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptb.seeding import preserve_rng_state
from ptb.training.callbacks import ACTOR_EVENTS, EVENTS, Listeners, listeners
from ptb.training.evaluation import MetricsRow, epoch_rows, evaluate_row, is_due, update_best
from ptb.training.finite import check_rows, check_same_weights, check_weights
from ptb.training.observers import Observers
from ptb.training.optimizers import evaluation_mode, with_modes
from ptb.training.state import component_state

if TYPE_CHECKING:
    from ptb.training.step import StepOutput
    from ptb.training.trainer import Trainer


class CallbackList:
    """Actors and observers by label, in the order in which they are called; ``better`` is that of the monitor."""

    def __init__(
        self,
        actors: Mapping[str, object] | None = None,
        observers: Mapping[str, object] | None = None,
        *,
        better: str = "lower",
    ) -> None:
        self.actors = dict(actors or {})
        self.observers = Observers(observers or {})
        self._better = better
        by_section = {f"callbacks.{label}": actor for label, actor in self.actors.items()}
        # Where nobody listens, a list is empty, and a step pays nothing.
        self.actor_methods = {event: listeners(by_section, event) for event in (*EVENTS, *ACTOR_EVENTS)}
        self.attach([], None)

    def attach(self, recorders: Sequence[object], saver: Callable[["Trainer"], Path] | None) -> None:
        """Add what records the run.

        Args:
            recorders: of the core: they get the training itself, and write the rows before observers are called. Beside
                the events of callbacks they may have ``on_row(trainer, row)``.
            saver: saves the training and returns the file; None saves nothing.
        """
        self._saver = saver
        # Without a section: no component is to blame for an error of the core.
        self._watchers = {
            event: [pair for recorder in recorders for pair in listeners({"": recorder}, event)]
            for event in (*EVENTS, "on_row")
        }
        for event in EVENTS:
            if observing := listeners(self.observers.components, event):
                self._watchers[event].append(("", partial(self.observers.notify, event, observing)))

    def components(self) -> dict[str, object]:
        """All callbacks that are components, by label."""
        return self.actors | self.observers.components

    def state_dict(self, trainer: "Trainer") -> dict[str, Any]:
        """The state of each by its label."""
        states = {}
        for label, actor in self.actors.items():
            trainer.calls.now = f"callbacks.{label}"
            states[label] = component_state(actor)
        return states | self.observers.state_dict(trainer)

    def on_fit_start(self, trainer: "Trainer") -> None:
        """Begin with a checkpoint; after a stop, do what was still owed: the evaluation and checkpoint of that step."""
        # A resumed run comes here again. What is drawn here must not move the random numbers of its steps.
        with preserve_rng_state():
            self._call_all("on_fit_start", trainer)
        state = trainer.state
        if trainer.saved_step is None:
            self.save(trainer)
        elif state.last_event_step < state.step and state.epoch_step:
            self._end_step(trainer)
        elif state.last_event_step < state.step:
            self.on_epoch_end(trainer)

    def on_epoch_start(self, trainer: "Trainer") -> None:
        """The model is in train mode, also after a stop inside the epoch."""
        with preserve_rng_state():
            self._call_all("on_epoch_start", trainer)

    def on_step_end(self, trainer: "Trainer", output: "StepOutput") -> None:
        """An optimizer step is done."""
        self._call_all("on_step_end", trainer, output)
        self._end_step(trainer)

    def on_epoch_end(self, trainer: "Trainer") -> None:
        """Evaluate, choose the best, record, save."""
        self._settle(trainer, epoch_rows(trainer), epoch_ends=True)

    def on_fit_end(self, trainer: "Trainer") -> None:
        """Training has come to its end."""
        self._call_all("on_fit_end", trainer)

    def on_exception(self, trainer: "Trainer", error: BaseException) -> None:
        """Training fails with an error; what callbacks raise now would only hide it."""
        for listener in (*self.actor_methods["on_exception"], *self._watchers["on_exception"]):
            with suppress(Exception, SystemExit):
                _call([listener], trainer, error)

    def save(self, trainer: "Trainer") -> None:
        """Save the training as it is now, under the labels that were asked for."""
        check_weights(trainer)
        state = trainer.state
        check_same_weights(trainer)
        if trainer.objective.processes is not None:
            trainer.train_metrics.flush()  # what waits in other processes would be lost
        state.labels |= dict.fromkeys(trainer.requested_labels, state.step)
        trainer.requested_labels.clear()
        trainer.saved_step = state.step
        if self._saver is not None:
            self._call_all("on_checkpoint", trainer, self._saver(trainer))

    def change_weights(self, trainer: "Trainer") -> bool:
        """Whether the weights that are evaluated and saved may be others than those that are trained."""
        return bool(self.actor_methods["evaluation_weights"] or with_modes(trainer.optimizer))

    @contextmanager
    def evaluation_weights(self, trainer: "Trainer") -> Iterator[None]:
        """Inside it, the model has the weights to evaluate and save: those of the optimizer, or of actors."""
        with ExitStack() as stack:
            trainer.calls.now = "optimizer"
            # Before the first step both modes have the same weights, and some eval() wants a state.
            if with_modes(trainer.optimizer) and trainer.state.step:
                stack.enter_context(evaluation_mode(trainer.optimizer))
            for section, method in self.actor_methods["evaluation_weights"]:
                stack.enter_context(_blamed(trainer, section, method))
            yield

    def call_actors(self, event: str, trainer: "Trainer", *arguments: Any) -> None:
        """One event for the actors alone."""
        _call(self.actor_methods[event], trainer, *arguments)

    def _call_all(self, event: str, trainer: "Trainer", *arguments: Any) -> None:
        _call(self.actor_methods[event], trainer, *arguments)
        _call(self._watchers[event], trainer, *arguments)

    def _end_step(self, trainer: "Trainer") -> None:
        """What is due inside an epoch; at the end of one all is done together."""
        state = trainer.state
        evaluates = is_due(state.step, trainer.settings.eval_steps) and "val" in trainer.eval_loaders
        if (evaluates or self._save_is_due(trainer)) and not trainer.epoch_is_over:
            self._settle(trainer, [evaluate_row(trainer, state.epoch + 1)] if evaluates else [])

    def _settle(self, trainer: "Trainer", rows: Sequence[MetricsRow], *, epoch_ends: bool = False) -> None:
        """Act on new figures, record them, save. The rows of an evaluation that was stopped never come here."""
        state, settings = trainer.state, trainer.settings
        for row in rows:
            if row.split != "train":
                self._react(trainer, row)
            update_best(trainer, row, self._better)
        if epoch_ends:
            if 0 < settings.patience <= state.evals_since_best:
                state.stopped_early = True
            self.call_actors("on_epoch_end", trainer)
        for row in rows:
            state.metrics |= row.named_values
            state.rows_logged += 1
            _call(self._watchers["on_row"], trainer, row)
        # Only now, so that the rows show the loss that ends the run.
        check_rows(rows)
        for row in rows:
            if row.split != "train":
                _call(self._watchers["on_evaluation"], trainer, row.split, row.values)
        # A run that is stopped before this line does all of the above again when it resumes.
        state.last_event_step = state.step
        if epoch_ends:
            _call(self._watchers["on_epoch_end"], trainer)
        last = epoch_ends and (settings.checkpoint_every == 0 or trainer.is_over)
        if last or self._save_is_due(trainer):
            self.save(trainer)

    def _react(self, trainer: "Trainer", row: MetricsRow) -> None:
        """The scheduler, if it listens, and the actors on new figures; observers come after the rows."""
        # A scheduler need not have it, and those of torch do not.
        if react := getattr(trainer.scheduler, "on_evaluation", None):
            trainer.calls.now = "scheduler"
            react(row.named_values, monitor=trainer.settings.monitor, better=self._better)
        self.call_actors("on_evaluation", trainer, row.split, dict(row.values))

    def _save_is_due(self, trainer: "Trainer") -> bool:
        return bool(trainer.requested_labels) or is_due(trainer.state.step, trainer.settings.checkpoint_every)


def _call(listeners: Listeners, trainer: "Trainer", *arguments: Any) -> None:
    for section, method in listeners:
        trainer.calls.now = section
        method(trainer, *arguments)
    trainer.calls.now = ""


@contextmanager
def _blamed(
    trainer: "Trainer", section: str, method: Callable[["Trainer"], AbstractContextManager[object]]
) -> Iterator[None]:
    """The context of an actor, which is blamed for what it raises at its beginning and its end."""
    trainer.calls.now = section
    with method(trainer):
        yield
        trainer.calls.now = section
