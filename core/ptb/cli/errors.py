"""Turns errors into one message and an exit code; ``-v`` adds the traceback. Prints each warning on one line."""

import errno
import io
import json
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TextIO, cast

import click

from ptb.cli.text import printable
from ptb.distributed.place import LAUNCHER, PEER_LOST, place
from ptb.errors import (
    LONGEST_WARNING,
    ConfigError,
    InterruptedRunError,
    NumericalError,
    PluginError,
    PtbError,
    one_line,
    tidy,
)

VERBOSE = "ptb.verbose"
COMMAND = "ptb.command"  # the record of the plugin's command that runs


class PtbGroup(click.Group):
    """A group whose commands may raise ``PtbError``."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Runs a command line, with the same effects and exit code if standard error is closed or broken."""
        # A file of a run would get the number of a closed standard stream, and what C code prints would go into it.
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(descriptor, True)
        os.close(descriptor)
        if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
            sys.stdout.reconfigure(errors="surrogateescape")  # the name of a file need not be UTF-8
        stream = sys.stderr or open(os.devnull, "w", encoding="utf-8", errors="replace")  # noqa: SIM115
        sys.stderr = cast(TextIO, _Unfailing(stream))
        if launcher := os.environ.get(LAUNCHER):
            from ptb.distributed.launcher import die_with

            die_with(int(launcher))
        if not speaks():  # rank 0 has the terminal
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        try:
            return super().main(*args, **extra)
        except PtbError as error:  # --help and the shell's completion look for plugins before a command is invoked
            click.echo(f"{click.style('error:', fg='red')} {printable(str(error), kept=chr(10))}", err=True)
            sys.exit(error.exit_code)
        except SystemExit:  # a result that cannot be written was told; trying again at exit would make it exit code 120
            sys.stdout = sys.stdout and cast(TextIO, _Unfailing(sys.stdout))
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command and turns what it raises into a message and an exit code."""
        args = [*ctx.args]  # which click takes away
        as_json = "--json" in args
        try:
            with warnings.catch_warnings():
                shown: set[str] = set()  # each text once: Python would repeat it from another line
                warnings.showwarning = lambda message, *_: _warn_once(str(message), shown) if speaks() else None
                return super().invoke(ctx)
        except PtbError as error:
            _report(ctx, error, str(error), error.exit_code, as_json)
        except KeyboardInterrupt as error:
            _report(ctx, error, "stopped by SIGINT", 130, as_json)
        except click.ClickException as error:
            error = _explained(error, args)
            if as_json:
                _print_json(error, error.format_message(), error.exit_code)
            raise error from None
        except click.Abort as error:
            if as_json:
                _print_json(error, "aborted", 1)
            raise
        except SystemExit as error:  # a command of a plugin may end with a text, which is its error
            if not isinstance(error.code, str):
                raise
            _report(ctx, error, error.code, 1, as_json)
        except click.exceptions.Exit:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:  # the reader is gone: click ends silently
                raise
            if isinstance(error, OSError):
                _report(ctx, error, f"reading or writing failed: {one_line(error)}", 5, as_json)
            record = ctx.meta.get(COMMAND)
            if record is not None and not record.found.built_in:
                _report(ctx, error, f"{record} raised {one_line(error)}", PluginError.exit_code, as_json)
            hint = "; `ptb plugins doctor` examines the installed plugins"
            hint += "" if ctx.meta.get(VERBOSE) else ", and -v shows the traceback"
            _report(ctx, error, f"unexpected {one_line(error)}{hint}", 1, as_json)


def _explained(error: click.ClickException, args: Sequence[str]) -> click.ClickException:
    """``--optimizer.lr 0.1`` is written ``optimizer.lr=0.1``; click would suggest ``--optimizer``."""
    if not isinstance(error, click.NoSuchOption) or "." not in error.option_name:
        return error
    option = error.option_name
    place = next(place for place, word in enumerate([*args, option]) if word.partition("=")[0] == option)
    value = "".join(args[place : place + 1]).partition("=")[2] or "".join(args[place + 1 : place + 2]) or "VALUE"
    setting = shlex.quote(f"{option.lstrip('-')}={value}")
    return click.NoSuchOption(
        option, f"No such option '{option}': a setting has no dashes; write {setting}", ctx=error.ctx
    )


class _Unfailing:
    """A stream that ignores failing writes: a run must not end because its messages cannot be printed."""

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
    """Prints one warning line to standard error."""
    click.echo(f"{click.style('warning:', fg='yellow')} {printable(message)}", err=True)


def _warn_once(message: str, shown: set[str]) -> None:
    text = tidy(message, LONGEST_WARNING)
    if text not in shown:
        shown.add(text)
        warn(text)


def remember_verbose(ctx: click.Context, _option: click.Parameter, wanted: bool) -> bool:
    """The callback of ``-v``: notes it for the error handler."""
    ctx.meta[VERBOSE] = wanted
    return wanted


def _report(ctx: click.Context, error: BaseException, message: str, code: int, as_json: bool) -> None:
    if _is_said_elsewhere(error):
        ctx.exit(code)
    if not speaks():
        message = f"rank {os.environ['RANK']}: {message}"
    if ctx.meta.get(VERBOSE):
        click.echo(printable("".join(traceback.format_exception(error)), kept="\n"), err=True, nl=False)
    click.echo(f"{click.style('error:', fg='red')} {printable(message, kept=chr(10))}", err=True)
    if as_json:
        _print_json(error, message, code)
    ctx.exit(code)


def speaks() -> bool:
    """Whether this process has the terminal: of several that train together, rank 0."""
    try:
        return place().speaks
    except ConfigError:  # of which it has to speak
        return True


def _is_said_elsewhere(error: BaseException) -> bool:
    """Whether another process says it: rank 0 what all have met, the launcher who was lost."""
    if getattr(error, "exit_code", 0) == PEER_LOST:
        return LAUNCHER in os.environ and not getattr(error, "waited", False)
    return not speaks() and isinstance(error, ConfigError | InterruptedRunError | NumericalError)


def _print_json(error: BaseException, message: str, code: int) -> None:
    problems = [vars(problem) for problem in error.problems] if isinstance(error, ConfigError) else []
    facts = {"type": type(error).__name__, "message": message, "exit_code": code, "problems": problems}
    status = "interrupted" if code > 128 else "failed"
    with suppress(OSError):  # standard output may be closed
        click.echo(json.dumps({"schema": 1, "status": status, "error": facts}))
