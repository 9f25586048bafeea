"""Progress on standard error: a bar on a terminal, one line per epoch elsewhere. Stops a run on a signal."""

import math
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import current_thread, main_thread
from time import perf_counter
from types import FrameType
from typing import TYPE_CHECKING, Any

from ptb.errors import SIGNALS, printable

if TYPE_CHECKING:
    from rich.progress import Progress

    from ptb.training.evaluation import MetricsRow
    from ptb.training.state import TrainState
    from ptb.training.trainer import Trainer

REDRAW_SECONDS = 0.2
LEVELS = "▁▂▃▄▅▆▇█"
CURVE_WIDTH = 24
PYTHON_SIGNALS = (signal.SIGINT,)  # where a run is a part of a program, which has its own way with the others


class StopOnSignal:
    """Notes the first of the ``signals``, for the run to stop after the step; a second one is handled as before.

    In a process of ptb that is the way of the system: it ends at once.
    """

    def __init__(self, signals: Sequence[int] = SIGNALS, said: bool = True) -> None:
        self.number = 0
        self._said = said
        self._signals = signals
        self._second: dict[int, Any] = {}
        self.state: TrainState | None = None
        self._process = os.getpid()

    def on_fit_start(self, trainer: "Trainer") -> None:
        """From here on, a signal stops the training."""
        self.state = trainer.state
        self.ask()

    def ask(self) -> None:
        """Asks the training to stop, if a signal has come and there is a training."""
        if self.number and self.state is not None:
            self.state.stop_signal = self.number

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handles the signals inside the block; SIGHUP only if it is not ignored, as ``nohup`` does.

        A shell script ignores SIGINT for what it starts with ``&``. It is handled all the same: somebody has sent it.
        """
        always = {signal.SIGINT, signal.SIGTERM}
        former = {number: signal.getsignal(number) for number in self._signals}
        if self._signals == PYTHON_SIGNALS:  # Ctrl-C may have another meaning here already
            former = {number: each for number, each in former.items() if each is signal.default_int_handler}
            self._second = former
        handled = [number for number, each in former.items() if number in always or each is not signal.SIG_IGN]
        if current_thread() is not main_thread():
            handled = []  # Python delivers signals to the main thread, which alone may say what they do
        for number in handled:
            signal.signal(number, self._handle)
        try:
            yield
        finally:
            for number in handled:
                signal.signal(number, former[number])

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker process has inherited this handler; its parent ends it
            return
        self.number = number
        self.ask()
        for each in self._signals:
            if signal.getsignal(each) == self._handle:
                signal.signal(each, self._second.get(each, signal.SIG_DFL))
        if self._said:
            _print("stopping after this step, then saving; a second signal ends the run at once, without saving")


class ProgressBar:
    """Shows the progress of a run on standard error.

    Args:
        stop: notes signals.
        quiet: print no lines.
        bar: stands below the lines and moves with the steps of the run; None without a terminal.
        curve: show the monitored figure as a curve beside it.
    """

    def __init__(self, stop: StopOnSignal, quiet: bool, bar: "Progress | None" = None, *, curve: bool = False) -> None:
        self._stop = stop
        self._quiet = quiet
        self._bar = bar
        self._task: Any = None
        self._drawn = 0.0
        self._curve: list[float] | None = [] if curve else None

    def line(self, text: str) -> None:
        """Prints a line, above the bar."""
        text = printable(text)
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        elif not self._quiet:
            _print(text)

    def on_fit_start(self, trainer: "Trainer") -> None:
        """From here on, a signal stops the training."""
        self._stop.on_fit_start(trainer)

    def on_epoch_start(self, trainer: "Trainer") -> None:
        """Shows the number of the epoch beside the bar. Without a bar, a line follows at the end of the epoch."""
        if self._bar is None:
            return
        epochs = trainer.settings.epochs
        if self._task is None:
            self._task = self._bar.add_task("", total=epochs * trainer.epoch_steps, curve="")
        epoch = trainer.state.epoch + 1
        self._bar.update(self._task, completed=trainer.state.step, description=f"epoch {epoch}/{epochs}")

    def on_step_end(self, trainer: "Trainer", output: object) -> None:
        """Redraws the bar at most five times a second."""
        if self._bar is not None and (now := perf_counter()) - self._drawn > REDRAW_SECONDS:
            self._drawn = now
            self._bar.update(self._task, completed=trainer.state.step)

    def on_row(self, trainer: "Trainer", row: "MetricsRow") -> None:
        """Adds the monitored figure to the curve."""
        monitor = trainer.settings.monitor
        if self._curve is None or self._bar is None or self._task is None or monitor not in row.named_values:
            return
        self._curve.append(row.named_values[monitor])
        self._bar.update(self._task, curve=f"{monitor} {sparkline(self._curve)} {self._curve[-1]:.4f}")


def sparkline(values: Sequence[float], width: int = CURVE_WIDTH) -> str:
    """Values as one line of at most ``width`` blocks, low to high; ``?`` stands for one that is not finite.

    Of more values each block stands for several, and shows the last of them.
    """
    step = -(-len(values) // width)
    shown = values[::-1][::step][::-1] if step else []
    finite = [value for value in shown if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    top = len(LEVELS) - 1
    places = (round((value - low) / (high - low) * top) if high > low else top // 2 for value in finite)
    blocks = iter([LEVELS[place] for place in places])
    return "".join(next(blocks) if math.isfinite(value) else "?" for value in shown)


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def progress(quiet: bool, signals: Sequence[int] = SIGNALS, verbose: bool = False) -> Iterator[ProgressBar]:
    """A ``ProgressBar`` for standard error, ``verbose`` with a curve; signals are handled inside the block."""
    stop = StopOnSignal(signals)
    with stop.listening():
        if quiet or not sys.stderr.isatty():
            yield ProgressBar(stop, quiet)
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[curve]}", markup=False),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=5) as bar:
            utf = str(bar.console.encoding).lower().startswith("utf")
            yield ProgressBar(stop, quiet, bar, curve=verbose and utf)
