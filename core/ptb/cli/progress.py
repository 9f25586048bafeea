"""What a person sees of a run: bars on a terminal, a line for each epoch elsewhere; all of it on standard error."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from ptb.cli.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress

REDRAW_SECONDS = 0.2
# Ctrl-C, the polite kill, and a terminal that was closed (which Windows does not know)
SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


class StopOnSignal:
    """Remembers the first of ``SIGNALS``; a second one ends the process at once."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._process = os.getpid()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listens inside the block only, and not to SIGHUP where ``nohup`` has it ignored.

        A shell script ignores SIGINT for what it starts with ``&``; whoever sends one to that means it.
        """
        shut = {signal.SIGINT, signal.SIGTERM}
        heard = [number for number in SIGNALS if number in shut or signal.getsignal(number) is not signal.SIG_IGN]
        former = [(number, signal.signal(number, self._handle)) for number in heard]
        try:
            yield
        finally:
            for number, handler in former:
                signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker process has inherited this handler: its parent will end it
            return
        self.number = number
        for each in SIGNALS:
            if signal.getsignal(each) == self._handle:
                signal.signal(each, signal.SIG_DFL)
        click.echo("stopping after this step, then saving; a second signal leaves at once, unsaved", err=True)


class Screen:
    """What a person sees of a run on standard error.

    Args:
        stop: knows of signals.
        quiet: print no lines.
        bar: stands under the lines and moves with the steps of the run; only a terminal has one.
    """

    def __init__(self, stop: StopOnSignal, quiet: bool, bar: "Progress | None" = None) -> None:
        self._stop = stop
        self._quiet = quiet
        self._bar = bar
        self._task: Any = None
        self._steps = 0
        self._drawn = 0.0

    def line(self, text: str) -> None:
        """Prints it, above the bar."""
        text = printable(text)
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        elif not self._quiet:
            click.echo(text, err=True)

    def epoch_started(self, epoch: int, epochs: int, steps: int, taken: int) -> None:
        """Tells it beside the bar; without one, the epoch's line comes at its end."""
        if self._bar is None:
            return
        if self._task is None:
            self._steps = (epoch - 1) * steps + taken
            self._task = self._bar.add_task("", total=epochs * steps)
        self._bar.update(self._task, completed=self._steps, description=f"epoch {epoch}/{epochs}")

    def step_ended(self) -> None:
        """Counts, and redraws the bar a few times a second only."""
        self._steps += 1
        if self._bar is not None and (now := perf_counter()) - self._drawn > REDRAW_SECONDS:
            self._drawn = now
            self._bar.update(self._task, completed=self._steps)

    def stop_signal(self) -> int | None:
        """The signal that came, if one did."""
        return self._stop.number


@contextmanager
def progress(quiet: bool) -> Iterator[Screen]:
    """The observer that fits standard error, listening for signals while it is in use."""
    stop = StopOnSignal()
    with stop.listening():
        if quiet or not sys.stderr.isatty():
            yield Screen(stop, quiet)
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=5) as bar:
            yield Screen(stop, quiet, bar)
