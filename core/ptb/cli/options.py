"""What the commands share: the options of a run, component names that complete themselves, the registry."""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from ptb.cli.errors import remember_verbose, warn
from ptb.distributed.place import TIMEOUT, place
from ptb.errors import ConfigError
from ptb.kinds import KINDS, RUN_KINDS, Kind

if TYPE_CHECKING:
    from ptb.config.layers import RunConfig
    from ptb.registry.registry import Registry
    from ptb.registry.selection import Selection
    from ptb.storage.run_directory import RunDirectory

_PLUGINS = "ptb.plugins"

_VALUES = {
    "epochs": ("N", "Passes over the training samples (trainer.epochs)."),
    "batch-size": ("N", "Samples in a batch (loader.batch_size)."),
    "lr": ("X", "Learning rate (optimizer.lr)."),
    "workers": ("N", "Processes that read samples (loader.num_workers)."),
    "seed": ("N", "Every random stream is derived from it."),
    "device": ("DEVICE", "auto, cpu, cuda, cuda:N or mps."),
}


def is_override(text: str) -> bool:
    """Whether an argument is KEY=VALUE: it has a ``=`` before any ``/``, so that ``./a=b.csv`` is a file."""
    return "=" in text.partition("/")[0]


class ComponentName(click.ParamType[str]):
    """The name of a component; the shell completes it from what is installed, without importing any of it."""

    name = "name"

    def __init__(self, kind: str | None = None) -> None:
        self.kind = kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names that begin with ``incomplete``; the kind is fixed, or an argument before this one."""
        from ptb.registry.registry import load_registry

        kind = self.kind or ctx.params.get("kind")
        with stray_output_to_stderr():
            entries = load_registry().components(kind) if kind in KINDS else []
        names = {entry.id if entry.conflict else entry.name: entry.summary for entry in entries}
        return [CompletionItem(name, help=text) for name, text in names.items() if name.startswith(incomplete)]


class UserPath(click.Path):
    """A path, in which ``~`` is the home directory whether or not a shell has said so."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, as ``pathlib.Path``."""
        return super().convert(os.path.expanduser(value), param, ctx)


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


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of ``ptb run`` that make a configuration; the command gets it, a ``RunConfig``, as ``config``."""

    @functools.wraps(command)
    def with_config(
        *, files: tuple[Path, ...], overrides: tuple[str, ...], parent_weights: Path | None, **rest: Any
    ) -> Any:
        from ptb.config.layers import FLAGS, RunConfig

        flags = {flag: rest.pop(flag.replace("-", "_")) for flag in FLAGS}
        labelled = {kind.section: rest.pop(kind.flag) for kind in RUN_KINDS.values() if kind.labelled}
        base = () if parent_weights is None else _weights_of(parent_weights)
        if (parent := rest.get("parent")) is not None:  # of --continue, which not every such command has
            base = (_run_of(parent).config, *base)
        return command(config=RunConfig.read((*base, *files), flags, overrides, **labelled), **rest)

    decorators = [_kind_option(kind) for kind in RUN_KINDS.values()]
    decorators += [click.option(f"--{flag}", metavar=metavar, help=text) for flag, (metavar, text) in _VALUES.items()]
    decorators += [
        click.option("--compile", is_flag=True, default=None, help="Compile the model first (trainer.compile)."),
        click.option(
            "-c",
            "--config",
            "files",
            multiple=True,
            type=UserPath(),
            metavar="FILE",
            help="A TOML or .json file of settings; repeatable, later files are stronger.",
        ),
        click.option(
            "--from",
            "parent_weights",
            type=UserPath(),
            metavar="RUN[@C]",
            help="Begin with the settings of this run, weaker than all others, and its weights as far as they fit.",
        ),
        click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]..."),
        plugin_options,
    ]
    return _apply(decorators, with_config)


def _weights_of(named: Path) -> tuple[Path | dict[str, Any], ...]:
    """The layers of ``--from RUN``: its settings, and its weights as initial ones."""
    weights = {"name": "weights-file", "path": str(named.absolute()), "fitting": True}
    return _run_of(named).config, {"initializer": weights}


def _run_of(named: Path) -> "RunDirectory":
    """The run of ``RUN[@C]``."""
    from ptb.storage.run_directory import RunDirectory, split_checkpoint

    return RunDirectory.open(split_checkpoint(str(named))[0])


@contextmanager
def stray_output_to_stderr() -> Iterator[None]:
    """Inside it, what third-party code, C code and child processes print goes to standard error, not into results."""
    stdout, results = sys.stdout, None
    with suppress(OSError, ValueError):  # a stream may be closed, or be no file
        if stdout is not None and stdout.fileno() == 1:
            stdout.flush()
            results = os.dup(1)
            os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if results is not None:
            with suppress(OSError):  # standard error may be closed or full
                stdout.flush()
            _flush_c_output()
            os.dup2(results, 1)
            os.close(results)


def _flush_c_output() -> None:
    """Writes out what C code has printed, which else would come when the process ends."""
    with suppress(ImportError, OSError, AttributeError, TypeError):  # none of it on Windows
        import ctypes

        ctypes.CDLL(None).fflush(None)


def plugin_options(command: Callable[..., Any], hidden: bool = True) -> Callable[..., Any]:
    """``-p``, ``--no-plugins`` and ``--strict-plugins``: remembered for ``installed``.

    They may stand before a command, where the help shows them, and after it.
    """
    shared: dict[str, Any] = {"expose_value": False, "is_eager": True, "callback": _remember_plugins, "hidden": hidden}
    switch = shared | {"is_flag": True}
    decorators = [
        click.option(
            "-p",
            "named",
            multiple=True,
            metavar="FILE.py|no:NAME",
            help="Use this file as a plugin too; do not use this plugin. Repeatable.",
            **shared,
        ),
        click.option("--no-plugins", help="Use the built-in plugin only.", **switch),
        click.option("--strict-plugins", help="Exit with code 7 where a plugin cannot be loaded.", **switch),
    ]
    return _apply(decorators, command)


def _remember_plugins(ctx: click.Context, option: click.Parameter, value: Any) -> None:
    if option.name == "named":
        for text in value:
            if text == "no:" or not (text.startswith("no:") or text.endswith(".py") or os.sep in text):
                message = f"must be a file such as ./mynet.py, or no:NAME, got '{text}'"
                raise click.BadParameter(f"{message}; installed plugins take part without it")
    if value:
        asked = ctx.meta.setdefault(_PLUGINS, {})
        asked[option.name] = (*asked.get(option.name, ()), *(value if option.name == "named" else ()))


def plugin_arguments() -> list[str]:
    """These options as they were given, for another command."""
    asked = click.get_current_context().meta.get(_PLUGINS, {})
    switches = {"no_plugins": "--no-plugins", "strict_plugins": "--strict-plugins"}
    named = [word for text in asked.get("named", ()) for word in ("-p", text)]
    return named + [flag for name, flag in switches.items() if name in asked]


def refuse_plugin_options(why: str) -> None:
    """A usage error where ``-p`` and its like stand before a command that loads no registry."""
    if click.get_current_context().meta.get(_PLUGINS):
        raise click.UsageError(f"-p, --no-plugins and --strict-plugins cannot be used here: {why}")


def asked_selection(ctx: click.Context) -> "Selection":
    """Which plugins the options ask for."""
    from ptb.registry.local import found_locally
    from ptb.registry.selection import PluginRequest, Selection

    asked = ctx.meta.get(_PLUGINS, {})
    named = asked.get("named", ())
    return Selection(
        only=() if "no_plugins" in asked else None,
        disable=tuple(PluginRequest(text[3:], f"-p {text}") for text in named if text.startswith("no:")),
        strict="strict_plugins" in asked,
        local=tuple(found_locally(text) for text in named if not text.startswith("no:")),
    )


def installed(config: "RunConfig | None" = None) -> "Registry":
    """The registry of what is installed and asked for; a warning line for each plugin that cannot be used."""
    from ptb.registry.registry import load_selected

    selection = asked_selection(click.get_current_context())
    if config is not None:
        from ptb.config.resolve import selection as of_config

        selection += of_config(config)
    with stray_output_to_stderr():
        registry = load_selected(selection)
    for plugin in registry.rejected():
        if plugin.status != "disabled":
            name = plugin.found.name
            remedy = f"disable: -p no:{name}; remove: python -m pip uninstall {name}"
            warn(f"plugin '{plugin.found}' {plugin.why} ({remedy})")
    return registry


def processes_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--nproc`` and ``--timeout``: the same command in several processes, which is what goes on then."""
    nproc = click.option(
        "--nproc",
        type=click.IntRange(min=1),
        metavar="N",
        expose_value=False,
        callback=_launch,
        help="In so many processes on this machine; torchrun starts them on several.",
    )
    timeout = click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        metavar="S",
        expose_value=False,
        is_eager=True,
        callback=_remember_timeout,
        help="Longest wait of a process for the others, in seconds [default: 600].",
    )
    return nproc(timeout(command))


def _remember_timeout(ctx: click.Context, _option: click.Parameter, seconds: float | None) -> None:
    if seconds is not None:
        os.environ[TIMEOUT] = str(seconds)


def _launch(ctx: click.Context, _option: click.Parameter, nproc: int | None) -> None:
    """Start the processes and end as they do; one of them has nothing to start."""
    here = place()
    if nproc is None or nproc == here.size:
        return
    if here.size > 1:
        raise ConfigError(f"--nproc {nproc}, and the environment says WORLD_SIZE={here.size}; leave one of both out")
    from ptb.distributed.launcher import launch

    ctx.exit(launch(nproc, sys.argv[1:]))


def _kind_option(kind: Kind) -> Callable[..., Any]:
    """The flag that chooses a component; one of a labelled kind can be given several times."""
    place, repeatable = (kind.section, " Repeatable.") if kind.labelled else (f"{kind.section}.name", "")
    text = f"Which {kind.name} ({place}); see `ptb list {kind.name}`.{repeatable}"
    return click.option(f"--{kind.flag}", multiple=kind.labelled, type=ComponentName(kind.name), help=text)


def _apply(decorators: list[Callable[..., Any]], command: Callable[..., Any]) -> Callable[..., Any]:
    for decorator in reversed(decorators):
        command = decorator(command)
    return command
