import io
import signal
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.progress import Progress

from ptb.errors import SIGNALS
from ptb.runs.progress import ProgressBar, StopOnSignal, sparkline


class Training:
    """As far as a bar looks at it."""

    def __init__(self, epochs, steps):
        self.settings = SimpleNamespace(epochs=epochs)
        self.epoch_steps = steps
        self.state = SimpleNamespace(epoch=0, step=0)

    def begin(self, shown, epoch):
        self.state.epoch = epoch - 1
        shown.on_epoch_start(self)

    def step(self, shown):
        self.state.step += 1
        shown.on_step_end(self, None)


@pytest.fixture
def bar():
    return Progress(console=Console(file=io.StringIO(), width=100))


def test_the_bar_moves_over_the_steps_of_the_whole_run(bar, monkeypatch):
    monkeypatch.setattr("ptb.runs.progress.REDRAW_SECONDS", -1)
    shown = ProgressBar(StopOnSignal(), False, bar)
    training = Training(3, 2)
    training.begin(shown, 1)
    training.step(shown)
    training.step(shown)
    training.begin(shown, 2)
    training.step(shown)
    (task,) = bar.tasks
    assert (task.description, task.completed, task.total) == ("epoch 2/3", 3, 6)


def test_the_monitored_figure_is_a_curve_beside_the_bar(bar):
    training = Training(3, 2)
    training.settings.monitor = "val/loss"
    for curve, expected in ((True, "val/loss █▁ 0.2500"), (False, "")):
        shown = ProgressBar(StopOnSignal(), False, bar, curve=curve)
        training.begin(shown, 1)
        for value in (0.5, 0.25):
            shown.on_row(training, SimpleNamespace(named_values={"train/loss": 9.0}))
            shown.on_row(training, SimpleNamespace(named_values={"val/loss": value}))
        assert bar.tasks[-1].fields["curve"] == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ""),
        ([1.0], "▄"),
        ([2.0, 2.0], "▄▄"),
        ([0.0, 7.0, 3.0], "▁█▄"),
        ([0.0, float("nan"), 1.0, float("inf")], "▁?█?"),
        ([float("nan")], "?"),
        ([*range(9)], "▁▃▅▆█"),
    ],
)
def test_a_sparkline_fits_its_width_and_ends_with_the_last_value(values, expected):
    assert sparkline(values, width=5) == expected


def test_the_bar_is_drawn_a_few_times_a_second_only_but_at_each_epoch(bar, monkeypatch):
    monkeypatch.setattr("ptb.runs.progress.perf_counter", lambda: 100.0)
    shown = ProgressBar(StopOnSignal(), False, bar)
    training = Training(2, 3)
    training.begin(shown, 1)
    for _ in range(3):
        training.step(shown)
    assert bar.tasks[0].completed == 1
    training.begin(shown, 2)
    assert bar.tasks[0].completed == 3


def test_a_line_does_not_steer_the_terminal(bar, capsys):
    ProgressBar(StopOnSignal(), False).line("a\x1b[2Jb\rc")
    ProgressBar(StopOnSignal(), False, bar).line("a\x1b[2Jb\rc")
    assert (capsys.readouterr().err, bar.console.file.getvalue()) == ("a [2Jb c\n", "a [2Jb c\n")


def test_a_line_is_printed_as_it_is(bar, capsys):
    shown = ProgressBar(StopOnSignal(), False, bar)
    shown.line("[bold]metrics[/] 0.5")
    assert bar.console.file.getvalue() == "[bold]metrics[/] 0.5\n"
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("quiet", "printed"), [(False, "epoch 1/1\n"), (True, "")], ids=["lines", "quiet"])
def test_without_a_terminal_there_are_lines_on_standard_error_or_none(capsys, quiet, printed):
    shown = ProgressBar(StopOnSignal(), quiet)
    training = Training(1, 1)
    training.begin(shown, 1)
    training.step(shown)
    shown.line("epoch 1/1")
    assert capsys.readouterr() == ("", printed)


def test_what_is_ignored_stays_ignored_also_after_another_signal():
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop = StopOnSignal()
    try:
        with stop.listening():
            signal.raise_signal(signal.SIGHUP)
            assert stop.number == 0
            signal.raise_signal(signal.SIGTERM)
            assert stop.number == signal.SIGTERM
            assert [signal.getsignal(n) for n in SIGNALS] == [signal.SIG_DFL, signal.SIG_DFL, signal.SIG_IGN]
        assert [signal.getsignal(n) for n in SIGNALS] == [signal.SIG_DFL, signal.SIG_DFL, signal.SIG_IGN]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_a_shell_has_ignored_for_the_background_stops_nevertheless(number):
    before = signal.signal(number, signal.SIG_IGN)
    stop = StopOnSignal()
    try:
        with stop.listening():
            signal.raise_signal(number)
        assert stop.number == number
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
