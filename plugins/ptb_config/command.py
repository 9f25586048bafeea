"""``ptb config``: make, see and describe configurations."""

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ptb import ConfigError, json_option, run_options, verbose_option
from ptb.internals import UserPath, installed, listing, plugin_options, stray_output_to_stderr

if TYPE_CHECKING:
    from ptb import RunConfig


@click.group()
def config() -> None:
    """Make, see and describe configurations."""


@config.command()
@click.option(
    "-o",
    "--output",
    "file",
    type=UserPath(),
    metavar="FILE",
    help="Write a new file, whose name ends in .toml.",
)
@run_options
@verbose_option
def init(config: "RunConfig", file: Path | None, verbose: bool) -> None:
    """Print a config file with every setting explained.

    Flags and KEY=VALUE, such as model.pool=avg, choose the components and the values. A setting without a value stands
    there as a comment; one that must be filled in is marked as required.

    \b
    ptb config init --model lenet -o run.toml
    ptb config init --model mlp --dataset csv -o run.toml
    """  # noqa: D301  # click wants the backspace itself
    from ptb.internals import resolve, write_atomically
    from ptb_config.writing import commented, required_keys

    if file is not None:
        _check_new(file)
    registry = installed(config)
    with stray_output_to_stderr():
        partial = resolve(config, registry, may_lack=True)
        text, missing = commented(partial), required_keys(partial)
    if file is None:
        click.echo(text, nl=False)
        return
    write_atomically(file, text)
    then = f"{f'fill in {listing(missing)}, then ' if missing else ''}run it with"
    click.echo(f"wrote {file}; {then}: ptb run -c {shlex.quote(str(file))}")


@config.command("show")
@run_options
@json_option
@verbose_option
def show_config(config: "RunConfig", as_json: bool, verbose: bool) -> None:
    """Print the checked configuration and its sources.

    A comment tells where each value that is no default came from: a line of a file, a flag, or KEY=VALUE.
    """
    from ptb.internals import resolve
    from ptb_config.writing import sourced

    registry = installed(config)
    with stray_output_to_stderr():
        partial = resolve(config, registry)
    if as_json:
        click.echo(json.dumps({"schema": 1, "config": partial.as_config()}))
        return
    click.echo(sourced(partial), nl=False)


@config.command()
@plugin_options
@verbose_option
def schema(verbose: bool) -> None:
    """Print the JSON Schema of config files.

    An editor that knows it completes and checks config files. It describes every installed component.
    """
    from ptb_config.schema import config_schema

    registry = installed()
    with stray_output_to_stderr():
        described = config_schema(registry)
    click.echo(json.dumps(described, indent=2))


def _check_new(file: Path) -> None:
    if file.suffix.lower() != ".toml":
        raise ConfigError(f"config init writes TOML with comments: the file's name must end in .toml, got '{file}'")
    if os.path.lexists(file):
        raise ConfigError(f"{file} is there already; name a new file")
