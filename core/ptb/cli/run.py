"""``ptb run`` and ``ptb check``: compose a run, and carry it out or not."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ptb.cli.options import (
    config_options,
    installed,
    json_option,
    output_option,
    plugin_options,
    stop_option,
    stray_output_to_stderr,
    strict_option,
    verbosity_options,
)
from ptb.cli.progress import Screen, progress
from ptb.cli.text import columns
from ptb.errors import ConfigError, PluginError, Problem, StorageError, count, listing

if TYPE_CHECKING:
    from ptb.config.layers import RunConfig
    from ptb.config.resolve import ResolvedConfig
    from ptb.registry.registry import Registry
    from ptb.runs.compose import ComposedRun
    from ptb.runs.run import RunResult


@click.command()
@config_options
@output_option
@click.option("--dry-run", is_flag=True, help="Check everything, print the resolved config, train nothing.")
@click.option(
    "--resume",
    "auto",
    type=click.Choice(["auto"]),
    help="Go on with the run in --output, if there is one; the same command begins it and ends it.",
)
@strict_option
@stop_option
@click.option("--locked", is_flag=True, help="Refuse unless the plugins are those of the run whose config -c names.")
@json_option
@verbosity_options
def run(
    config: "RunConfig",
    output: Path | None,
    dry_run: bool,
    auto: str | None,
    strict: bool,
    stop_after: int | None,
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
    """  # noqa: D301  # click wants the backspace itself
    if auto and output is None:
        raise click.UsageError("--resume auto goes on with the run in --output DIR; name it")
    if strict and not auto:
        raise click.UsageError("--strict-resume belongs to --resume auto")
    begun = _begun(config, output) if auto and output is not None else None
    composed = _composed(config, output, locked) if begun is None else _composed(begun, None, locked)
    if dry_run:
        _print_config(composed, as_json)
        return
    if auto and begun is None and output is not None and (output / "config.toml").exists():
        raise StorageError(f"another process has begun the run {output} meanwhile; give the command again to go on")
    from ptb.runs.run import execute, go_on
    from ptb.storage.run_directory import RunDirectory

    with _watched(composed, quiet, verbose) as observer:
        if begun is not None and output is not None:
            result = go_on(composed, RunDirectory(output), observer, strict=strict, until=stop_after)
        else:
            result = execute(composed, output, observer, until=stop_after)
    _print_result(result, as_json)


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps; that of the run when left out.")
@strict_option
@stop_option
@plugin_options
@json_option
@verbosity_options
def resume(
    run: Path,
    overrides: tuple[str, ...],
    device: str | None,
    strict: bool,
    stop_after: int | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Go on with a run that was stopped.

    RUN is a run directory. Its newest intact checkpoint is taken up, and the run ends with the same weights, to the
    last bit, as if it had not been stopped. A run that is finished stays as it is. KEY=VALUE sets device, threads,
    loader.tier, loader.num_workers, loader.timeout, trainer.checkpoint_every or trainer.keep_last.

    \b
    ptb resume runs/mine
    ptb resume runs/mine --strict-resume         only with the same versions, device and data
    """  # noqa: D301  # click wants the backspace itself
    from ptb.storage.run_directory import RunDirectory

    directory = RunDirectory.open(run)
    composed = _composed(directory.resume_config(overrides, device), None)
    from ptb.runs.run import go_on

    with _watched(composed, quiet, verbose) as observer:
        result = go_on(composed, directory, observer, strict=strict, until=stop_after)
    _print_result(result, as_json)


@click.command()
@config_options
@output_option
@json_option
@verbosity_options
def check(config: "RunConfig", output: Path | None, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Check a run without training it.

    Takes the options of `ptb run`, builds everything, sends two samples through, and writes nothing.
    """
    composed = _composed(config, output)
    plan = composed.plan
    used = {section: choice.entry.id for section, choice in plan.choices().items()}
    steps = -(-len(composed.parts.train) // plan.trainer.accumulate)
    if as_json:
        facts = {
            "summary_line": composed.summary_line(),
            "epochs": plan.trainer.epochs,
            "steps": steps,
            "components": used,
        }
        click.echo(json.dumps({"schema": 1, "status": "ok", **facts}))
        return
    click.echo(f"ok: {composed.summary_line()}")
    if not quiet:
        epochs, size = count(plan.trainer.epochs, "epoch"), count(plan.loader.batch_size, "sample")
        click.echo(f"{epochs} of {count(steps, 'step')}, {size} in a batch")
    if verbose:
        click.echo(columns([("SECTION", "COMPONENT"), *used.items()]))


@contextmanager
def _watched(composed: "ComposedRun", quiet: bool, verbose: bool) -> Iterator[Screen]:
    """The progress on standard error, and what the run is made of."""
    with stray_output_to_stderr(), progress(quiet) as observer:
        if verbose:
            for choice in composed.plan.choices().values():
                observer.line(f"using {choice.entry}: {choice.entry.target}")
        yield observer


def _begun(config: "RunConfig", output: Path) -> "RunConfig | None":
    """The configuration of the run in ``output``, with what the command says; None where there is no run yet.

    Raises:
        ConfigError: the command asks for another run than the one that is there.
    """
    from ptb.config.layers import leaves
    from ptb.config.resolve import resolve
    from ptb.storage.run_directory import RESUME_KEYS, RunDirectory

    directory = RunDirectory(output)
    if not directory.is_begun():
        return None
    both, recorded = config.over(directory.config), directory.resume_config()
    registry = installed(recorded)
    with stray_output_to_stderr():
        wanted, there = (leaves(resolve(each, registry).as_config()) for each in (both, recorded))
    other = [
        Problem(
            key,
            f"is {there.get(key, 'not set')} in {output}, and {wanted.get(key, 'not set')} is asked for: a run goes on "
            "as it was begun",
        )
        for key in sorted({*wanted, *there})
        if key not in RESUME_KEYS and wanted.get(key) != there.get(key)
    ]
    if other:
        raise ConfigError(*other)
    return both


def _composed(config: "RunConfig", output: Path | None, locked: bool = False) -> "ComposedRun":
    from ptb.config.resolve import resolve
    from ptb.storage.run_directory import check_output

    registry = installed(config)
    recorded = _check_locked(config, registry) if locked else None
    with stray_output_to_stderr():
        plan = resolve(config, registry)  # every config error is told before torch is imported
    if recorded is not None:
        _check_recorded(plan, recorded)
    if output is not None:
        check_output(output)
    from ptb.runs.compose import compose

    with stray_output_to_stderr():
        return compose(config, registry)


def _check_locked(config: "RunConfig", registry: "Registry") -> set[str]:
    """The plugins of the runs whose configs these are: unchanged, or an error."""
    from ptb.runs.provenance import check_unchanged

    manifests = [path for file in config.files if (path := file.parent / "manifest.json").exists()]
    if not manifests:
        raise ConfigError("--locked compares with the manifest.json of a run; name its config: -c RUN/config.toml")
    return set().union(*(check_unchanged(manifest, registry.found()) for manifest in manifests))


def _check_recorded(plan: "ResolvedConfig", recorded: set[str]) -> None:
    others = {str(choice.entry): None for choice in plan.choices().values() if choice.entry.plugin not in recorded}
    if others:
        raise PluginError(
            f"the manifest.json of the run does not record the plugin of {listing([*others])}; choose a component "
            "of the run, or leave out --locked"
        )


def _print_config(composed: "ComposedRun", as_json: bool) -> None:
    import tomlkit

    values = composed.plan.as_config()
    click.echo(
        json.dumps({"schema": 1, "status": "ok", "config": values}) if as_json else tomlkit.dumps(values), nl=as_json
    )


def _print_result(result: "RunResult", as_json: bool) -> None:
    from ptb.storage.run_directory import finite

    if as_json:
        click.echo(json.dumps({"schema": 1, **finite(result.summary()), "output": str(result.output)}))
        return
    click.echo(
        f"{result.status}: {count(result.epoch, 'epoch')}, {count(result.step, 'step')}, "
        f"{result.train_seconds:.1f} s of training "
        f"({result.samples_per_second:,.0f} samples/s)"
    )
    splits: dict[str, list[str]] = {}
    for key, value in result.metrics.items():
        split, _, label = key.partition("/")
        splits.setdefault(split, []).append(f"{label} {value:.4f}")
    if splits:
        table = columns([("", ""), *((split, "  ".join(values)) for split, values in splits.items())], indent="  ")
        click.echo(table.lstrip("\n"))
    click.echo(f"recorded in {result.output}")
