"""``ptb verify``: whether what ptb promises holds on this machine, for this run."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from ptb import ConfigError, PtbError, StorageError, json_option, run_options, verbose_option
from ptb.internals import columns, count, listing, plugin_arguments, printable, stray_output_to_stderr

if TYPE_CHECKING:
    from ptb import RunConfig

SHOWN = 3  # differences of one trial


@click.group()
def verify() -> None:
    """Prove a promise of ptb on this machine: that a run which is stopped and resumed ends with the same bits."""


@verify.command("resume")
@run_options
@click.option(
    "--steps", type=click.IntRange(min=2), metavar="N", help="Train N steps [default: an epoch and two steps]."
)
@json_option
@verbose_option
def verify_resume(config: "RunConfig", steps: int | None, as_json: bool, verbose: bool) -> None:
    """Stop and resume a run of yours, and compare it to the last bit with a run that was not stopped.

    Takes the options of `ptb run`. The first epoch and two steps more are trained without a stop; then again, stopped
    after the first step, half of them, the epoch, and the last step but one, and each time resumed by another process.
    Weights, optimizer, random states, metrics and everything else in the last checkpoints must be the same. Ends with 5
    if they are not. Nothing is kept.

    \b
    ptb verify resume --model lenet --dataset fashion-mnist --batch-size 64
    """  # noqa: D301  # click wants the backspace itself
    from ptb_doctor.processes import ended_by_signals

    with ended_by_signals(), TemporaryDirectory(prefix="ptb-verify-", ignore_cleanup_errors=True) as folder:
        trials = _Trials(Path(folder), config.values, steps)
        last = trials.train_without_stop()
        found = {stop: trials.train_with_stop(stop) for stop in trials.stops(last)}
    different = [str(stop) for stop, differences in found.items() if differences]
    if as_json:
        facts = [{"stopped_after": stop, "same": not lines, "differences": lines} for stop, lines in found.items()]
        click.echo(json.dumps({"schema": 1, "step": last, "same": not different, "trials": facts}))
    else:
        rows = [(str(stop), _summary(differences)) for stop, differences in found.items()]
        click.echo(printable(columns([("STOPPED AFTER STEP", f"AT STEP {last}"), *rows]), kept="\n"))
    if different:
        raise StorageError(
            f"the run does not resume exactly after a stop at step {listing(different)}: a component keeps state that "
            "no checkpoint holds, or does not always compute the same"
        )
    if not as_json:
        click.echo("a run that is stopped and resumed ends with the same bits")


class _Trials:
    """Runs in processes of their own, in one folder.

    Args:
        folder: where they write.
        values: the configuration.
        steps: how many each trains at most; None is an epoch and two more.
    """

    def __init__(self, folder: Path, values: Mapping[str, Any], steps: int | None) -> None:
        self._folder = folder
        self._config = folder / "config.json"
        self._config.write_text(json.dumps(values, default=str))
        if steps is None:
            steps = int(json.loads(self._ptb("check", "-c", str(self._config), "--json"))["steps"]) + 2
        self._steps = steps

    def train_without_stop(self) -> int:
        """Trains the run that the others are compared with.

        Returns:
            Its last step.
        """
        self._train("run", "-c", str(self._config), "--output", str(self._folder / "whole"), until=self._steps)
        last = int(json.loads((self._folder / "whole" / "summary.json").read_bytes())["step"])
        if last < 2:
            raise ConfigError("the run has only one optimizer step, so it cannot be stopped in between")
        return last

    def stops(self, last: int) -> list[int]:
        """The steps after which a run is stopped."""
        epoch = [row["step"] for row in self._rows("whole") if row["split"] == "train"][:1]
        return sorted({1, last // 2, last - 1, *(step for step in epoch if step < last)})

    def train_with_stop(self, stop: int) -> list[str]:
        """In what a run that was stopped and resumed differs."""
        name = f"stopped-{stop}"
        self._train("run", "-c", str(self._config), "--output", str(self._folder / name), until=stop)
        self._train("resume", str(self._folder / name), until=self._steps)
        with stray_output_to_stderr():
            from ptb.internals import differences, find_checkpoints, load_checkpoint

            kept = [find_checkpoints(self._folder / run / "checkpoints") for run in ("whole", name)]
            whole, resumed = (load_checkpoint(paths[max(paths)]) for paths in kept)
            found = differences(whole.state, resumed.state)
        return found if self._rows("whole") == self._rows(name) else [*found, "metrics.jsonl"]

    def _rows(self, name: str) -> list[dict[str, Any]]:
        """The metrics of a run, without their speed."""
        path = self._folder / name / "metrics.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [{key: value for key, value in row.items() if key != "samples_per_second"} for row in rows]

    def _train(self, *arguments: str, until: int) -> None:
        self._ptb(*arguments, "--stop-after", str(until), "-q")

    def _ptb(self, *arguments: str) -> str:
        """The output of a command.

        Raises:
            PtbError: it failed, with its own exit code.
        """
        from ptb_doctor.processes import python, run

        ended = run(python("-m", "ptb", *arguments, *plugin_arguments()), os.environ | {"PTB_REPORT": "0"})
        if ended.status:
            error = PtbError(f"`ptb {arguments[0]}` failed with this configuration: {ended}")
            error.exit_code = ended.status if ended.status > 0 else 128 - ended.status
            raise error
        return ended.output


def _summary(differences: list[str]) -> str:
    if not differences:
        return "the same bits"
    return f"{count(len(differences), 'difference')}: {listing(differences, SHOWN)}"
