"""``ptb sync``: sends what the trackers of a run do not have yet."""

import json
from pathlib import Path
from typing import Any

import click

from ptb import ConfigError, RunConfig, RunRecord, StorageError, json_option, verbose_option
from ptb.internals import RunDirectory, UserPath, columns, count, installed, listing, plugin_options, resolve_some
from ptb_trackers.process import SenderProcess, replaced
from ptb_trackers.rows import unsent
from ptb_trackers.settings import TRACKERS
from ptb_trackers.state import State, file_of, only_sender

HEADS = ("TRACKER", "SENT", "WHERE", "RUN THERE")


@click.command()
@click.argument("path", metavar="RUN", type=UserPath())
@click.argument("words", nargs=-1, metavar="[LABEL | KEY=VALUE]...")
@click.option(
    "--timeout", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Seconds after which it gives up."
)
@plugin_options
@json_option
@verbose_option
def sync(path: Path, words: tuple[str, ...], timeout: float, as_json: bool, verbose: bool) -> None:
    """Send what the trackers of a run do not have yet: rows, settings, summary. No row is sent twice.

    LABEL is that of a callback of the run, all its trackers when left out; or the name of a tracker that the run does
    not have. KEY=VALUE sets callbacks.LABEL.KEY.

    \b
    ptb sync runs/mine
    ptb sync runs/mine mlflow callbacks.mlflow.uri=http://localhost:5000
    """  # noqa: D301  # click wants the backspace itself
    run = RunDirectory.open(path)
    chosen = _chosen(run, [word for word in words if "=" not in word], [word for word in words if "=" in word])
    metrics = run.path / "metrics.jsonl"
    before = {label: unsent(metrics, State.read(run.path, label).position)[0] for label in chosen}
    for label in chosen:
        with only_sender(run.path, label, 0):  # else the process below would wait for the other one
            pass
    senders = [SenderProcess(run.path, label, *named, timeout) for label, named in chosen.items()]
    for sender in senders:
        sender.end()
    facts: list[dict[str, Any]] = []
    for sender in senders:
        problem = sender.wait()
        state = State.read(run.path, sender.label)
        left = unsent(metrics, state.position)[0]
        facts.append(
            {
                "label": sender.label,
                "tracker": sender.tracker,
                "destination": state.destination,
                "id": state.id,
                "sent": max(0, before[sender.label] - left),
                "left": left,
                "problem": problem or None,
                "replaced": replaced(run.path, sender.label) or None,
            }
        )
    problems = [f"{each['label']}: {each['problem']}" for each in facts if each["problem"]]
    if as_json and not problems:
        click.echo(json.dumps({"schema": 1, "trackers": facts}))
    elif not as_json:
        rows = [
            (each["label"], _said(each), each["destination"].replace("RUN/", f"{run.path}/", 1), each["id"])
            for each in facts
            if not each["problem"]
        ]
        if rows:
            click.echo(columns([HEADS, *rows]))
        for each in facts:
            if each["replaced"]:
                click.echo(f"warning: {each['label']}: {each['replaced']}", err=True)
    if problems:
        raise StorageError("; ".join(problems))


def _said(facts: dict[str, Any]) -> str:
    return f"sent {count(facts['sent'], 'row')}" if facts["sent"] else "has all rows"


def _chosen(run: RunDirectory, labels: list[str], overrides: list[str]) -> dict[str, tuple[str, dict[str, Any]]]:
    """The name and the settings of each tracker that is to get the run, by its label."""
    tables = RunRecord(run.path).config.get("callbacks", {})
    known = {label: table.get("name", label) for label, table in tables.items()}
    trackers = [label for label, name in known.items() if name.rpartition(":")[2] in TRACKERS]
    added = {name: State.read(run.path, name) for name in TRACKERS if file_of(run.path, name, ".json").exists()}
    wanted = labels or [*dict.fromkeys([*trackers, *added])]
    if not wanted:
        raise ConfigError(
            f"{run.path} has no tracker; name one to send it to: `ptb sync {run.path} tensorboard`, mlflow or wandb"
        )
    if strange := [label for label in wanted if label not in trackers and label not in TRACKERS]:
        raise ConfigError(
            f"{listing(strange)} is no tracker of {run.path}; "
            f"there are {listing([*dict.fromkeys([*trackers, *TRACKERS])])}"
        )
    if others := [text for text in overrides if not text.startswith(tuple(f"callbacks.{each}." for each in wanted))]:
        raise ConfigError(f"{listing(others)} cannot be set here; only callbacks.LABEL.KEY of {listing(wanted)}")
    recorded = {
        "callbacks": {label: tables[label] for label in wanted if label in tables}
        | {name: added[name].settings for name in wanted if name not in tables and name in added}
    }
    new = [name for name in wanted if name not in recorded["callbacks"]]
    config = RunConfig.read([recorded], overrides=overrides, callbacks=new)
    components = resolve_some(config, installed(config), ["callbacks"])["callbacks"]
    for component in components.values():
        component.entry.check_dependencies()
    return {label: (each.entry.name, each.settings.model_dump()) for label, each in components.items()}
