"""``ptb verify``: whether what ptb promises holds on this machine, for this run."""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from ptb.cli.options import (
    config_options,
    installed,
    json_option,
    plugin_arguments,
    stray_output_to_stderr,
    verbose_option,
)
from ptb.cli.text import columns, printable
from ptb.errors import ConfigError, PtbError, StorageError, count, listing
from ptb_doctor.command import ended_by_signals

if TYPE_CHECKING:
    from ptb.config.layers import RunConfig

SHOWN = 3  # differences of one trial


@click.group()
def verify() -> None:
    """Prove a promise of ptb on this machine."""


@verify.command("resume")
@config_options
@click.option(
    "--steps",
    type=click.IntRange(min=2),
    metavar="N",
    help="Train so many steps; an epoch and two steps when left out.",
)
@json_option
@verbose_option
def verify_resume(config: "RunConfig", steps: int | None, as_json: bool, verbose: bool) -> None:
    """Stop a run of yours, go on, and compare it to the last bit with one that was not stopped.

    Takes the options of `ptb run`. The first epoch and two steps more are trained without a stop; then again, stopped
    after the first step, half of them, the epoch and the last but one, and each time another process goes on. Weights,
    optimizer, random numbers, figures and everything else in the last checkpoints must be the same. Ends with 5 if they
    are not. Nothing is kept.

    \b
    ptb verify resume --model lenet --dataset fashion-mnist --batch-size 64
    """  # noqa: D301  # click wants the backspace itself
    from ptb.config.resolve import resolve

    registry = installed(config)
    with stray_output_to_stderr():
        resolve(config, registry)  # every config error is told before torch is imported
    with ended_by_signals(), TemporaryDirectory(prefix="ptb-verify-", ignore_cleanup_errors=True) as folder:
        trials = _Trials(Path(folder), config.values, steps)
        last = trials.unbroken()
        found = {stop: trials.stopped_after(stop) for stop in trials.stops(last)}
    different = [stop for stop, lines in found.items() if lines]
    if as_json:
        facts = [{"stopped_after": stop, "same": not lines, "differences": lines} for stop, lines in found.items()]
        click.echo(json.dumps({"schema": 1, "step": last, "same": not different, "trials": facts}))
    else:
        rows = [(str(stop), _told(lines)) for stop, lines in found.items()]
        click.echo(printable(columns([("STOPPED AFTER STEP", f"AT STEP {last}"), *rows]), kept="\n"))
    if different:
        raise StorageError(
            f"the run does not go on exactly when it is stopped after step {listing([*map(str, different)])}: a "
            "component keeps state that no checkpoint holds, or computes otherwise from time to time"
        )
    if not as_json:
        click.echo("a run that is stopped and resumed ends with the same bits")


class _Trials:
    """Runs in processes of their own, in one folder.

    Args:
        folder: where they write.
        values: the configuration.
        steps: the most that each trains; None is an epoch and two more.
    """

    def __init__(self, folder: Path, values: Mapping[str, Any], steps: int | None) -> None:
        self._folder = folder
        self._steps = steps
        self._config = folder / "config.json"
        self._config.write_text(json.dumps(values, default=str))

    def unbroken(self) -> int:
        """Trains without a stop, and tells the last step."""
        if self._steps is None:
            self._steps = int(json.loads(self._command("check", "-c", str(self._config), "--json"))["steps"]) + 2
        self._ptb("run", "-c", str(self._config), "--output", str(self._folder / "unbroken"), self._steps)
        last = int(json.loads((self._folder / "unbroken" / "summary.json").read_bytes())["step"])
        if last < 2:
            raise ConfigError("the run has one optimizer step only, so that it cannot be stopped in between")
        return last

    def stops(self, last: int) -> list[int]:
        """After which steps a run is stopped."""
        rows = [json.loads(line) for line in self._rows("unbroken")]
        epoch = [row["step"] for row in rows if row["split"] == "train"][:1]
        return sorted({1, last // 2, last - 1, *(step for step in epoch if step < last)})

    def stopped_after(self, stop: int) -> list[str]:
        """What a run that was stopped ends otherwise in."""
        name = f"stopped-{stop}"
        run = str(self._folder / name)
        self._ptb("run", "-c", str(self._config), "--output", run, stop)
        self._ptb("resume", run, self._steps)
        with stray_output_to_stderr():
            from ptb.storage.checkpoint import differences, find_checkpoints, load_checkpoint

            ends = [find_checkpoints(self._folder / each / "checkpoints") for each in ("unbroken", name)]
            one, other = (load_checkpoint(paths[max(paths)]) for paths in ends)
            found = differences(one, other)
        if self._figures("unbroken") != self._figures(name):
            found.append("metrics.jsonl")
        return found

    def _rows(self, name: str) -> list[str]:
        path = self._folder / name / "metrics.jsonl"
        return path.read_text().splitlines() if path.exists() else []

    def _figures(self, name: str) -> list[dict[str, Any]]:
        rows = [json.loads(line) for line in self._rows(name)]
        return [{key: value for key, value in row.items() if key != "samples_per_second"} for row in rows]

    def _ptb(self, *arguments: str | int | None) -> None:
        """A command that trains to a step, the last argument."""
        *command, until = map(str, arguments)
        self._command(*command, "--stop-after", until, "-q")

    def _command(self, *arguments: str) -> str:
        """What a command prints.

        Raises:
            PtbError: it failed, with its own exit code.
        """
        from ptb_doctor.processes import Child, python

        with Child(python("-m", "ptb", *arguments, *plugin_arguments())) as child:
            ended = child.wait()
        if ended.status:
            error = PtbError(f"`ptb {arguments[0]}` of this configuration ended with {ended.how}: {ended.last_line}")
            error.exit_code = ended.status if ended.status > 0 else 128 - ended.status
            raise error
        return ended.output


def _told(lines: list[str]) -> str:
    return f"{count(len(lines), 'difference')}: {listing(lines, SHOWN)}" if lines else "the same bits"
