"""``ptb plot``."""

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptb import ConfigError, PluginError, PtbError, RunConfig, RunRecord, json_option, verbose_option
from ptb.internals import (
    ComponentConfig,
    ComponentName,
    UserPath,
    count,
    installed,
    is_override,
    one_line,
    plugin_options,
    stray_output_to_stderr,
    validate,
)

if TYPE_CHECKING:
    from ptb.internals import RegisteredComponent

FOLDER = "plots"


@click.command()
@click.argument("name", metavar="NAME", type=ComponentName("plot"))
@click.argument("arguments", nargs=-1, required=True, metavar="RUN... [KEY=VALUE]...")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=UserPath(),
    help="A .png, .svg or .pdf file, a .html file of a chart; RUN/plots/NAME.png or .html when left out.",
)
@plugin_options
@json_option
@verbose_option
def plot(name: str, arguments: tuple[str, ...], output: Path | None, as_json: bool, verbose: bool) -> None:
    """Draw what runs have recorded.

    `ptb list plot` has the names, `ptb show plot NAME` the settings, which are written as KEY=VALUE. What is predicted
    for each sample is recorded where a plot needs it: the best checkpoint of the run is evaluated, which needs its
    data.

    \b
    ptb plot curves runs/mine
    ptb plot curves runs/a runs/b -o both.svg
    ptb plot confusion runs/mine split=val
    """  # noqa: D301  # click wants the backspace itself
    from ptb_draw.formats import check_file, write

    paths = [Path(text).expanduser() for text in arguments if not is_override(text)]
    if not paths:
        raise ConfigError(f"name a run too: ptb plot {name} RUN; `ptb runs` lists them")
    check_file(output)
    registry = installed()
    entry = registry.get("plot", name)
    records = [RunRecord(path) for path in paths]
    chosen = ComponentConfig(entry, _settings(entry, [text for text in arguments if is_override(text)]))
    entry.check_dependencies()
    with stray_output_to_stderr():
        from ptb_draw.fitting import make_fit

        make_fit(entry, chosen.settings, records, registry)
        drawn = _drawn(chosen, records)
        file = write(drawn, output, records[0].path / FOLDER / entry.name, str(chosen.entry))
    if as_json:
        facts = {"plot": entry.id, "runs": [str(path) for path in paths], "file": str(file)}
        click.echo(json.dumps({"schema": 1, **facts, "bytes": file.stat().st_size}))
        return
    click.echo(f"drew {count(len(records), 'run')} into {file}")


def _settings(entry: "RegisteredComponent", overrides: list[str]) -> Any:
    """The settings of the plot, checked as those of a run are."""
    values = RunConfig.read(overrides=overrides).values if overrides else {}
    try:
        return validate(entry.settings_model(), values)
    except ConfigError as error:
        hint = f"; `ptb show plot {entry.name}` has its settings"
        raise ConfigError(f"plot '{entry.name}': {error}{hint}") from None


def _drawn(chosen: ComponentConfig, records: list[RunRecord]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")  # the file gets fonts that have them
            return chosen.build(records)
    except PtbError:
        raise
    except (Exception, SystemExit) as error:  # a third-party plot may raise anything
        raise PluginError(f"{chosen.entry} raised {one_line(error)}") from error
