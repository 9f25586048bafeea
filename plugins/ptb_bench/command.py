"""``ptb bench``: ours beside loops written by hand, on this machine."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ptb import json_option, run_options
from ptb.internals import columns, installed, stray_output_to_stderr

if TYPE_CHECKING:
    from ptb import RunConfig
    from ptb_bench.timing import Comparison

ROUNDS = 5


def _rounds(command: Callable[..., Any]) -> Callable[..., Any]:
    kind = click.IntRange(1, 1000)
    return click.option("--rounds", type=kind, default=ROUNDS, show_default=True, help="How often each is timed.")(
        command
    )


def _device(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")(command)


@click.group()
def bench() -> None:
    """Time ptb beside loops that are written by hand.

    All of them run in turn, several rounds, in one process where that can be: what else the machine does meanwhile
    falls on each alike, and the ratio of the medians is what counts. PTB / IT below 1 means that ptb is faster.
    """


@bench.command()
@_device
@_rounds
@json_option
def overhead(device: str, rounds: int, as_json: bool) -> None:
    """What ptb adds to a step of a small network and to an epoch."""
    registry = installed()
    with stray_output_to_stderr():
        from ptb_bench import measure

        compared = measure.overhead(device, registry, rounds)
    _print(compared, as_json)


@bench.command()
@_device
@_rounds
@json_option
def loader(device: str, rounds: int, as_json: bool) -> None:
    """Batches from memory, beside those of a DataLoader; nothing is trained."""
    with stray_output_to_stderr():
        from ptb_bench import measure

        compared = measure.loading(device, rounds)
    _print(compared, as_json)


@bench.command()
@_rounds
@json_option
def startup(rounds: int, as_json: bool) -> None:
    """The first step of a run, and commands that train nothing, beside the import of torch."""
    with stray_output_to_stderr():
        from ptb_bench import measure

        compared = measure.starting(rounds)
    _print(compared, as_json)


@bench.command()
@run_options
@_rounds
@json_option
def train(config: "RunConfig", rounds: int, as_json: bool) -> None:
    """One epoch of a run of yours, beside loops on the same samples that do nothing but train.

    Takes the options of `ptb run`:

    \b
    ptb bench train --model lenet --dataset fashion-mnist --batch-size 64
    """  # noqa: D301  # click wants the backspace itself
    registry = installed(config)
    with stray_output_to_stderr():
        from ptb.internals import resolve

        partial = resolve(config, registry)  # every config error is told before torch is imported
        from ptb_bench import measure

        compared = measure.training(partial, rounds)
    _print(compared, as_json)


def _print(compared: "Comparison", as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"schema": 1, **compared.as_json()}))
        return
    click.echo(compared.title)
    click.echo(columns(compared.rows(), indent="  "))
    for fact in compared.facts:
        click.echo(fact)
