"""What the commands share: the options of a run, component names that complete themselves, the registry."""

import functools
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from ptb.cli.errors import remember_verbose, warn
from ptb.component import KINDS

if TYPE_CHECKING:
    from ptb.registry import Registry

_NAMES = {"model": "model", "dataset": "dataset", "init": "initializer", "loss": "loss", "optimizer": "optimizer"}
_NAMES |= {"scheduler": "scheduler"}
_VALUES = {
    "epochs": ("N", "Passes over the training samples (trainer.epochs)."),
    "batch-size": ("N", "Samples in a batch (loader.batch_size)."),
    "lr": ("X", "Learning rate (optimizer.lr)."),
    "workers": ("N", "Processes that read samples (loader.num_workers)."),
    "seed": ("N", "Every random stream is derived from it."),
}


class ComponentName(click.ParamType[str]):
    """The name of a component; the shell completes it from what is installed, without importing any of it."""

    name = "name"

    def __init__(self, kind: str | None = None) -> None:
        self.kind = kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names that begin with ``incomplete``; the kind is fixed, or an argument before this one."""
        from ptb.registry import load_registry

        kind = self.kind or ctx.params.get("kind")
        entries = load_registry().components(kind) if kind in KINDS else []
        names = {entry.id if entry.conflict else entry.name: entry.summary for entry in entries}
        return [CompletionItem(name, help=text) for name, text in names.items() if name.startswith(incomplete)]


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--json``: exactly one object on standard output, after an error too."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)


def verbosity_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``-q`` and ``-v``."""
    return click.option("-q", "--quiet", is_flag=True, help="No progress, only the result.")(verbose_option(command))


def verbose_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``-v``: known to the error handler even where another option is wrong."""
    return click.option(
        "-v",
        "--verbose",
        is_flag=True,
        is_eager=True,
        callback=remember_verbose,
        help="Tell more; tracebacks of errors.",
    )(command)


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that make a configuration; the command gets it, read, as ``config``."""

    @functools.wraps(command)
    def with_config(
        *, files: tuple[Path, ...], metric: tuple[str, ...], overrides: tuple[str, ...], **rest: Any
    ) -> Any:
        from ptb.run_config import RunConfig

        flags = {flag: rest.pop(flag.replace("-", "_")) for flag in (*_NAMES, *_VALUES, "device")}
        return command(config=RunConfig.read(files, flags, overrides, metric), **rest)

    decorators = [
        click.option(f"--{flag}", type=ComponentName(kind), help=_name_help(kind)) for flag, kind in _NAMES.items()
    ]
    decorators.append(
        click.option(
            "--metric", multiple=True, type=ComponentName("metric"), help=f"{_name_help('metric')} Repeatable."
        )
    )
    decorators += [click.option(f"--{flag}", metavar=metavar, help=text) for flag, (metavar, text) in _VALUES.items()]
    decorators += [
        click.option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps."),
        click.option(
            "-c",
            "--config",
            "files",
            multiple=True,
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="A TOML file of settings; repeatable, later files are stronger.",
        ),
        click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]..."),
    ]
    return _apply(decorators, with_config)


def output_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--output``."""
    kind = click.Path(path_type=Path)
    return click.option(
        "--output", type=kind, metavar="DIR", help="Run directory, new or empty; else one under runs/."
    )(command)


def results_apart() -> AbstractContextManager[Any]:
    """Inside it, what a stranger's code prints goes to standard error: standard output is for results."""
    return redirect_stdout(sys.stderr)


def installed() -> "Registry":
    """The registry of all that is installed; a warning line for each plugin that is set aside."""
    from ptb.registry import load_registry

    with results_apart():
        registry = load_registry()
    for plugin in registry.plugins():
        if plugin.status == "failed":
            remedy = f"update it, or remove it with `python -m pip uninstall {plugin.name}`"
            warn(f"plugin '{plugin.name} {plugin.version}' is set aside: {plugin.reason} ({remedy})")
    return registry


def _name_help(kind: str) -> str:
    section = "metrics" if kind == "metric" else f"{kind}.name"
    return f"Which {kind} ({section}); see `ptb list {kind}`."


def _apply(decorators: list[Callable[..., Any]], command: Callable[..., Any]) -> Callable[..., Any]:
    for decorator in reversed(decorators):
        command = decorator(command)
    return command
