"""How the command line ends: an error is one message and an exit code; ``-v`` adds the traceback."""

import errno
import json
import os
import sys
import traceback
import warnings
from collections import Counter
from contextlib import suppress
from typing import Any, TextIO, cast

import click

from ptb.cli.text import printable
from ptb.errors import ConfigError, PtbError, one_line, tidy

VERBOSE = "ptb.verbose"
WARNINGS_OF_A_FILE = 5  # are shown: a module that is imported may give hundreds
LONGEST_WARNING = 1000


class PtbGroup(click.Group):
    """A group whose commands may raise ``PtbError``."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Runs a command line; it does the same, with the same exit code, where nobody reads standard error."""
        # a file of a run would get the descriptor of a closed stream, and with it what C code prints
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(descriptor, True)
        os.close(descriptor)
        stream = sys.stderr or open(os.devnull, "w", encoding="utf-8", errors="replace")  # noqa: SIM115
        sys.stderr = cast(TextIO, _Unfailing(stream))
        try:
            return super().main(*args, **extra)
        except SystemExit:  # a result that cannot be written was told; trying again at exit would make it exit code 120
            sys.stdout = sys.stdout and cast(TextIO, _Unfailing(sys.stdout))
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; what it raises becomes a message and an exit code."""
        as_json = "--json" in ctx.args
        try:
            with warnings.catch_warnings():
                told = _Warnings(ctx)
                warnings.showwarning = lambda message, _category, file, *_: told.show(str(message), file)
                return super().invoke(ctx)
        except PtbError as error:
            _report(ctx, error, str(error), error.exit_code, as_json)
        except KeyboardInterrupt as error:
            _report(ctx, error, "stopped", 130, as_json)
        except click.UsageError as error:
            if as_json:
                _print_json(error, error.format_message(), error.exit_code)
            raise
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:  # nobody reads on: click ends quietly
                raise
            if isinstance(error, OSError):
                _report(ctx, error, f"reading or writing failed: {one_line(error)}", 5, as_json)
            hint = "; `ptb plugins doctor` examines what is installed"
            hint += "" if ctx.meta.get(VERBOSE) else ", and -v shows the traceback"
            _report(ctx, error, f"unexpected {one_line(error)}{hint}", 1, as_json)


class _Unfailing:
    """A stream that drops what cannot be written: a run is worth more than what is told of it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def buffer(self) -> "_Unfailing":
        return _Unfailing(self._stream.buffer)

    def write(self, data: str | bytes) -> int:
        with suppress(OSError):
            self._stream.write(data)
        return len(data)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def warn(message: str) -> None:
    """One warning line on standard error."""
    click.echo(f"{click.style('warning:', fg='yellow')} {printable(message)}", err=True)


class _Warnings:
    """Shows each warning once, because a configuration is looked through more than once, and few of one file."""

    def __init__(self, ctx: click.Context) -> None:
        self._ctx = ctx
        self._told: set[str] = set()
        self._of_file: Counter[str] = Counter()

    def show(self, text: str, file: str) -> None:
        text = tidy(text, LONGEST_WARNING)
        if text in self._told:
            return
        self._told.add(text)
        self._of_file[file] += 1
        if self._ctx.meta.get(VERBOSE) or self._of_file[file] <= WARNINGS_OF_A_FILE:
            warn(text)
        elif self._of_file[file] == WARNINGS_OF_A_FILE + 1:
            warn(f"{file} gives more warnings, which are left out; -v shows them all")


def remember_verbose(ctx: click.Context, _option: click.Parameter, wanted: bool) -> bool:
    """The callback of ``-v``: lets the error handler know of it."""
    ctx.meta[VERBOSE] = wanted
    return wanted


def _report(ctx: click.Context, error: BaseException, message: str, code: int, as_json: bool) -> None:
    if ctx.meta.get(VERBOSE):
        click.echo(printable("".join(traceback.format_exception(error)), kept="\n"), err=True, nl=False)
    click.echo(f"{click.style('error:', fg='red')} {printable(message, kept=chr(10))}", err=True)
    if as_json:
        _print_json(error, message, code)
    ctx.exit(code)


def _print_json(error: BaseException, message: str, code: int) -> None:
    problems = [vars(problem) for problem in error.problems] if isinstance(error, ConfigError) else []
    facts = {"type": type(error).__name__, "message": message, "exit_code": code, "problems": problems}
    status = "interrupted" if code > 128 else "failed"
    with suppress(OSError):  # there may be no place left to tell it
        click.echo(json.dumps({"schema": 1, "status": status, "error": facts}))
