"""What a command owes: to be one, to say what it does, and to leave the names of others alone."""

import copy

import click
from click.testing import CliRunner

from ptb.internals import CORE
from ptb_testing.case import Case, Kit
from ptb_testing.checks import common
from ptb_testing.outcome import CheckFailed
from ptb_testing.trial import built_in


def is_a_command(case: Case) -> None:
    """The target is a `click.Command`."""
    if not isinstance(case.target, click.Command):
        raise CheckFailed(f"{case.record.target} is a {type(case.target).__name__}; put @click.command() above it")


def has_help(case: Case) -> None:
    """It has a text of help, the docstring of its function."""
    if not (case.target.help or "").strip():
        raise CheckFailed("it has no help: write a docstring, or @click.command(help=...)")


def help_can_be_shown(case: Case) -> None:
    """`--help` shows it, and ends with exit code 0."""
    # click keeps the option --help with the command, as it is where it is asked for first.
    done = CliRunner().invoke(copy.copy(case.target), ["--help"], prog_name=f"ptb {case.record.name}")
    if done.exit_code != 0:
        why = done.output.strip().splitlines()[-1:] or [repr(done.exception)]
        raise CheckFailed(f"--help ends with exit code {done.exit_code}: {why[0]}") from done.exception


def name_is_free(case: Case) -> None:
    """It takes no name of a command of ptb itself, and stands in no command that is not a group."""
    name, (first, *rest) = case.record.name, case.record.name.split()
    others = [] if case.found.built_in else [each.command.name for each in built_in().commands()]
    if rest and first in CORE:
        raise CheckFailed(f"it cannot stand in '{first}', which is a command and no group")
    taken = others if rest else {*CORE, *(other.split()[0] for other in others)}
    if name in taken:
        raise CheckFailed(f"'{name}' is a command of ptb, which stays; choose another name")


KIT = Kit(
    checks=(*common.OF_ANY_RECORD, is_a_command, has_help, help_can_be_shown, name_is_free),
    gates=(is_a_command,),
)
