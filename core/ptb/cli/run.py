"""``ptb run``, ``ptb resume`` and ``ptb check``: compose a run, and carry it out or not."""

import functools
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptb.cli.errors import speaks, warn
from ptb.cli.observers import report_option, with_default_observers
from ptb.cli.options import (
    ComponentName,
    UserPath,
    installed,
    json_option,
    plugin_options,
    processes_options,
    run_options,
    stray_output_to_stderr,
    verbosity_options,
)
from ptb.cli.text import columns
from ptb.errors import ConfigError, InterruptedRunError, PluginError, StorageError, count, listing
from ptb.runs.progress import progress

if TYPE_CHECKING:
    from ptb.config.layers import RunConfig
    from ptb.config.resolve import PartialConfig
    from ptb.registry.registry import Registry
    from ptb.runs.compose import ComposedRun
    from ptb.runs.result import RunResult
    from ptb.storage.run_directory import RunDirectory

    # A run that is composed, and what carries it out: it takes the progress and ``stop_after``.
    Prepared = tuple[ComposedRun, Callable[..., RunResult]]

output_option = click.option(
    "--output", type=UserPath(), metavar="DIR", help="Run directory, new or empty; else one under runs/."
)
strict_option = click.option(
    "--strict-resume",
    "strict",
    is_flag=True,
    help="Go on only with the versions, device, threads and data of the run.",
)
drop_state_option = click.option(
    "--drop-state", multiple=True, metavar="LABEL", help="Do not restore the saved state of this callback. Repeatable."
)
stop_option = click.option(
    "--stop-after",
    type=click.IntRange(min=1),
    metavar="STEP",
    help="Save and stop after this optimizer step; `ptb resume` goes on.",
)


@click.command()
@run_options
@output_option
@click.option("--dry-run", is_flag=True, help="Check everything, print the resolved config, train nothing.")
@click.option(
    "--resume",
    "auto",
    type=click.Choice(["auto"]),
    help="Go on with the run in --output, if there is one; the same command begins it and ends it.",
)
@click.option(
    "--continue", "parent", type=UserPath(), metavar="RUN[@C]", help="Train on from there, in a directory of its own."
)
@click.option("--name", metavar="NAME", help="What `ptb runs` calls the run.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="A word by which `ptb runs` finds it. Repeatable.")
@strict_option
@drop_state_option
@stop_option
@report_option
@click.option("--locked", is_flag=True, help="Refuse unless the plugins are those of the run whose config -c names.")
@processes_options
@json_option
@verbosity_options
def run(
    config: "RunConfig",
    output: Path | None,
    dry_run: bool,
    auto: str | None,
    parent: Path | None,
    name: str | None,
    tags: tuple[str, ...],
    strict: bool,
    drop_state: tuple[str, ...],
    stop_after: int | None,
    reports: bool,
    locked: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Train a model and record the run.

    \b
    ptb run --model lenet
    ptb run --model mlp --dataset fashion-mnist --epochs 5 model.hidden=[256,64]
    ptb run -c run.toml --seed 1 optimizer.lr=3e-4
    ptb run -c RUN/config.toml --locked          the same again, or not at all
    ptb run --model lenet --output DIR --resume auto    begin, or go on
    ptb run --from RUN --dataset csv dataset.path=new.csv    begin with the weights of another run
    ptb run --continue RUN --epochs 60           train longer
    """  # noqa: D301  # click wants the backspace itself
    if auto and output is None:
        raise click.UsageError("--resume auto goes on with the run in --output DIR; name it")
    if (strict or drop_state) and not auto:
        raise click.UsageError("--strict-resume and --drop-state belong to --resume auto")
    labels = ({"name": name} if name else {}) | ({"tags": [*tags]} if tags else {})
    begun = output if auto and output is not None and (output / "config.toml").is_file() else None
    if parent is not None:
        for flag, given in (("--resume auto", auto), ("--dry-run", dry_run), ("--locked", locked)):
            if given:
                raise click.UsageError(f"--continue cannot be combined with {flag}; leave one out")
        composed, start = _branched(config, parent, output, labels, reports)
    elif begun is not None:
        composed, start = _continued(config, begun, locked, strict, drop_state, reports)
    else:
        composed = _composed(config, output, locked, reports=reports)
        from ptb.runs.start import start_run

        start = functools.partial(start_run, composed, output, labels=labels)
    if dry_run:
        _print_config(composed, as_json)
        return
    if auto and begun is None and output is not None and (output / "config.toml").exists():
        raise StorageError(f"another process has begun the run {output} meanwhile; give the command again to go on")
    _carry_out(composed, start, stop_after, quiet, verbose, as_json)


@click.command()
@click.argument("run", metavar="RUN", type=UserPath())
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps; that of the run when left out.")
@click.option("--callback", "callbacks", multiple=True, type=ComponentName("callback"), help="Add an observer.")
@strict_option
@drop_state_option
@stop_option
@report_option
@processes_options
@plugin_options
@json_option
@verbosity_options
def resume(
    run: Path,
    overrides: tuple[str, ...],
    device: str | None,
    callbacks: tuple[str, ...],
    strict: bool,
    drop_state: tuple[str, ...],
    stop_after: int | None,
    reports: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Continue a run that was stopped.

    RUN is a run directory. The run continues from its newest valid checkpoint, and ends with the same weights, to the
    last bit, as if it had not been stopped. A run that is finished stays as it is. KEY=VALUE sets device, threads,
    loader.placement and what belongs to it, trainer.checkpoint_every or trainer.keep_last.

    \b
    ptb resume runs/mine
    ptb resume runs/mine --strict-resume         only with the same versions, device and data
    ptb resume runs/mine --callback non-finite-report
    """  # noqa: D301  # click wants the backspace itself
    from ptb.runs.overrides import resume_config
    from ptb.storage.run_directory import RunDirectory

    directory = RunDirectory.open(run.expanduser())
    partial = _resolved(resume_config(directory, overrides, device, callbacks))
    if actors := [label for label in callbacks if partial.callbacks[label].entry.component.role != "observer"]:
        raise ConfigError(
            f"callback {listing(actors)} changes training, so it cannot be added when a run is resumed; observers can"
        )
    composed, start = _resumed(partial, directory, strict, drop_state, reports)
    _carry_out(composed, start, stop_after, quiet, verbose, as_json)


@click.command()
@run_options
@output_option
@json_option
@verbosity_options
def check(config: "RunConfig", output: Path | None, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Check a run without training it.

    Takes the options of `ptb run`, builds everything, takes a step on copies, and writes nothing.
    """
    composed = _composed(config, output, probe=True)
    from ptb.runs.preprocessing import encoded

    encoded(composed)  # it could be that it cannot be saved
    resolved = composed.config
    used = {section: component.entry.id for section, component in resolved.components().items()}
    steps = composed.trainer.epoch_steps
    if as_json:
        values = {
            "summary_line": composed.summary_line(),
            "epochs": resolved.trainer.epochs,
            "steps": steps,
            "components": used,
            "lost_state": list(composed.lost_state.values()),
            "advice": composed.advice,
        }
        click.echo(json.dumps({"schema": 1, "status": "ok", **values}))
        return
    click.echo(f"ok: {composed.summary_line()}")
    if not quiet:
        epochs, size = count(resolved.trainer.epochs, "epoch"), count(resolved.loader.batch_size, "sample")
        click.echo(f"{epochs} of {count(steps, 'step')}, {size} in a batch")
    for lost in composed.lost_state.values():
        warn(f"{lost}: `ptb resume` would not continue exactly")
    if composed.advice:
        click.echo(composed.advice)
    if verbose:
        click.echo(columns([("SECTION", "COMPONENT"), *used.items()]))


def _carry_out(
    composed: "ComposedRun",
    start: "Callable[..., RunResult]",
    stop_after: int | None,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Train, with the progress on standard error, and print the result."""
    with stray_output_to_stderr(), progress(quiet or not speaks(), verbose=verbose) as bar:
        if verbose:
            for component in composed.config.components().values():
                bar.line(f"using {component.entry}: {component.entry.target}")
        result = start(bar, stop_after=stop_after)
    _print_result(result, as_json)


def _composed(
    config: "RunConfig",
    output: Path | None = None,
    locked: bool = False,
    probe: bool = False,
    reports: bool = False,
) -> "ComposedRun":
    """What a new run is made of, for ``output``."""
    partial = _resolved(config, locked)
    if output is not None:
        from ptb.storage.run_directory import check_output

        check_output(output)
    composed = _built(partial, probe, reports=reports)
    from ptb.runs.manifest import other_columns
    from ptb.storage.run_directory import RunDirectory

    for file in config.files:
        if text := other_columns(RunDirectory(file.parent), composed):
            warn(text)
    return composed


def _continued(
    config: "RunConfig", output: Path, locked: bool, strict: bool, drop_state: tuple[str, ...], reports: bool
) -> "Prepared":
    """Go on with the run in ``output``, with what the command may change of it."""
    from ptb.runs.overrides import RESUME_KEYS, other_keys
    from ptb.storage.run_directory import RunDirectory

    run = RunDirectory(output)
    partial = _resolved(config.over(run.config), locked)
    free = {section for section, each in partial.components().items() if each.entry.component.role == "observer"}
    why = f"a run goes on as it was begun; `ptb run --continue {output}` goes on with other settings in a new one"
    other_keys(partial, run, lambda key: key in RESUME_KEYS or key.rpartition(".")[0] in free, why)
    return _resumed(partial, run, strict, drop_state, reports)


def _resumed(
    partial: "PartialConfig", run: "RunDirectory", strict: bool, drop_state: tuple[str, ...], reports: bool
) -> "Prepared":
    composed = _built(partial, begun=run, reports=reports)
    from ptb.runs.start import resume_run

    return composed, functools.partial(resume_run, composed, run, strict=strict, drop_state=drop_state)


def _branched(
    config: "RunConfig", named: Path, output: Path | None, labels: dict[str, Any], reports: bool
) -> "Prepared":
    """Train on from a checkpoint of another run."""
    from ptb.runs.overrides import changed_keys
    from ptb.storage.run_directory import RunDirectory, check_output, split_checkpoint

    path, checkpoint = split_checkpoint(str(named))
    parent = RunDirectory.open(path)
    partial = _resolved(config)
    if output is not None:
        check_output(output)
    changed = changed_keys(partial, parent)
    composed = _built(partial, begun=parent, reports=reports)
    from ptb.runs.branch import continue_run

    return composed, functools.partial(continue_run, composed, parent, checkpoint, changed, output, labels=labels)


def _resolved(config: "RunConfig", locked: bool = False) -> "PartialConfig":
    """The checked configuration: every config error is reported before torch is imported."""
    from ptb.config.resolve import resolve

    registry = installed(config)
    recorded = _check_locked(config, registry) if locked else None
    with stray_output_to_stderr():
        partial = resolve(config, registry)
    if recorded is not None:
        _check_recorded(partial, recorded)
    return partial


def _built(
    partial: "PartialConfig", probe: bool = False, begun: "RunDirectory | None" = None, reports: bool = False
) -> "ComposedRun":
    from ptb.cli.lazy_dynamo import put_off_dynamo
    from ptb.runs.compose import compose
    from ptb.storage.checkpoint import find_checkpoints

    if not partial.trainer.compile:
        put_off_dynamo()
    try:
        with stray_output_to_stderr():
            # What has initialized the weights of a run may be gone, and its checkpoint has them all.
            composed = compose(partial, probe=probe, initializes=not (begun and find_checkpoints(begun.checkpoints)))
            return with_default_observers(composed, partial.registry) if reports and speaks() else composed
    except KeyboardInterrupt:
        message = "stopped by SIGINT while the run was built: nothing was trained, and nothing is written"
        raise InterruptedRunError(message, signal.SIGINT) from None


def _check_locked(config: "RunConfig", registry: "Registry") -> set[str]:
    """The plugins of the runs whose configs these are: unchanged, or an error."""
    from ptb.runs.provenance import check_unchanged

    manifests = [path for file in config.files if (path := file.parent / "manifest.json").exists()]
    if not manifests:
        raise ConfigError("--locked compares with the manifest.json of a run; name its config: -c RUN/config.toml")
    return set().union(*(check_unchanged(manifest, registry.found()) for manifest in manifests))


def _check_recorded(partial: "PartialConfig", recorded: set[str]) -> None:
    entries = [component.entry for component in partial.components().values()]
    if others := dict.fromkeys(str(entry) for entry in entries if entry.plugin not in recorded):
        raise PluginError(
            f"the manifest.json of the run does not record the plugin of {listing([*others])}; choose a component "
            "of the run, or leave out --locked"
        )


def _print_config(composed: "ComposedRun", as_json: bool) -> None:
    import tomlkit

    values = composed.config.as_config()
    click.echo(
        json.dumps({"schema": 1, "status": "ok", "config": values}) if as_json else tomlkit.dumps(values), nl=as_json
    )


def _print_result(result: "RunResult", as_json: bool) -> None:
    from ptb.runs.result import figures
    from ptb.storage.run_directory import RunDirectory, finite

    if as_json:
        click.echo(json.dumps({"schema": 1, **finite(result.summary()), "output": str(result.output)}))
        return
    click.echo(
        f"{result.status}: {count(result.epoch, 'epoch')}, {count(result.step, 'step')}, "
        f"{result.train_seconds:.1f} s of training "
        f"({result.samples_per_second:,.0f} samples/s)"
    )
    splits: dict[str, dict[str, float]] = {}
    for key, value in result.metrics.items():
        split, _, label = key.partition("/")
        splits.setdefault(split, {})[label] = value
    rows = {split: figures(values) for split, values in splits.items()}
    if "test" in rows and result.test_step != result.step:
        rows["test"] += f"  (weights of step {result.test_step})"
    if rows:
        click.echo(columns([("", ""), *rows.items()], indent="  ").lstrip("\n"))
    click.echo(f"recorded in {result.output}")
    if (page := RunDirectory(result.output).report).is_file():
        click.echo(f"report: {page}")
