"""The callbacks of a training, in the order in which they are called.

A step ends with ``on_step_end`` of actors, recorders and observers. Then, where something is due and at the end of an
epoch: evaluation, the scheduler and the actors on its figures, best and patience, ``on_epoch_end`` of the actors,
metrics rows, recorders and observers, checkpoint, ``on_checkpoint``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptb.seeding import preserve_rng_state
from ptb.training.callbacks import ACTOR_EVENTS, EVENTS, listeners
from ptb.training.evaluation import MetricsRow, epoch_rows, evaluate_row, is_due, update_best
from ptb.training.finite import check_rows, check_weights
from ptb.training.observers import Observers
from ptb.training.state import component_state

if TYPE_CHECKING:
    from ptb.training.step import StepOutput
    from ptb.training.trainer import Trainer

Saver = Callable[["Trainer"], Path]
Listeners = list[tuple[str, Callable[..., Any]]]
"""Methods, each with the section of its component; that of the core is empty."""


class CallbackList:
    """The callbacks of a training in their order.

    Args:
        actors: by label, in the order in which they are called.
        observers: by label, in the order in which they are called.
        better: whether a ``"lower"`` or a ``"higher"`` monitored figure is better.
    """

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
        self._actors: dict[str, Listeners] = {event: listeners(by_section, event) for event in (*EVENTS, *ACTOR_EVENTS)}
        self.attach([], None)

    def attach(self, recorders: Sequence[object], saver: Saver | None) -> None:
        """Add what records the run.

        Args:
            recorders: of the core: they get the training itself, and write the rows before observers are called. Beside
                the events of callbacks they may have ``on_row(trainer, row)``.
            saver: saves the training and returns the file; None saves nothing.
        """
        self._saver = saver
        self._watchers: dict[str, Listeners] = {}
        numbered = {str(number): recorder for number, recorder in enumerate(recorders)}
        for event in (*EVENTS, "on_row"):
            self._watchers[event] = [("", method) for _, method in listeners(numbered, event)]
            # Where nobody listens, a step pays nothing.
            if self.observers.methods.get(event):
                self._watchers[event].append(("", partial(self.observers.notify, event)))

    @property
    def around_step(self) -> Listeners:
        """The actors that take part in a step, the outermost first."""
        return self._actors["around_step"]

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
        state, settings = trainer.state, trainer.settings
        rows = epoch_rows(trainer)
        self._judge(trainer, rows)
        if 0 < settings.patience <= state.evals_since_best:
            state.stopped_early = True
        self._call(self._actors["on_epoch_end"], trainer)
        self._record(trainer, rows)
        self._call(self._watchers["on_epoch_end"], trainer)
        if settings.checkpoint_every == 0 or trainer.is_over or self._save_is_due(trainer):
            self.save(trainer)

    def on_fit_end(self, trainer: "Trainer") -> None:
        """Training has come to its end."""
        self._call_all("on_fit_end", trainer)

    def on_exception(self, trainer: "Trainer", error: BaseException) -> None:
        """Training fails with an error; what callbacks raise now would only hide it."""
        for listener in (*self._actors["on_exception"], *self._watchers["on_exception"]):
            with suppress(Exception, SystemExit):
                self._call([listener], trainer, error)

    def save(self, trainer: "Trainer") -> None:
        """Save the training as it is now, under the labels that were asked for."""
        check_weights(trainer)
        state = trainer.state
        state.labels |= dict.fromkeys(trainer.requested_labels, state.step)
        trainer.requested_labels.clear()
        trainer.saved_step = state.step
        if self._saver is not None:
            self._call_all("on_checkpoint", trainer, self._saver(trainer))

    @contextmanager
    def evaluation_weights(self, trainer: "Trainer") -> Iterator[None]:
        """Inside it, the model has the weights that are evaluated and saved: those that actors put there."""
        with ExitStack() as stack:
            for section, method in self._actors["evaluation_weights"]:
                stack.enter_context(_blamed(trainer, section, method))
            yield

    @property
    def has_evaluation_weights(self) -> bool:
        """Whether an actor evaluates other weights than those that are trained."""
        return bool(self._actors["evaluation_weights"])

    def call_actors(self, event: str, trainer: "Trainer", *arguments: Any) -> None:
        """One event for the actors alone."""
        self._call(self._actors[event], trainer, *arguments)

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

    def _end_step(self, trainer: "Trainer") -> None:
        """What is due inside an epoch; at the end of one all is done together."""
        state = trainer.state
        evaluates = is_due(state.step, trainer.settings.eval_steps) and "val" in trainer.eval_loaders
        if not (evaluates or self._save_is_due(trainer)) or trainer.epoch_is_over:
            return
        rows = [evaluate_row(trainer, state.epoch + 1)] if evaluates else []
        self._judge(trainer, rows)
        self._record(trainer, rows)
        if self._save_is_due(trainer):
            self.save(trainer)

    def _judge(self, trainer: "Trainer", rows: Sequence[MetricsRow]) -> None:
        """The scheduler, if it listens, and the actors on new figures, then the best; observers come after the rows."""
        scheduler, monitor = trainer.scheduler, trainer.settings.monitor
        for row in rows:
            if row.split != "train":
                # A scheduler need not have it, and those of torch do not.
                if react := getattr(scheduler, "on_evaluation", None):
                    trainer.calls.now = "scheduler"
                    figures = {f"{row.split}/{label}": value for label, value in row.values.items()}
                    react(figures, monitor=monitor, better=self._better)
                self._call(self._actors["on_evaluation"], trainer, row.split, dict(row.values))
            update_best(trainer, row, self._better)

    def _record(self, trainer: "Trainer", rows: Sequence[MetricsRow]) -> None:
        state = trainer.state
        for row in rows:
            state.metrics |= {f"{row.split}/{label}": value for label, value in row.values.items()}
            state.rows_logged += 1
            self._call(self._watchers["on_row"], trainer, row)
        check_rows(rows)
        for row in rows:
            if row.split != "train":
                self._call(self._watchers["on_evaluation"], trainer, row.split, row.values)
        state.last_event_step = state.step

    def _save_is_due(self, trainer: "Trainer") -> bool:
        return bool(trainer.requested_labels) or is_due(trainer.state.step, trainer.settings.checkpoint_every)

    def _call_all(self, event: str, trainer: "Trainer", *arguments: Any) -> None:
        self._call(self._actors[event], trainer, *arguments)
        self._call(self._watchers[event], trainer, *arguments)

    def _call(self, listeners: Listeners, trainer: "Trainer", *arguments: Any) -> None:
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
