"""``ptb replay``: a step that could not be taken, once more."""

import json
from pathlib import Path

import click

from ptb.cli.options import installed, json_option, plugin_options, stray_output_to_stderr, verbose_option
from ptb.cli.text import printable
from ptb.errors import ConfigError


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@plugin_options
@verbose_option
@json_option
@click.pass_context
def replay(context: click.Context, file: Path, verbose: bool, as_json: bool) -> None:
    """Try a step again that could not be taken, and tell where its numbers are lost.

    FILE is the replay-STEP-HASH.safetensors that a run wrote when its loss or its gradients were not finite: it holds
    the configuration, the state before the step, and the samples of the step. Nothing is trained or written. The exit
    code is 4 where the fault is found again, and 0 where it is not.

    \b
    ptb replay runs/mine/replay-1200-*.safetensors
    """  # noqa: D301  # click wants the backspace itself
    if not file.is_file():  # told before torch is imported
        raise ConfigError(f"there is no file {file}; a run writes replay-STEP-HASH.safetensors into its directory")
    from ptb.config.resolve import resolve
    from ptb.runs.replay import load_replay, replay_config
    from ptb.storage.run_directory import finite

    saved = load_replay(file)
    config = replay_config(saved)
    registry = installed(config)
    with stray_output_to_stderr():
        resolve(config, registry)
    from ptb.runs.compose import compose
    from ptb.runs.replay import replay as tried_again

    with stray_output_to_stderr():
        found = tried_again(saved, compose(config, registry))
    told = found.told(saved.step)
    if as_json:
        facts = {"schema": 1, "status": "found" if found.again else "not found", "step": saved.step, "message": told}
        click.echo(json.dumps(finite(facts | vars(found))))
    elif found.again:
        click.echo(printable(told))
    else:
        click.echo(printable(f"not found again: step {saved.step} is finite here; in the run {saved.facts['finding']}"))
    context.exit(4 if found.again else 0)
